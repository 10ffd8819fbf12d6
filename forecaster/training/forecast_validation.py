"""How good forecasts of the model in training are, at dates of the validation span.

Walks forward through the dates: at each, what is forecast lies after everything the model sees.
Knows pools, the engine and scores; no loop.

Legend: B symbols of a date, L lookback, H horizon.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from forecaster.interface import CLOSE, SamplingParams, WindowBatch
from forecaster.kronos.pipeline import KronosForecaster
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.scores import crps, rank_correlation
from forecaster.training.config import RunSettings, TrainingError, WindowSettings
from forecaster.training.data.pools import Pool
from forecaster.training.process_group import Peers


@dataclass(frozen=True)
class ForecastDate:
    """Windows that end at one label, and the closes that followed."""

    windows: WindowBatch
    actual_BH: npt.NDArray[np.float64]


def forecast_dates(pool: Pool, windows: WindowSettings, run: RunSettings) -> list[ForecastDate]:
    """At most `run.forecast_dates` dates, evenly spread, each with evenly chosen symbols.

    Raises TrainingError where no date has two symbols with a whole lookback and horizon.
    """
    lookback, horizon = max(windows.lookbacks), windows.validation_horizon
    ends: dict[np.datetime64, list[tuple[int, int]]] = {}
    for r, run_of in enumerate(pool.runs):
        first = 0
        if pool.first_target is not None:
            first = int(np.searchsorted(run_of.timestamps_N, pool.first_target))
        for target in range(max(first, lookback), len(run_of) - horizon + 1):
            ends.setdefault(run_of.timestamps_N[target - 1], []).append((r, target))
    usable = sorted(label for label, found in ends.items() if len(found) >= 2)
    if not usable:
        raise TrainingError(
            f"run.best_by: {run.best_by} needs validation dates with {lookback} bars before and "
            f"{horizon} after them in two symbols or more; move data.validation_through, shorten "
            "windows.validation_horizon, or set run.best_by to loss"
        )
    spread = np.linspace(0, len(usable) - 1, run.forecast_dates).round().astype(int)
    return [
        _at(pool, ends[usable[i]], lookback, horizon, run.forecast_symbols)
        for i in sorted(set(spread.tolist()))
    ]


def _at(
    pool: Pool, found: list[tuple[int, int]], lookback: int, horizon: int, most: int
) -> ForecastDate:
    chosen = sorted(found, key=lambda each: (pool.runs[each[0]].symbol, each))
    if len(chosen) > most:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, most).round().astype(int)]
    cuts = [pool.runs[r].rows(slice(t - lookback, t + horizon)) for r, t in chosen]
    values = np.stack([cut.values_NF for cut in cuts])
    labels = np.stack([cut.timestamps_N for cut in cuts])
    return ForecastDate(
        WindowBatch(
            symbols=tuple(cut.symbol for cut in cuts),
            as_of_B=labels[:, lookback - 1],
            values_BLF=values[:, :lookback],
            timestamps_BL=labels[:, :lookback],
            future_BH=labels[:, lookback:],
        ),
        values[:, lookback:, CLOSE],
    )


def judge_forecasts(
    model: Kronos,
    tokenizer: KronosTokenizer,
    dates: Sequence[ForecastDate],
    *,
    paths: int,
    clip: float,
    peers: Peers,
) -> dict[str, float]:
    """`crps` of the close in percent of the last close, `rank_ic` of the mean return to the last
    step. Each process forecasts some of the dates; model and random state stay as they are."""
    total = torch.zeros(4, dtype=torch.double)
    mine = dates[peers.rank :: peers.world]
    if mine:
        longest = max(each.windows.lookback + each.windows.horizon for each in mine)
        forecaster = KronosForecaster(
            copy.deepcopy(tokenizer), copy.deepcopy(model),
            max_context=longest, clip=clip, device=str(peers.device), threads=1,
        )  # fmt: skip
        for each in mine:
            sampled = forecaster.sample_paths(
                each.windows, n_paths=paths, sampling=SamplingParams(top_p=1.0), seed=0
            )
            closes_SBH = np.moveaxis(sampled.values_BSHF[..., CLOSE].astype(np.float64), 1, 0)
            last_B = sampled.last_close_B
            score = crps(closes_SBH / last_B[:, None], each.actual_BH / last_B[:, None])
            ic = rank_correlation(
                closes_SBH[..., -1].mean(axis=0) / last_B, each.actual_BH[:, -1] / last_B
            )
            known = np.isfinite(ic)
            sums = [100 * score.mean(), 1.0, ic if known else 0.0, float(known)]
            total += torch.tensor(sums, dtype=torch.double)
    score_sum, n, ic_sum, n_ic = peers.total(total).tolist()
    return {"crps": score_sum / n, "rank_ic": ic_sum / n_ic if n_ic else float("nan")}
