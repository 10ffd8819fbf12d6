"""Sample paths to rows of the forecast table. Knows columns; no storage, no Ray.

Legend: B series, S paths, H horizon, F features, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from cluster.forecasting.publication import OWN, Publication
from cluster.forecasting.staging import Frames, SeriesNote
from cluster.forecasting.work import Task, WindowJob
from forecaster.interface import SamplePaths
from forecaster.summary import QUANTILES, close_marginals, summarise
from market.calendars import utc_datetime
from market.fields import FEATURES
from market.flags import Flag
from market.table.schema import SCHEMAS


def series_notes(tasks: Sequence[Task], paths: SamplePaths) -> list[SeriesNote]:
    return [
        SeriesNote(task.window.symbol, utc_datetime(task.window.as_of), int(flags), int(repaired))
        for task, flags, repaired in zip(tasks, paths.flags_B, paths.repaired_B, strict=True)
    ]


def table_rows(job: WindowJob, tasks: Sequence[Task], made: Publication) -> Frames:
    """Table rows of a batch, in the order of its tasks."""
    paths = made.paths
    summary = summarise(paths)
    n_series, n_paths, horizon = len(paths), job.paths, job.horizon
    sessions_B = [task.series.sessions_N[task.window.last - 1] for task in tasks]
    flags_B = np.array(
        [
            int(flags) | _window_flags(task) | _cutoff_flag(job, session)
            for task, flags, session in zip(tasks, paths.flags_B, sessions_B, strict=True)
        ],
        dtype=np.int32,
    )
    keys = pl.DataFrame(
        {
            "as_of_date": np.array(sessions_B, dtype="datetime64[D]"),
            "as_of": paths.as_of_B,
            "symbol": paths.symbols,
            "last_close": paths.last_close_B,
            "data_through": np.array([t.series.close_utc_N[t.window.last - 1] for t in tasks]),
            "flags": flags_B,
        }
    ).with_columns(
        pl.col("as_of", "data_through").dt.replace_time_zone("UTC"),
        run_id=pl.lit(job.run_id),
        model_id=pl.lit(job.model_id),
        freq=pl.lit(job.spec.freq),
        venue=pl.lit(job.spec.venue, dtype=pl.String),
        price_basis=pl.lit(job.spec.price_basis),
        n_paths=pl.lit(n_paths),
        published=pl.Series(made.published, dtype=pl.String),
    )

    steps = _repeat(keys, horizon).with_columns(
        pl.Series("step", np.tile(np.arange(1, horizon + 1), n_series)),
        pl.Series("timestamp", paths.timestamps_BH.reshape(-1)),
        pl.Series("p_up", summary.p_up_BH.reshape(-1)),
        *(
            pl.Series(f"{feature}_{statistic}", values_BH.reshape(-1), nan_to_null=True)
            for f, feature in enumerate(FEATURES)
            for statistic, values_BH in (
                ("mean", summary.mean_BHF[..., f]),
                ("std", summary.std_BHF[..., f]),
                *(
                    (f"q{round(100 * level):02d}", summary.quantiles_BHFQ[..., f, q])
                    for q, level in enumerate(QUANTILES)
                ),
            )
        ),
        *_raw_columns(made),
    )
    path_stats = keys.with_columns(
        pl.lit(horizon).alias("horizon"),
        _lists("return_mean", summary.return_mean_BH),
        _lists("return_std", summary.return_std_BH),
        pl.Series("expected_drawdown", summary.expected_drawdown_B),
        pl.Series("path_volatility", summary.path_volatility_B, nan_to_null=True),
        pl.Series("floored", summary.floored_B),
    )
    frames: Frames = {"steps": steps, "path_stats": path_stats}
    if made.kept:
        frames["ensembles"] = _ensembles(job, keys, made)
    if job.keep_paths:
        path_S, step_H = np.arange(n_paths), np.arange(1, horizon + 1)
        frames["paths"] = _repeat(keys, n_paths * horizon).with_columns(
            pl.Series("path", np.tile(np.repeat(path_S, horizon), n_series)),
            pl.Series("step", np.tile(step_H, n_series * n_paths)),
            *(
                pl.Series(feature, paths.values_BSHF[..., f].reshape(-1))
                for f, feature in enumerate(FEATURES)
            ),
        )
    return {
        kind: frame.select(SCHEMAS[kind].names()).cast(SCHEMAS[kind])
        for kind, frame in frames.items()
    }


def _raw_columns(made: Publication) -> list[pl.Series]:
    """The model's own closes beside rows that publish another's; null elsewhere."""
    raw = close_marginals(made.raw)
    other_B1 = np.array([each not in OWN for each in made.published])[:, None]
    return [
        pl.Series(
            f"raw_{name}" if name == "p_up" else f"raw_close_{name}",
            np.where(other_B1, values_BH, np.nan).reshape(-1),
            nan_to_null=True,
        )
        for name, values_BH in raw.items()
    ]


def _ensembles(job: WindowJob, keys: pl.DataFrame, made: Publication) -> pl.DataFrame:
    """Raw closes of the sampled series and of the baselines beside them."""
    parts = []
    for row, source, log_SH, sigma in made.kept:
        one = keys[row].with_columns(
            recipe=pl.lit(job.recipe),
            source=pl.lit(source),
            horizon=pl.lit(job.horizon),
            sigma=pl.lit(sigma),
            log_close=pl.Series([log_SH.reshape(-1)], dtype=pl.List(pl.Float32)),
        )
        parts.append(one)
    return pl.concat(parts)


def _lists(name: str, values_BH: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> pl.Series:
    """One list per series; NaN is null."""
    rows = [pl.Series(row, nan_to_null=True) for row in values_BH]
    return pl.Series(name, rows, dtype=pl.List(pl.Float64))


def _repeat(frame: pl.DataFrame, times: int) -> pl.DataFrame:
    """Every row `times` times in a row."""
    return frame[np.repeat(np.arange(frame.height), times)]


def _window_flags(task: Task) -> int:
    """Flags of a window's bars; a move into its first bar is not part of it."""
    flags_L = task.series.flags_N[task.window.first : task.window.last].copy()
    flags_L[0] &= ~np.int32(Flag.SUSPECTED_SPLIT)
    return int(np.bitwise_or.reduce(flags_L))


def _cutoff_flag(job: WindowJob, session: np.datetime64) -> int:
    if job.cutoff_unknown:
        return int(Flag.CUTOFF_UNKNOWN)
    through = job.trained_through
    return int(Flag.IN_SAMPLE) if through is not None and session <= np.datetime64(through) else 0
