"""Every figure of several models. Knows the figures; draws and stores nothing.

Legend: N windows, H horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from forecaster.evaluation.cases import Cases, Forecasts
from forecaster.evaluation.figures import compared, crps_of, energy_score, step_figures
from forecaster.evaluation.movement import movement_figures, step_diagnostics
from forecaster.evaluation.ranking import ranking_figures
from forecaster.hac import date_mean, per_date
from market.errors import ForecastInputError

Array = npt.NDArray[np.float64]

REGIMES = ("calm", "middling", "wild")


@dataclass(frozen=True)
class Evaluation:
    """Figures as tables, and what they rest on."""

    steps: pl.DataFrame
    """One row per model and step."""
    models: pl.DataFrame
    """One row per model, over the whole horizon."""
    against: pl.DataFrame
    """One row per model, baseline and step: CRPS ratio, t (plus is worse), dates for t = 2."""
    parts: pl.DataFrame
    """CRPS ratio to the best baseline by regime and group, over all steps."""
    best_baseline: str | None
    """The baseline with the lowest CRPS over all steps."""
    comparisons: int
    """Tests whose t is shown: of so many, one in twenty exceeds 2 by chance."""
    windows: int
    dates: int


def evaluate(cases: Cases, models: Sequence[Forecasts]) -> Evaluation:
    """Score every model on the same windows.

    Raises ForecastInputError where no outcome is known, or every forecast is the same constant.
    """
    if not np.isfinite(cases.actual_NH).any():
        raise ForecastInputError(
            f"none of {len(cases.symbols)} forecasts has an outcome in the store: import newer "
            "bars, or evaluate earlier dates"
        )
    for each in models:
        if not np.ptp(each.members_NSH):
            raise ForecastInputError(
                f"{each.name}: every forecast is the same constant; there is nothing to evaluate"
            )
    crps = {each.name: crps_of(cases, each) for each in models}
    baselines = [each.name for each in models if each.baseline]
    overall = {name: _overall(cases, crps[name]) for name in crps}
    best = min(baselines, key=lambda name: overall[name]) if baselines else None
    n_steps = cases.horizon
    steps: list[dict[str, Any]] = []
    against: list[dict[str, Any]] = []
    for each in models:
        for h in range(n_steps):
            key = {"model": each.name, "step": h + 1}
            if not np.isfinite(cases.actual_NH[:, h]).any():
                continue
            steps.append(
                key
                | step_figures(cases, each, crps[each.name], h)
                | ranking_figures(cases, each, h)
                | step_diagnostics(cases, each, h)
            )
            against += [
                {"model": each.name, "baseline": name, "step": h + 1}
                | compared(cases, crps[each.name][:, h], crps[name][:, h], h)
                for name in baselines
                if name != each.name
            ]
    rows = [
        {"model": each.name, "baseline": each.baseline, "exact": each.exact, "paths": each.n_paths,
         "crps": overall[each.name],
         "crps_ratio": overall[each.name] / overall[best] if best else float("nan"),
         "energy_score": _energy(cases, each)}
        | movement_figures(cases, each)
        for each in models
    ]  # fmt: skip
    return Evaluation(
        steps=pl.DataFrame(steps, infer_schema_length=None),
        models=pl.DataFrame(rows, infer_schema_length=None),
        against=pl.DataFrame(against, infer_schema_length=None),
        parts=_parts(cases, crps, best),
        best_baseline=best,
        comparisons=len(against) + 4 * len(steps),
        windows=len(cases.symbols),
        dates=len(cases.as_of_D),
    )


def _overall(cases: Cases, crps_NH: Array) -> float:
    """Mean over steps of the mean over dates, in volatilities."""
    n_dates = len(cases.as_of_D)
    by_step = [date_mean(per_date(column, cases.date_N, n_dates), 0).mean for column in crps_NH.T]
    return float(np.nanmean(by_step))


def _energy(cases: Cases, forecasts: Forecasts) -> float:
    if not forecasts.exact:
        return float("nan")
    score = energy_score(forecasts.members_NSH, cases.actual_NH, cases.unit_NH)
    return date_mean(per_date(score, cases.date_N, len(cases.as_of_D)), 0).mean


def _parts(cases: Cases, crps: dict[str, Array], best: str | None) -> pl.DataFrame:
    schema = {"model": pl.String, "kind": pl.String, "part": pl.String, "windows": pl.Int64,
              "ratio": pl.Float64, "t": pl.Float64}  # fmt: skip
    if best is None:
        return pl.DataFrame(schema=schema)
    parts = [("regime", name, cases.regime_D[cases.date_N] == k) for k, name in enumerate(REGIMES)]
    if cases.group_N is not None:
        parts += [("group", str(g), cases.group_N == g) for g in np.unique(cases.group_N)]
    mean = {name: _row_mean(each) for name, each in crps.items()}
    rows = []
    for kind, part, keep in parts:
        if not keep.any():
            continue
        for name in crps:
            if name == best:
                continue
            found = compared(cases, mean[name], mean[best], cases.horizon - 1, keep)
            rows.append({"model": name, "kind": kind, "part": part, "windows": int(keep.sum()),
                         "ratio": found["ratio"], "t": found["t"]})  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def _row_mean(values_NH: Array) -> Array:
    """Mean over the steps that are known; NaN where none is."""
    known = np.isfinite(values_NH)
    count = known.sum(axis=1)
    total = np.where(known, values_NH, 0.0).sum(axis=1)
    mean: Array = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return mean
