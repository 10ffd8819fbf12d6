"""Cluster configs: known keys only, consistent with each other, with this Ray, and kept private."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from cluster.night.settings import NightlySettings
from market.storage import is_url

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "cluster"


class Known(BaseModel):
    """Fields of the ray.io/v1 resources that these files may use; others are misspelt."""

    model_config = ConfigDict(extra="forbid")


class Group(Known):
    ray_start: dict[str, str] = Field(alias="rayStartParams")
    template: dict[str, Any]
    service_type: Literal["ClusterIP"] | None = Field(None, alias="serviceType")
    name: str | None = Field(None, alias="groupName")
    replicas: int | None = None
    least: int | None = Field(None, alias="minReplicas")
    most: int | None = Field(None, alias="maxReplicas")

    @property
    def container(self) -> dict[str, Any]:
        (found,) = self.template["spec"]["containers"]
        return dict(found)


class AuthOptions(Known):
    mode: Literal["token"]


class AutoscalerOptions(Known):
    upscaling: Literal["Default", "Aggressive", "Conservative"] = Field(alias="upscalingMode")
    idle_timeout: int = Field(alias="idleTimeoutSeconds")


class ClusterSpec(Known):
    ray_version: str = Field(alias="rayVersion")
    autoscaling: bool = Field(alias="enableInTreeAutoscaling")
    autoscaler: AutoscalerOptions = Field(alias="autoscalerOptions")
    auth: AuthOptions = Field(alias="authOptions")
    head: Group = Field(alias="headGroupSpec")
    workers: list[Group] = Field(alias="workerGroupSpecs")


class JobSpec(Known):
    entrypoint: str
    submission: Literal["K8sJobMode", "HTTPMode", "SidecarMode"] = Field(alias="submissionMode")
    backoff: int = Field(alias="backoffLimit")
    deadline: int = Field(alias="activeDeadlineSeconds")
    shutdown: bool = Field(alias="shutdownAfterJobFinishes")
    ttl: int = Field(alias="ttlSecondsAfterFinished")
    cluster: ClusterSpec = Field(alias="rayClusterSpec")


class RayJob(Known):
    api: Literal["ray.io/v1"] = Field(alias="apiVersion")
    kind: Literal["RayJob"]
    metadata: dict[str, str]
    spec: JobSpec


@pytest.fixture
def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CONFIGS / "rayjob.yaml").read_text()))


@pytest.fixture
def night(manifests: list[dict[str, Any]], tmp_path: Path) -> NightlySettings:
    return NightlySettings.model_validate(yaml.safe_load(manifests[0]["data"]["nightly.yaml"]))


def test_the_ray_job_holds_known_fields_and_fits_this_ray(
    manifests: list[dict[str, Any]], night: NightlySettings
) -> None:
    job = RayJob.model_validate(manifests[1])
    cluster = job.spec.cluster
    assert cluster.ray_version == version("ray")
    assert cluster.autoscaling
    (gpu,) = cluster.workers
    assert gpu.most is not None
    assert cluster.head.container["image"] == gpu.container["image"]
    for group in (cluster.head, gpu):
        limits = group.container["resources"]["limits"]
        assert limits == group.container["resources"]["requests"]
        assert all(m["readOnly"] for m in group.container["volumeMounts"]), "no shared disk"
        assert {v["name"] for v in group.template["spec"]["volumes"]} == {
            m["name"] for m in group.container["volumeMounts"]
        }
        assert limits["cpu"] == group.ray_start.get("num-cpus", limits["cpu"])
    assert gpu.container["resources"]["limits"]["nvidia.com/gpu"] == gpu.ray_start["num-gpus"]

    assert re.fullmatch(r"candlecast nightly --config /etc/candlecast/nightly\.yaml --json",
                        job.spec.entrypoint)  # fmt: skip
    assert night.forecast.address == "auto"
    most = int(str(night.forecast.replicas).split(":")[1])
    assert most * night.forecast.gpus_per_replica == gpu.most


def test_the_night_in_the_ray_job_is_a_valid_one(night: NightlySettings) -> None:
    from datetime import UTC, date, datetime

    from market.spec import AsOf

    as_of = AsOf(date(2016, 6, 30), datetime(2016, 6, 30, 20, tzinfo=UTC))
    settings = night.forecast_settings(as_of, "version")
    assert settings.replicas == "1:16"
    assert settings.out == "s3://my-bucket/forecasts"
    places = (night.drop, night.store, night.out, night.reports)
    assert all(is_url(str(place)) for place in places), "object storage and nothing else"


def test_the_cron_job_runs_the_same_job(manifests: list[dict[str, Any]]) -> None:
    cron = yaml.safe_load((CONFIGS / "raycronjob.yaml").read_text())
    assert set(cron) == {"apiVersion", "kind", "metadata", "spec"}
    assert (cron["apiVersion"], cron["kind"]) == ("ray.io/v1", "RayCronJob")
    assert set(cron["spec"]) == {"schedule", "jobTemplate"}
    assert len(cron["spec"]["schedule"].split()) == 5
    assert cron["spec"]["jobTemplate"] == manifests[1]["spec"]


def test_the_image_holds_every_package_and_the_pinned_torch() -> None:
    root = CONFIGS.parents[1]
    told = (root / "Dockerfile").read_text()
    project = tomllib.loads((root / "pyproject.toml").read_text())
    for package in project["tool"]["setuptools"]["packages"]["find"]["include"]:
        name = package.removesuffix("*")
        assert re.search(rf"^COPY {name} {name}$", told, re.MULTILINE), name
    assert re.search(r"^torch==[0-9.]+$", (root / "constraints.txt").read_text(), re.MULTILINE)
    assert {"s3", "gcs"} <= set(project["project"]["optional-dependencies"])
    assert "\nUSER candlecast\n" in told


def test_the_launcher_config_obeys_rays_own_schema() -> None:
    config = yaml.safe_load((CONFIGS / "launcher.yaml").read_text())
    schema = json.loads(files("ray.autoscaler").joinpath("ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    assert config["provider"]["use_internal_ips"]
    (start,) = [c for c in config["head_start_ray_commands"] if "--head" in c]
    assert "--dashboard-host=127.0.0.1" in start
    for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        assert "ray start" not in command or "RAY_AUTH_MODE=token" in command
