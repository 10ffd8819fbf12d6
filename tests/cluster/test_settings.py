"""Settings files and the flags that win over them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.forecasting.activity import Activity
from cluster.session import replica_bounds
from cluster.settings import ForecastSettings, load_settings
from market.errors import ConfigError

REQUIRED = {"store": "s", "out": "o", "as_of": "2016-01-08"}
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "forecast.yaml"


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(yaml.safe_dump(REQUIRED | {"lookback": 100, "horizon": 7}))
    settings = load_settings(file, ForecastSettings, {"horizon": 9, "paths": None})
    assert (settings.lookback, settings.horizon, settings.paths) == (100, 9, 64)
    assert settings.store == Path("s")


def test_the_config_in_the_box_holds_every_key_with_its_default() -> None:
    given = yaml.safe_load(CONFIG.read_text())
    settings = load_settings(CONFIG, ForecastSettings, REQUIRED)
    assert settings == ForecastSettings.model_validate(REQUIRED)
    commented = {"tokenizer", "address", "store_version", "source", "query", "memory_mb"}
    assert set(given) == set(ForecastSettings.model_fields) - set(REQUIRED) - commented


def test_replicas_may_be_a_number_written_as_text() -> None:
    assert load_settings(None, ForecastSettings, REQUIRED | {"replicas": "3"}).replicas == 3


@pytest.mark.parametrize("text", ["0", "4:2", "1:", ":3", "1:2:3", "many", "-1", "1.5"])
def test_replicas_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--replicas: must be auto, a whole number >= 1, or min"):
        load_settings(None, ForecastSettings, REQUIRED | {"replicas": text})


def test_replicas_may_be_bounds() -> None:
    settings = load_settings(None, ForecastSettings, REQUIRED | {"replicas": "2:8"})
    assert replica_bounds(settings.replicas) == (2, 8)
    assert replica_bounds(3) == (3, 3)
    assert replica_bounds("auto") is None


def test_a_query_needs_its_source() -> None:
    with pytest.raises(ConfigError, match="--source and --query belong together"):
        load_settings(None, ForecastSettings, REQUIRED | {"query": "select 1"})


def test_urls_stay_urls_and_folders_become_paths() -> None:
    for given, expected in (("s3://bucket/x", "s3://bucket/x"), ("a/b", Path("a/b"))):
        settings = load_settings(None, ForecastSettings, REQUIRED | {"out": given})
        assert settings.out == expected
        assert ForecastSettings.model_validate_json(settings.model_dump_json()) == settings


def test_utilisation_counts_what_replicas_did_between_first_ready_and_last_tile() -> None:
    activity = Activity(
        ready={"a": 0.0, "b": 2.0}, busy={"a": [(0.0, 4.0), (4.0, 10.0)], "b": [(2.0, 8.0)]}
    )
    assert activity.span == (0.0, 10.0)
    assert activity.utilisation(2) == pytest.approx(0.8)
    assert activity.all_busy(2) == pytest.approx(0.6)
    assert Activity().utilisation(2) == 0.0
