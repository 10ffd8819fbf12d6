"""How earlier nights' forecasts did: coverage, CRPS against the random walk, and a drift alarm.

Knows forecast tables and outcomes; draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from cluster.outcomes import outcomes
from forecaster.calibration import MODEL
from forecaster.hac import date_mean, per_date
from forecaster.scores import window_crps
from market.lake.history import MarketHistory
from market.spec import AsOf
from market.table.forecasts import ForecastTable

NIGHTS = 60
"""Earlier nights that are looked at."""
FEWEST_NIGHTS = 10
"""Below so many with outcomes there is no alarm: it would be noise."""
NOMINAL = 0.8
ALARM_T = 2.5


@dataclass(frozen=True)
class StepTrust:
    """One step of earlier nights' forecasts."""

    step: int
    nights: int
    coverage: float
    """Share of closes inside the published 80% interval, mean over nights."""
    coverage_t: float
    """Against 80%; NaN with too few nights."""
    crps_ratio: float
    """Raw CRPS over that of the random walk beside it; NaN where closes were not kept."""


@dataclass(frozen=True)
class Trust:
    """What earlier nights say about tonight's."""

    nights: int
    steps: tuple[StepTrust, ...]
    alarm: str | None
    """What has drifted, in words."""


def earlier_nights(
    table: ForecastTable, history: MarketHistory, model_id: str, as_of: AsOf
) -> Trust | None:
    """Published forecasts of one model before as_of, by what was known at as_of; None without."""
    rows = (
        table.scan(model_id)
        .filter(pl.col("as_of") < as_of.close_utc)
        .filter(pl.col("freq") == history.spec.freq)
        .select("as_of", "symbol", "step", "last_close", "close_q10", "close_q90")
        .collect()
    )
    nights = rows["as_of"].unique().sort().tail(NIGHTS)
    rows = rows.filter(pl.col("as_of").is_in(nights.implode())).sort("as_of", "symbol", "step")
    if not rows.height:
        return None
    horizon = int(rows["step"].max())  # type: ignore[arg-type]
    whole = rows.filter(pl.len().over("as_of", "symbol") == horizon)
    first = whole.filter(pl.col("step") == 1)
    as_of_N = first["as_of"].dt.replace_time_zone(None).to_numpy()
    made = outcomes(history, first["symbol"].to_list(), as_of_N, horizon, known_by=as_of.close_utc)
    last_N = first["last_close"].to_numpy()
    with np.errstate(invalid="ignore"):
        same = np.abs(made.base_N / last_N - 1) < 1e-6
    close_NH = np.where(same[:, None], made.values_NHF[..., 3], np.nan)
    shape = (first.height, horizon)
    low, high = (whole[f"close_q{q}"].to_numpy().reshape(shape) for q in (10, 90))
    inside = np.where(np.isfinite(close_NH), (low <= close_NH) & (close_NH <= high), np.nan)
    days, date_N = np.unique(as_of_N, return_inverse=True)
    ratios = _crps_ratios(table, history, model_id, as_of, days)
    steps = []
    for h in sorted({0, horizon // 2, horizon - 1}):
        inside_D = per_date(inside[:, h], date_N, len(days))
        found = date_mean(inside_D - NOMINAL, h)
        if found.dates:
            steps.append(
                StepTrust(
                    h + 1, found.dates, found.mean + NOMINAL,
                    found.t if found.dates >= FEWEST_NIGHTS else float("nan"),
                    ratios.get(h, float("nan")),
                )
            )  # fmt: skip
    return Trust(len(days), tuple(steps), drift_alarm(steps)) if steps else None


def drift_alarm(steps: list[StepTrust]) -> str | None:
    """What has drifted, in words: the step whose coverage is furthest from nominal, where its t
    exceeds ALARM_T; None without."""
    far = [each for each in steps if abs(each.coverage_t) > ALARM_T]
    if not far:
        return None
    worst = max(far, key=lambda each: abs(each.coverage_t))
    kind = "too narrow" if worst.coverage < NOMINAL else "too wide"
    return (
        f"intervals have become {kind}: at bar {worst.step} the 80% interval held "
        f"{worst.coverage:.0%} over {worst.nights} nights (t {worst.coverage_t:+.1f})"
    )


def _crps_ratios(
    table: ForecastTable, history: MarketHistory, model_id: str, as_of: AsOf,
    days: np.ndarray[tuple[int, ...], np.dtype[np.datetime64]],
) -> dict[int, float]:  # fmt: skip
    """By step from 0: raw CRPS over the random walk's, where nights kept their closes."""
    if not table.keeps("ensembles"):
        return {}
    kept = (
        table.all_ensembles(model_id)
        .filter(pl.col("as_of") < as_of.close_utc, pl.col("source").is_in([MODEL, "random-walk"]))
        .select("as_of", "symbol", "source", "n_paths", "horizon", "sigma", "log_close")
        .collect()
        .filter(pl.col("as_of").dt.replace_time_zone(None).is_in(pl.Series(days).implode()))
    )
    shapes = kept.select("n_paths", "horizon").unique()
    if shapes.height != 1:  # none, or nights of different settings
        return {}
    n_paths, horizon = shapes.row(0)
    sides = {
        source: kept.filter(pl.col("source") == source).sort("as_of", "symbol")
        for source in (MODEL, "random-walk")
    }
    model = sides[MODEL]
    as_of_N = model["as_of"].dt.replace_time_zone(None).to_numpy()
    made = outcomes(history, model["symbol"].to_list(), as_of_N, horizon, known_by=as_of.close_utc)
    unit = model["sigma"].to_numpy()[:, None]
    score = {
        source: window_crps(
            side["log_close"].explode().to_numpy().reshape(-1, n_paths, horizon),
            made.log_return_NH,
        )
        / unit
        for source, side in sides.items()
    }
    date_N = np.searchsorted(days, as_of_N)
    out = {}
    for h in range(horizon):
        mean = {
            source: date_mean(per_date(each[:, h], date_N, len(days)), 0).mean
            for source, each in score.items()
        }
        out[h] = mean[MODEL] / mean["random-walk"]
    return out
