"""A store, a table of two models on several nights, reports, and a console over them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl

import candlecast as cc
from cluster.console.access import Access
from cluster.console.app import guarded, make_app
from cluster.console.guard import App
from cluster.console.ondemand import Forecasts
from cluster.console.server import hosts_of
from cluster.console.settings import ServeSettings
from cluster.console.state import Console
from market.importing.files import import_frame
from market.lake.history import MarketHistory
from market.spec import Label, StoreSpec
from market.synthetic import SimulatorParams, simulate_market
from market.table.forecasts import ForecastTable
from market.table.schema import (
    PATH_STATS_SCHEMA,
    STEPS_SCHEMA,
    DateRecord,
    Published,
    RunRecord,
    SymbolNote,
)

SPEC = StoreSpec(venue="XNYS", freq="1d", tz="America/New_York", label=Label.SESSION)
HOSTILE = ('<script>alert("x")</script>', "../../etc/passwd", "A'; drop table night;--", "{{7*7}}")
"""Names that are text, whatever they look like."""
LOOKBACK, HORIZON, PATHS = 48, 5, 8
TOKEN = "0123456789abcdef0123456789abcdef"
HOST = "127.0.0.1:8600"


def made_store(folder: Path) -> pl.DataFrame:
    """Twelve symbols, four of them with hostile names; returns the bars."""
    bars = simulate_market(SimulatorParams(seed=12, n_symbols=12, n_sessions=120, late_listings=0))
    names = sorted(bars["symbol"].unique())[-len(HOSTILE) :]
    renamed = bars.with_columns(pl.col("symbol").replace(dict(zip(names, HOSTILE, strict=True))))
    import_frame(renamed, folder, SPEC)
    return renamed


def publish(
    table: ForecastTable,
    frames: tuple[pl.DataFrame, pl.DataFrame],
    model: str,
    skipped: Sequence[SymbolNote] = (),
    asked: dict[str, int] | None = None,
) -> RunRecord:
    """Commit a night's rows as a run would, and move the pointer."""
    steps, stats = frames
    first = steps.row(0, named=True)
    run_id, model_id, day = first["run_id"], first["model_id"], first["as_of_date"]
    done = table.commit(run_id, model_id, day, {"steps": steps, "path_stats": stats})
    symbols = steps["symbol"].n_unique()
    record = RunRecord(
        run_id=run_id,
        model_id=model_id,
        model=model,
        status="finished",
        started_at=datetime(2026, 1, 2, 3, tzinfo=UTC),
        finished_at=datetime(2026, 1, 2, 4, tzinfo=UTC),
        identity={"model_id": model_id, "as_of": [str(day)], "seed": 0, "trained_through": None},
        settings={"horizon": HORIZON, "paths": PATHS, "lookback": LOOKBACK} | (asked or {}),
        history={"root": "store", "version": "v", "venue": "XNYS", "freq": "1d"},
        dates=(
            DateRecord(
                as_of=first["as_of"], as_of_date=day, eligible=symbols, forecast=symbols,
                in_sample=False, versions=done.versions,
            ),
        ),
        skipped=tuple(skipped),
    )  # fmt: skip
    table.write_run(record)
    table.publish(
        Published(
            model_id=model_id, model=model, venue="XNYS", freq="1d", run_id=run_id,
            as_of=first["as_of"], as_of_date=day, forecasts=symbols, versions=done.versions,
        )
    )  # fmt: skip
    return record


def made_table(folder: Path, store: Path, bars: pl.DataFrame) -> ForecastTable:
    """Two baselines on three nights each, the last of them the store's newest session but five."""
    table = ForecastTable(folder)
    sessions = MarketHistory.open(store).sessions()
    for model in ("random-walk", "bootstrap"):
        for at in (-15, -10, -HORIZON - 1):
            day = sessions[at]
            made = cc.forecast(
                bars, HORIZON, model=model, paths=PATHS, lookback=LOOKBACK, venue="XNYS",
                as_of=day, seed=3,
            )  # fmt: skip
            note = SymbolNote(
                as_of=made.steps.select("as_of").first().collect().item(),
                reason="too short: <b>3 bars</b>", symbols=("<i>YOUNG</i>", "OTHER"),
            )  # fmt: skip
            publish(table, (made.steps.collect(), made.path_stats.collect()), model, [note])
    return table


def many_rows(
    n: int, day: date, *, run_id: str = "aaaaaaaaaaaaaaaa", model_id: str = "m" * 16,
    horizon: int = 2, level: float = 100.0,
) -> tuple[pl.DataFrame, pl.DataFrame]:  # fmt: skip
    """Rows of n symbols S00000 …, cheaply: every number follows from the symbol's place."""
    place = np.arange(n)
    as_of = datetime(day.year, day.month, day.day, 21, tzinfo=UTC)
    keys = pl.DataFrame({"symbol": [f"S{i:05d}" for i in place], "k": place}).with_columns(
        pl.lit(run_id).alias("run_id"), pl.lit(model_id).alias("model_id"),
        pl.lit(day).alias("as_of_date"), pl.lit(as_of).alias("as_of"),
        pl.lit("1d").alias("freq"), pl.lit("XNYS").alias("venue"),
        pl.lit(64).alias("n_paths"), pl.lit(level).alias("last_close"),
        pl.lit(as_of).alias("data_through"), pl.lit("as given").alias("price_basis"),
        pl.lit(0).alias("flags"), pl.lit("as sampled").alias("published"),
    )  # fmt: skip
    steps = keys.join(pl.DataFrame({"step": np.arange(1, horizon + 1)}), how="cross").with_columns(
        (pl.lit(datetime(day.year, day.month, day.day)) + pl.duration(days=pl.col("step"))).alias(
            "timestamp"
        ),
        (((pl.col("k") * 7919) % n) / n).alias("p_up"),
        *(
            (level * (1 + spread * pl.col("step") + ((pl.col("k") * 104729) % n) / n / 10)).alias(
                f"close_{name}"
            )
            for name, spread in (
                ("mean", 0.001), ("q05", -0.05), ("q10", -0.04), ("q25", -0.02), ("q50", 0.0),
                ("q75", 0.02), ("q90", 0.04), ("q95", 0.05),
            )
        ),
        pl.lit(level * 0.03).alias("close_std"),
    )  # fmt: skip
    stats = keys.with_columns(
        pl.lit(horizon).alias("horizon"), pl.lit(0).alias("floored"),
        (0.01 + pl.col("k") / n / 50).alias("path_volatility"),
        pl.lit(0.05).alias("expected_drawdown"),
    )  # fmt: skip
    return _whole(steps, STEPS_SCHEMA), _whole(stats, PATH_STATS_SCHEMA)


def _whole(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    missing = [pl.lit(None, dtype=t).alias(n) for n, t in schema.items() if n not in frame.columns]
    return frame.with_columns(missing).select(schema.names()).cast(schema)


def console_at(
    settings: ServeSettings, ondemand: Forecasts | None = None, **more: object
) -> tuple[Console, App]:
    """A console and its application, behind the guard, at a fixed name and token."""
    access = Access(settings.token_hours, settings.session_hours, TOKEN, **more)  # type: ignore[arg-type]
    console = Console.open(settings, ondemand)
    return console, guarded(make_app(console, access), access, settings, hosts_of(settings, 8600))
