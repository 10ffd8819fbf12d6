"""From a forecast table and a history to figures. Knows the order of things; prints nothing.

Legend: N windows, S members, H horizon, L lookback.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from cluster.evaluation.report import EvaluationReport
from cluster.evaluation.settings import EvaluateSettings
from cluster.evaluation.sources import beside, from_table
from cluster.outcomes import CLOSE, Outcomes, outcomes
from cluster.settings import USUAL_BASELINES
from forecaster.baselines import known_baselines
from forecaster.calibration.paths import bar_volatility
from forecaster.evaluation import Cases, Forecasts, evaluate
from forecaster.interface import WindowBatch
from market.calendars import future_timestamps
from market.errors import ConfigError, ForecastInputError, StoreError
from market.flags import Flag
from market.lake.history import MarketHistory
from market.table.forecasts import ForecastTable
from market.windows import known_bars

VOLUME = CLOSE + 1
FROM_QUANTILES = (
    "Some forecasts keep quantiles alone (--keep-paths keeps all): every model and baseline is "
    "scored from its quantiles."
)


def run_evaluate(settings: EvaluateSettings) -> EvaluationReport:
    """Judge the windows that every chosen model of the table forecast and that have an outcome.

    Raises CandlecastError where the table and the store do not belong together, where no window is
    left, and for in-sample dates alone.
    """
    known = known_baselines()
    unknown = sorted(set(settings.baselines) - set(known))
    if unknown:
        raise ConfigError(f"--baselines {unknown[0]}: not a baseline; known are {', '.join(known)}")
    history = MarketHistory.open(settings.store, version=settings.store_version)
    table = ForecastTable(settings.forecasts)
    rows, names = chosen_rows(table, settings)
    keys, in_sample = _common_windows(rows, settings)
    runs = {record.run_id: record for record in table.runs()}
    asked = [runs[run_id].settings for run_id in rows["run_id"].unique() if run_id in runs]
    lookback = max((int(each["lookback"]) for each in asked), default=256)
    horizon = int(rows["step"].max())  # type: ignore[arg-type]
    made = outcomes(
        history, keys["symbol"].to_numpy().astype(str), _naive(keys["as_of"]), horizon,
        max_gap_sessions=settings.max_gap_sessions,
    )  # fmt: skip
    same, there = _belong(history, settings, keys, made)
    windows, whole = windows_of(history, keys, lookback, horizon)
    keep = same & there & whole
    if not keep.any():
        raise ForecastInputError(
            f"no forecast of {settings.forecasts} has an outcome in {settings.store} yet: import "
            "newer bars, or evaluate earlier dates"
        )
    keys, windows = keys.filter(pl.Series(keep)), windows.rows(np.flatnonzero(keep))
    cases = cases_of(history, keys, made, keep, windows, settings)
    models: list[Forecasts] = []
    for model_id, name in names.items():
        own = rows.filter(pl.col("model_id") == model_id)
        models += from_table(table, own, keys, name, made.base_volume_N[keep])
    n_paths = max(each.n_paths for each in models)
    exact = all(each.exact for each in models)
    asked_for = settings.baselines
    if asked_for == USUAL_BASELINES and not history.spec.daily:
        asked_for = (*USUAL_BASELINES, "seasonal")
    others = [name for name in asked_for if name not in names.values()]
    models += beside(others, windows, n_paths, exact=exact)
    notes = () if exact else (FROM_QUANTILES,)
    return EvaluationReport(
        evaluation=evaluate(cases, models),
        names={name: model_id for model_id, name in names.items()},
        first=str(cases.as_of_D[0])[:10],
        last=str(cases.as_of_D[-1])[:10],
        horizon=horizon,
        lookback=lookback,
        in_sample=in_sample,
        judged_in_sample=settings.in_sample,
        missing=int((~there).sum()),
        other_close=int((there & ~same).sum()),
        notes=notes,
    )


def chosen_rows(
    table: ForecastTable, settings: EvaluateSettings
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Rows of the chosen models and dates, and each model's name by its id.

    Raises StoreError for a model the table does not hold.
    """
    records = table.runs()
    name_of = {record.model_id: record.model for record in records}
    wanted = set(name_of)
    if settings.models:
        wanted = {mid for mid, name in name_of.items() if {mid, name} & set(settings.models)}
        lost = set(settings.models) - wanted - {name_of[mid] for mid in wanted}
        if lost:
            raise StoreError(
                f"{settings.forecasts}: no forecasts of {sorted(lost)[0]}; it holds "
                f"{', '.join(sorted(set(name_of.values()))) or 'nothing'}"
            )
    scan = table.scan().filter(pl.col("model_id").is_in(sorted(wanted)))
    if settings.start is not None:
        scan = scan.filter(pl.col("as_of_date") >= settings.start)
    if settings.end is not None:
        scan = scan.filter(pl.col("as_of_date") <= settings.end)
    rows = scan.collect()
    if not rows.height:
        raise StoreError(
            f"{settings.forecasts}: no forecasts of these models between {settings.start} and "
            f"{settings.end}; see 'candlecast runs ls'"
        )
    present = rows["model_id"].unique().to_list()
    short = {mid: Path(name_of[mid]).name or name_of[mid] for mid in sorted(present)}
    twice = len(set(short.values())) < len(short)
    return rows, {mid: f"{name} {mid[:6]}" if twice else name for mid, name in short.items()}


def _common_windows(rows: pl.DataFrame, settings: EvaluateSettings) -> tuple[pl.DataFrame, int]:
    """One row per window that every model forecast; how many lie in a training period."""
    per = (
        rows.filter(pl.col("step") == 1)
        .group_by("as_of", "symbol")
        .agg(
            pl.col("model_id").n_unique().alias("models"),
            ((pl.col("flags") & int(Flag.IN_SAMPLE)) != 0).any().alias("in_sample"),
            pl.col("last_close").first(),
            pl.col("as_of_date").first(),
        )
        .sort("as_of", "symbol")
    )
    common = per.filter(pl.col("models") == rows["model_id"].n_unique())
    if not common.height:
        raise ForecastInputError(
            f"the models have no window in common ({per.height} windows in all): forecast the same "
            "symbols and dates with each, or name fewer with --models"
        )
    inside = int(common["in_sample"].sum())
    if inside and not settings.in_sample:
        common = common.filter(~pl.col("in_sample"))
        if not common.height:
            raise ForecastInputError(
                f"all {inside} windows lie in a model's training period (IN-SAMPLE) and prove "
                "nothing; forecast later dates, or judge them all the same with --in-sample"
            )
    return common, inside


def _belong(
    history: MarketHistory, settings: EvaluateSettings, keys: pl.DataFrame, made: Outcomes
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Where the store's close is the one forecast from, and where there is an outcome.

    Raises ForecastInputError where most closes are others: the table is of another store.
    """
    last_N = keys["last_close"].to_numpy()
    with np.errstate(invalid="ignore"):
        same = np.abs(made.base_N / last_N - 1) < 1e-6
    if same.mean() < 0.5:
        i = int(np.flatnonzero(~same)[0])
        symbol, as_of = keys["symbol"][i], keys["as_of_date"][i]
        found = "no bar" if np.isnan(made.base_N[i]) else f"close {made.base_N[i]:g}"
        raise ForecastInputError(
            f"{settings.forecasts} was not forecast from {history.root}: {symbol} at {as_of} was "
            f"forecast from close {last_N[i]:g}, the store has {found} there "
            f"({int((~same).sum())} of {len(same)} windows differ); name the store it came from"
        )
    there: npt.NDArray[np.bool_] = np.asarray(np.isfinite(made.log_return_NH).any(axis=1))
    return same, there


def windows_of(
    history: MarketHistory, keys: pl.DataFrame, lookback: int, horizon: int
) -> tuple[WindowBatch, npt.NDArray[np.bool_]]:
    """The bars known at each as_of, for baselines and volatilities; and where there are enough."""
    series = {s.symbol: s for s in history.series(set(keys["symbol"].to_list()))}
    as_of_N = _naive(keys["as_of"])
    values, labels, future, whole = [], [], [], []
    for symbol, moment in zip(keys["symbol"], as_of_N, strict=True):
        one = series.get(symbol)
        last = known_bars(one, moment) if one is not None else 0
        whole.append(last >= lookback)
        if one is None or last < lookback:
            values.append(np.ones((lookback, 6)))
            labels.append(np.zeros(lookback, "datetime64[us]"))
            future.append(np.zeros(horizon, "datetime64[us]"))
            continue
        values.append(one.values_NF[last - lookback : last])
        labels.append(one.timestamps_N[last - lookback : last])
        future.append(future_timestamps(history.spec, labels[-1], horizon))
    batch = WindowBatch(
        tuple(keys["symbol"]), as_of_N, np.stack(values), np.stack(labels), np.stack(future)
    )
    return batch, np.array(whole)


def cases_of(
    history: MarketHistory, keys: pl.DataFrame, made: Outcomes, keep: npt.NDArray[np.bool_],
    windows: WindowBatch, settings: EvaluateSettings,
) -> Cases:  # fmt: skip
    """What happened in the kept windows."""
    ended_NH, values = made.ended_NH[keep], made.values_NHF[keep]
    as_of_N = windows.as_of_B
    as_of_D = np.unique(as_of_N)
    overlap = np.zeros(ended_NH.shape[1], np.int64)
    for h in range(len(overlap)):
        known = ~np.isnat(ended_NH[:, h])
        if known.any():
            later = np.searchsorted(as_of_D, ended_NH[known, h], side="left")
            overlap[h] = max(
                int(np.median(later - np.searchsorted(as_of_D, as_of_N[known]) - 1)), 0
            )
    with np.errstate(invalid="ignore", divide="ignore"):
        range_NH = np.log(values[..., 1] / values[..., 2])
        volume_NH = np.log(values[..., VOLUME] / made.base_volume_N[keep][:, None])
    return Cases(
        symbols=windows.symbols,
        as_of_N=as_of_N,
        actual_NH=made.log_return_NH[keep],
        sigma_N=bar_volatility(windows.values_BLF),
        overlap_H=overlap,
        range_NH=range_NH,
        log_volume_NH=np.where(np.isfinite(volume_NH), volume_NH, np.nan),
        group_N=None if settings.groups is None else _groups(settings.groups, windows.symbols),
    )


def _groups(path: Path, symbols: Sequence[str]) -> npt.NDArray[np.str_]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except OSError as error:
        raise ConfigError(f"--groups {path}: cannot be read ({error.strerror})") from None
    if not rows or not {"symbol", "group"} <= set(rows[0]):
        raise ConfigError(f"--groups {path}: needs the columns symbol and group")
    group_of = {row["symbol"]: row["group"] for row in rows}
    return np.array([group_of.get(symbol, "(none)") for symbol in symbols])


def _naive(moments: pl.Series) -> npt.NDArray[np.datetime64]:
    found: npt.NDArray[np.datetime64] = moments.dt.replace_time_zone(None).to_numpy()
    return found


def as_json(settings: EvaluateSettings, report: EvaluationReport) -> dict[str, Any]:
    """Everything the page shows, as JSON values."""
    made = report.evaluation
    return {
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": settings.model_dump(mode="json"),
        "models_by_id": report.names,
        "first": report.first,
        "last": report.last,
        "windows": made.windows,
        "dates": made.dates,
        "comparisons": made.comparisons,
        "best_baseline": made.best_baseline,
        "in_sample_windows": report.in_sample,
        "judged_in_sample": report.judged_in_sample,
        "windows_without_outcome": report.missing,
        "windows_with_another_close": report.other_close,
        "notes": list(report.notes),
        "models": made.models.to_dicts(),
        "steps": made.steps.to_dicts(),
        "against": made.against.to_dicts(),
        "parts": made.parts.to_dicts(),
    }
