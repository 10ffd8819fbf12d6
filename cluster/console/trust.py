"""How forecasts of a model did, night by night, beside a random walk. Knows tables and outcomes.

Of a large night some symbols are drawn, by name and date, so that looking is quick and the same
every time.
"""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
import polars as pl

from cluster.evaluation.job import windows_of
from cluster.evaluation.sources import beside
from cluster.outcomes import outcomes
from forecaster.evaluation.cases import points_of_quantiles
from forecaster.scores import window_crps
from forecaster.summary import QUANTILES
from market.lake.history import MarketHistory
from market.lake.universe import draw
from market.spec import AsOf
from market.table.forecasts import ForecastTable
from market.table.schema import QUANTILE_NAMES

NIGHTS = 40
SYMBOLS = 40
LOOKBACK = 60
"""Bars the random walk's volatility is taken from."""
RATIO_SCHEMA = pl.Schema(
    {"as_of_date": pl.Date(), "step": pl.Int32(), "ratio": pl.Float64(), "windows": pl.UInt32(),
     "coverage": pl.Float64()}
)  # fmt: skip
"""ratio: mean CRPS over the random walk's, both seen through their quantiles; coverage: share of
closes inside the 80% interval."""


def by_night(
    table: ForecastTable, history: MarketHistory, model_id: str, dates: list[date]
) -> pl.DataFrame:
    """Nights of one model with an outcome, in RATIO_SCHEMA: the first step and the last.

    dates: as_of dates the table shows of it, the newest first; only the newest are looked at.
    """
    some = dates[: 2 * NIGHTS]
    rows = (
        table.scan(model_id)
        .filter(pl.col("as_of_date").is_in(some))
        .select("as_of", "as_of_date", "symbol", "step", "n_paths", "last_close",
                *(f"close_{q}" for q in QUANTILE_NAMES))
        .collect()
    )  # fmt: skip
    if not rows.height:
        return pl.DataFrame(schema=RATIO_SCHEMA)
    horizon = int(rows["step"].max())  # type: ignore[arg-type]
    rows = _drawn(rows, horizon)
    keys = rows.filter(pl.col("step") == 1).select("as_of", "as_of_date", "symbol", "last_close")
    if not keys.height:
        return pl.DataFrame(schema=RATIO_SCHEMA)
    as_of_N = keys["as_of"].dt.replace_time_zone(None).to_numpy()
    made = outcomes(history, keys["symbol"].to_list(), as_of_N, horizon)
    windows, whole = windows_of(history, keys, LOOKBACK, horizon)
    last_N = keys["last_close"].to_numpy()
    with np.errstate(invalid="ignore"):
        same = np.abs(made.base_N / last_N - 1) < 1e-6
    keep = whole & same & np.isfinite(made.log_return_NH).any(axis=1)
    if not keep.any():
        return pl.DataFrame(schema=RATIO_SCHEMA)
    shape = (keys.height, horizon)
    quantiles = np.stack(
        [rows[f"close_{q}"].cast(pl.Float64).to_numpy().reshape(shape) for q in QUANTILE_NAMES],
        axis=-1,
    )[keep]
    log_q = np.log(np.maximum(quantiles / last_N[keep, None, None], 1e-4))
    n_paths = int(rows["n_paths"].min())  # type: ignore[arg-type]
    actual = made.log_return_NH[keep]
    chosen = windows.rows(np.flatnonzero(keep))
    (walk,) = beside(["random-walk"], chosen, max(n_paths, 16), exact=False)
    own = window_crps(points_of_quantiles(log_q, QUANTILES), actual, fair=False)
    base = window_crps(walk.members_NSH, actual, fair=False)
    low, high = (log_q[..., QUANTILE_NAMES.index(q)] for q in ("q10", "q90"))
    inside = np.where(np.isfinite(actual), (low <= actual) & (actual <= high), np.nan)
    parts = [
        pl.DataFrame(
            {"as_of_date": keys["as_of_date"].filter(pl.Series(keep)), "own": own[:, h],
             "base": base[:, h], "inside": inside[:, h]}
        ).with_columns(pl.lit(h + 1, dtype=pl.Int32).alias("step"))
        for h in sorted({0, horizon - 1})
    ]  # fmt: skip
    scored = pl.concat(parts).filter(pl.col("own").is_finite() & pl.col("base").is_finite())
    return (
        scored.group_by("as_of_date", "step")
        .agg(
            (pl.col("own").sum() / pl.col("base").sum()).alias("ratio"),
            pl.len().cast(pl.UInt32).alias("windows"),
            pl.col("inside").mean().alias("coverage"),
        )
        .sort("as_of_date", "step")
        .select(RATIO_SCHEMA.names())
        .filter(
            pl.col("as_of_date").is_in(pl.col("as_of_date").unique().sort().tail(NIGHTS).implode())
        )
    )


def _drawn(rows: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Some symbols of every night, those whose every step is there."""
    whole = rows.filter(pl.len().over("as_of", "symbol") == horizon)
    chosen = []
    for (as_of, day), part in whole.group_by("as_of", "as_of_date"):
        assert isinstance(as_of, datetime)
        moment = AsOf(day, as_of)
        names = draw(part["symbol"].unique().to_list(), moment, SYMBOLS)
        chosen.append(part.filter(pl.col("symbol").is_in(names)))
    return pl.concat(chosen).sort("as_of", "symbol", "step") if chosen else whole
