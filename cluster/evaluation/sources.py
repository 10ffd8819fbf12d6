"""Forecasts to be judged: out of the table, and baselines computed beside them.

Legend: N windows, S members, H horizon, Q levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from forecaster.baselines import load_baseline
from forecaster.calibration.paths import log_closes
from forecaster.evaluation import Forecasts
from forecaster.evaluation.cases import as_quantiles, points_of_quantiles
from forecaster.interface import SamplePaths, SamplingParams, WindowBatch
from forecaster.summary import QUANTILES, summarise
from market.fields import FEATURES
from market.table.forecasts import ForecastTable
from market.table.schema import QUANTILE_NAMES

Array = npt.NDArray[np.float64]
VOLUME = FEATURES.index("volume")


def from_table(
    table: ForecastTable, rows: pl.DataFrame, keys: pl.DataFrame, name: str, volume_N: Array
) -> list[Forecasts]:
    """One model's forecasts of the windows in `keys`: as published, and raw beside where both are
    kept. Exact where the run kept its paths. volume_N: the last known volume."""
    ordered = keys.select("as_of", "symbol").with_row_index("window")
    own = rows.join(ordered, on=["as_of", "symbol"], how="inner").sort("window", "step")
    n = keys.height
    horizon = own.height // n
    last_N = own["last_close"].to_numpy().reshape(n, horizon)[:, 0]

    def column(title: str) -> Array:
        values: Array = own[title].cast(pl.Float64).to_numpy().reshape(n, horizon)
        return values

    stats = (
        table.path_stats(own["model_id"][0])
        .join(ordered.lazy(), on=["as_of", "symbol"], how="inner")
        .sort("window")
        .collect()
    )
    n_paths = int(own["n_paths"].min())  # type: ignore[arg-type]
    kinds = set(own["published"].drop_nulls())
    other = kinds - {"as sampled", "raw", "uncalibrated"}
    title = f"{name} ({', '.join(sorted(kinds))})" if other else name
    members, exact = _members(table, own, ordered, last_N, "close_")
    with np.errstate(invalid="ignore", divide="ignore"):
        range_NH = np.log(column("high_mean") / column("low_mean"))
        volume_NH = np.log(column("volume_q50") / volume_N[:, None])
    published = Forecasts(
        name=title,
        members_NSH=members,
        p_up_NH=column("p_up"),
        exact=exact,
        baseline=False,
        path_volatility_N=stats["path_volatility"].cast(pl.Float64).to_numpy(),
        range_NH=range_NH,
        log_volume_NH=np.where(np.isfinite(volume_NH), volume_NH, np.nan),
        n_paths=n_paths,
        floored_N=stats["floored"].cast(pl.Float64).to_numpy() / n_paths,
    )
    if not other or own["raw_close_q50"].null_count():
        return [published]
    raw, _ = _members(None, own, ordered, last_N, "raw_close_")
    beside_it = replace(
        published,
        name=f"{name} raw",
        members_NSH=raw,
        p_up_NH=column("raw_p_up"),
        exact=False,
        path_volatility_N=np.full(n, np.nan),
    )
    return [published, beside_it]


def _members(
    table: ForecastTable | None, own: pl.DataFrame, ordered: pl.DataFrame, last_N: Array,
    prefix: str,
) -> tuple[Array, bool]:  # fmt: skip
    """Log closes (N, S, H), from kept paths where there are any."""
    n = ordered.height
    horizon = own.height // n
    if table is not None and table.keeps("paths"):
        paths = (
            table.paths(own["model_id"][0])
            .select("as_of", "symbol", "path", "step", "close")
            .join(ordered.lazy(), on=["as_of", "symbol"], how="inner")
            .sort("window", "path", "step")
            .collect()
        )
        if paths.height and paths.height % (n * horizon) == 0:
            close = paths["close"].to_numpy().astype(np.float64).reshape(n, -1, horizon)
            return _logs(close, last_N[:, None, None]), True
    quantiles = np.stack(
        [own[f"{prefix}{q}"].cast(pl.Float64).to_numpy().reshape(n, horizon)
         for q in QUANTILE_NAMES], axis=-1,
    )  # fmt: skip
    return points_of_quantiles(_logs(quantiles, last_N[:, None, None]), QUANTILES), False


def _logs(close: Array, last: Array) -> Array:
    logs: Array = np.log(np.maximum(close / last, 1e-4))
    return logs


def beside(
    names: Sequence[str], windows: WindowBatch, n_paths: int, *, exact: bool
) -> list[Forecasts]:
    """Baselines of the same windows, with as many paths; seen through their quantiles where the
    models are, so that all are scored alike."""
    found = []
    for name in names:
        paths = load_baseline(name).sample_paths(
            windows, n_paths=n_paths, sampling=SamplingParams(), seed=0
        )
        logs = log_closes(paths).astype(np.float64)
        members = logs if exact else as_quantiles(logs, _kept(n_paths))
        volume_N = np.asarray(windows.values_BLF[:, -1, VOLUME], np.float64)
        found.append(_baseline(name, paths, members, volume_N, exact=exact))
    return found


def _kept(n_paths: int) -> tuple[float, ...]:
    from forecaster.summary import MIN_PATHS_FOR_TAILS, TAILS

    return tuple(q for q in QUANTILES if n_paths >= MIN_PATHS_FOR_TAILS or q not in TAILS)


def _baseline(
    name: str, paths: SamplePaths, members: Array, volume_N: Array, *, exact: bool
) -> Forecasts:
    summary = summarise(paths)
    volume = np.median(paths.values_BSHF[..., VOLUME].astype(np.float64), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_volume = np.log(volume / volume_N[:, None])
    return Forecasts(
        name=name,
        members_NSH=members,
        p_up_NH=summary.p_up_BH,
        exact=exact,
        baseline=True,
        path_volatility_N=summary.path_volatility_B,
        range_NH=np.log(summary.mean_BHF[..., 1] / summary.mean_BHF[..., 2]),
        log_volume_NH=np.where(np.isfinite(log_volume), log_volume, np.nan),
        n_paths=paths.values_BSHF.shape[1],
        floored_N=summary.floored_B / paths.values_BSHF.shape[1],
        repaired=0.0,
    )
