"""A small market with awkward symbols, one local Ray for all tests, and the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from cluster.cli import main
from cluster.session import ray_session
from cluster.settings import ForecastSettings
from market.importing.files import import_frame
from market.lake.history import MarketHistory
from market.spec import Label, StoreSpec
from market.synthetic import SimulatorParams, simulate_market
from tests.object_store import environment

LOOKBACK = 48
SPEC = StoreSpec(venue="XNYS", freq="1d", tz="America/New_York", label=Label.SESSION)


class Outcome(NamedTuple):
    """What a user sees of a command."""

    code: int
    out: str
    err: str


def awkward_bars() -> pl.DataFrame:
    """Eight healthy symbols, and one each that is young, halted, constant, or full of holes."""
    bars = simulate_market(SimulatorParams(seed=11, n_symbols=14, n_sessions=160))
    whole = [s for (s,), part in bars.group_by("symbol") if part.height == 160]
    healthy, (young, halted, flat, holes) = sorted(whole)[:8], sorted(whole)[8:12]
    days = bars["timestamp"].unique().sort()
    renamed = {young: "YOUNG", halted: "HALT.ED", flat: "FLAT/USD", holes: "HOLES"}
    odd = bars.filter(pl.col("symbol").is_in(list(renamed))).with_columns(
        pl.col("symbol").replace(renamed)
    )
    position = pl.col("timestamp").rank("dense")
    odd = odd.filter(
        ((pl.col("symbol") == "YOUNG") & (pl.col("timestamp") >= days[100]))
        | ((pl.col("symbol") == "HALT.ED") & (pl.col("timestamp") < days[95]))
        | (pl.col("symbol") == "FLAT/USD")
        | ((pl.col("symbol") == "HOLES") & ~position.is_between(101, 110))
    ).with_columns(
        pl.when(pl.col("symbol") == "FLAT/USD").then(5.0).otherwise(pl.col(c)).alias(c)
        for c in ("open", "high", "low", "close")
    )
    return pl.concat([bars.filter(pl.col("symbol").is_in(healthy)), odd])


def make_store(folder: Path, bars: pl.DataFrame) -> MarketHistory:
    import_frame(bars, folder, SPEC)
    return MarketHistory.open(folder)


@pytest.fixture(scope="session")
def bars() -> pl.DataFrame:
    return awkward_bars()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, bars: pl.DataFrame) -> Path:
    folder = tmp_path_factory.mktemp("market") / "store"
    make_store(folder, bars)
    return folder


@pytest.fixture(scope="session")
def dates(store: Path) -> list[str]:
    """Three dates on which the awkward symbols are as their names say."""
    sessions = MarketHistory.open(store).sessions()
    return [str(sessions[i]) for i in (110, 115, 120)]


@pytest.fixture(scope="session")
def model(golden_dir: Path) -> str:
    """A folder with a tiny tokenizer and predictor of the real architecture."""
    return str(golden_dir / "kronos" / "simulated")


@pytest.fixture(scope="package")
def local_ray() -> Iterator[None]:
    """One for all tests of this folder: idle, it would take time from the others. Its workers know
    where the tests' S3 server is, or will be."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment().items():
                patch.setenv(name, value)
            stack.enter_context(ray_session(2, 2))
        yield


@pytest.fixture
def settings(store: Path, dates: list[str], tmp_path: Path) -> ForecastSettings:
    """A small forecast of every symbol at three dates, by a model that samples and loads at once:
    the bootstrap. Tests that are about a network ask for `network_settings`."""
    return ForecastSettings(
        store=store,
        out=tmp_path / "table",
        as_of=f"{dates[0]}:{dates[-1]}:5",
        model="bootstrap",
        lookback=LOOKBACK,
        horizon=5,
        paths=4,
        replicas=1,
    )


@pytest.fixture
def network_settings(settings: ForecastSettings, model: str) -> ForecastSettings:
    """The same forecast by a network, whose weights every replica gets."""
    return settings.model_copy(update={"model": model})


@pytest.fixture
def candlecast(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Run the command line in this process, so that it finds the tests' Ray."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["candlecast", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        code = exit_.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


def finite(frame: pl.DataFrame) -> bool:
    return all(np.isfinite(frame[c].drop_nulls().to_numpy()).all() for c in frame.columns)
