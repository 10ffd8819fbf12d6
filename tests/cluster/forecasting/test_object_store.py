"""A forecast table in an object store: the same rows as on a disk, through a real S3 protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from cluster.forecasting.job import run_forecast
from cluster.settings import ForecastSettings
from market.errors import StoreError
from market.leases import LeaseHeldError, hold, live_leases
from market.storage import Folder
from market.table.forecasts import ForecastTable
from market.table.vacuum import vacuum
from tests.cluster.conftest import Outcome


@pytest.mark.filterwarnings("ignore")  # s3fs's own event loop and deprecations
def test_a_table_in_s3_holds_the_rows_a_folder_does(
    bucket: str, settings: ForecastSettings, dates: list[str], tmp_path: Path, local_ray: None,
    candlecast: Callable[..., Outcome],
) -> None:  # fmt: skip
    flags = {
        "--store": settings.store, "--as-of": dates[0], "--model": "random-walk",
        "--lookback": settings.lookback, "--horizon": settings.horizon, "--paths": settings.paths,
        "--replicas": 1, "--out": f"{bucket}/table",
    }  # fmt: skip
    for said in ("8 (symbol and date)", "already done"):
        done = candlecast("forecast", *(word for pair in flags.items() for word in pair))
        assert done.code == 0, done.err
        assert said in done.out

    remote = ForecastTable(f"{bucket}/table")
    local = settings.model_copy(
        update={"as_of": dates[0], "model": "random-walk", "out": tmp_path / "local"}
    )
    run_forecast(local)
    on_disk = ForecastTable(tmp_path / "local")
    assert remote.scan().collect().equals(on_disk.scan().collect(), null_equal=True)
    assert remote.path_stats().collect().equals(on_disk.path_stats().collect(), null_equal=True)
    (there,), (here,) = remote.published(), on_disk.published()
    assert there == here
    assert remote.runs()[0].dates == on_disk.runs()[0].dates
    assert remote.plan(here.run_id) is not None
    assert not remote.folder.exists("staging")

    remote.folder.write("steps/model_id=x/as_of_date=2016-01-01/stray.parquet", b"x")
    assert vacuum(remote).orphans == (), "young strays stay"
    assert isinstance(remote.at(version=1).scan().collect(), pl.DataFrame)
    with pytest.raises(StoreError, match="is not a local folder"):
        _ = remote.root


@pytest.mark.filterwarnings("ignore")
def test_a_lease_in_s3_has_one_holder(bucket: str) -> None:
    leases = Folder(f"{bucket}/leases")
    with hold(leases, "night") as lease:
        lease.require()
        assert set(live_leases(leases)) == {"night"}
        with pytest.raises(LeaseHeldError):
            hold(leases, "night").__enter__()
    assert live_leases(leases) == {}


@pytest.mark.filterwarnings("ignore")
def test_a_bucket_that_is_not_there_is_one_clear_error(bucket: str) -> None:
    with pytest.raises(StoreError, match=r"s3://nowhere.*the object store refused .*credentials"):
        Folder("s3://nowhere/table").write("x", b"y")
    with pytest.raises(StoreError, match=r"known are s3://, gs:// and plain paths"):
        Folder("carrier-pigeon://table").write("x", b"y")
