"""Are sampled paths right about what a portfolio needs? Walk-forward, beside simple baselines.

    python benchmarks/evaluate_paths.py --store LAKE --start 2016-01-04 --end 2017-02-07 \
        --dates 52 --symbols 60

Every model forecasts the same windows: `--dates` sessions spread over the range, `--symbols`
symbols with complete bars around each. Intraday bars are forecast after the first bar of each
session. Scores are of the close relative to the last known close, in percent.

- CRPS: the fair ensemble estimator (Ferro 2014), lower is better, and relative to the driftless
  bootstrap's; t of the difference of their mean over all steps, from one number per date (Newey &
  West 1987, as many lags as windows overlap);
- 80 %: share of closes inside the paths' 10 and 90 % quantiles (type 6), all steps;
- QLIKE of the realised variance of the whole horizon against the paths' mean (Patton 2011);
- VR: variance of the log return over the horizon by the summed variances of its steps, of the
  paths, pooled over windows after dividing by each window's volatility; `actual` is the bars';
- slope: of the mean forecast at the last step, in percent, on the last close's z-score in its
  lookback: what it says of reversion to the mean;
- repaired: bars that broke a rule; floored: paths that reached the price floor.

Models are aliases, folders, timellm:FOLDER or baselines; with several values of --top-p or
--temperature every model that is not a baseline has a row for each pair.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scoringrules

from forecaster import SamplingParams, WindowBatch, load_forecaster
from forecaster.baselines import BASELINES
from forecaster.hac import date_mean
from forecaster.interface import CLOSE, Forecaster, SamplePaths
from forecaster.quantiles import ensemble_quantiles
from forecaster.repair import FLOOR
from forecaster.training.config import DataSettings
from forecaster.training.data.pools import TrainingSeries, unbroken_runs
from forecaster.training.data.splits import is_held_out
from market.lake.history import MarketHistory

Array = npt.NDArray[np.float64]
REFERENCE = "bootstrap-driftless"
BESIDE = (REFERENCE, "random-walk", "ewma", "fhs")
STEPS = (1, 5, 10, 20)


def windows(args: argparse.Namespace) -> tuple[list[WindowBatch], list[Array]]:
    """One batch per date, and what really happened, (B, H) closes."""
    history = MarketHistory.open(args.store)
    sessions = history.sessions(args.start, args.end)[: -args.horizon]
    at = np.linspace(0, len(sessions) - 1, args.dates).round().astype(int)
    names = history.symbols()["symbol"].to_list()
    if args.held_out is not None:
        names = [name for name in names if is_held_out(name, args.held_out)]
    everything = history.series(names)
    rules = DataSettings(
        train_through=args.start, validation_through=date.max, purge_bars=0,
        max_gap_days=args.max_gap_days,
    )  # fmt: skip
    batches, actuals = [], []
    for k, session in enumerate(np.datetime64(sessions[i]) for i in at):
        rng = np.random.default_rng([2016, k])
        picked = []
        for series in everything:
            row = int(np.searchsorted(series.sessions_N, session))
            if row >= len(series.sessions_N) or series.sessions_N[row] != session:
                continue
            rows = slice(row + 1 - args.lookback, row + 1 + args.horizon)
            if rows.start < 0 or rows.stop > len(series.sessions_N):
                continue
            cut = TrainingSeries(series.symbol, series.timestamps_N[rows], series.values_NF[rows])
            if len(unbroken_runs(cut, rules)) == 1:
                picked.append((cut, series.close_utc_N[row]))
        if not picked:
            continue
        if len(picked) > args.symbols:
            chosen = sorted(rng.choice(len(picked), args.symbols, replace=False))
            picked = [picked[i] for i in chosen]
        values = np.stack([cut.values_NF for cut, _ in picked])
        labels = np.stack([cut.timestamps_N for cut, _ in picked])
        batches.append(
            WindowBatch(
                symbols=tuple(cut.symbol for cut, _ in picked),
                as_of_B=np.array([close for _, close in picked]),
                values_BLF=values[:, : args.lookback],
                timestamps_BL=labels[:, : args.lookback],
                future_BH=labels[:, args.lookback :],
            )
        )
        actuals.append(values[:, args.lookback :, CLOSE])
    return batches, actuals


def sampled(
    forecaster: Forecaster, batches: list[WindowBatch], n_paths: int, sampling: SamplingParams
) -> list[SamplePaths]:
    """Paths of a model, all dates in one call: a date of few symbols would fill no tile."""
    whole = WindowBatch(
        symbols=tuple(symbol for b in batches for symbol in b.symbols),
        as_of_B=np.concatenate([b.as_of_B for b in batches]),
        values_BLF=np.concatenate([b.values_BLF for b in batches]),
        timestamps_BL=np.concatenate([b.timestamps_BL for b in batches]),
        future_BH=np.concatenate([b.future_BH for b in batches]),
    )
    paths = forecaster.sample_paths(whole, n_paths=n_paths, sampling=sampling, seed=1)
    ends = np.cumsum([len(b) for b in batches])
    return [paths.rows(np.arange(end - len(b), end)) for b, end in zip(batches, ends, strict=True)]


class Scores(NamedTuple):
    """Of one batch, which is one date."""

    crps_BH: Array
    inside_BH: npt.NDArray[np.bool_]
    qlike_B: Array
    variances: Array
    """Variance over the whole horizon and summed over steps, of paths, then of the bars."""
    mean_B: Array
    floored: int


def score(paths: SamplePaths, batch: WindowBatch, actual_BH: Array) -> Scores:
    closes_BSH = paths.values_BSHF[..., CLOSE].astype(np.float64)
    closes_BSH /= paths.last_close_B[:, None, None]
    observed_BH = actual_BH / batch.values_BLF[:, -1:, CLOSE]
    closes_BHS = np.moveaxis(closes_BSH, 1, 2)
    ordered = np.moveaxis(np.sort(closes_BSH, axis=1), 1, 0)
    low_BH, high_BH = ensemble_quantiles(ordered, (0.1, 0.9))
    steps_BSH = np.diff(np.log(np.maximum(closes_BSH, FLOOR)), axis=-1, prepend=0.0)
    real_BH = np.diff(np.log(observed_BH), axis=-1, prepend=0.0)
    realised_B = np.maximum((real_BH**2).sum(axis=-1), 1e-12)
    expected_B = np.maximum((steps_BSH**2).sum(axis=-1).mean(axis=1), 1e-12)
    unit_B = np.diff(np.log(batch.values_BLF[..., CLOSE]), axis=1).std(axis=1) + 1e-9

    def parts(steps: Array) -> list[float]:
        scaled = steps / unit_B.reshape(-1, *[1] * (steps.ndim - 1))
        return [float((scaled.sum(axis=-1) ** 2).mean()), float((scaled**2).sum(axis=-1).mean())]

    centred_BSH = steps_BSH - steps_BSH.mean(axis=1, keepdims=True)
    ratio_B = realised_B / expected_B
    return Scores(
        100 * scoringrules.crps_ensemble(observed_BH, closes_BHS, estimator="fair"),
        (low_BH <= observed_BH) & (observed_BH <= high_BH),
        ratio_B - np.log(ratio_B) - 1.0,
        np.array(parts(centred_BSH) + parts(real_BH)),
        100 * (closes_BSH[..., -1].mean(axis=1) - 1.0),
        int((closes_BSH <= FLOOR).any(axis=-1).sum()),
    )


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--store", type=Path, required=True)
    parse.add_argument("--start", type=date.fromisoformat, required=True)
    parse.add_argument("--end", type=date.fromisoformat, required=True)
    parse.add_argument("--dates", type=int, default=52)
    parse.add_argument("--symbols", type=int, default=60)
    parse.add_argument("--lookback", type=int, default=256)
    parse.add_argument("--horizon", type=int, default=20)
    parse.add_argument("--paths", type=int, default=64)
    parse.add_argument("--top-p", type=float, nargs="+", default=[1.0])
    parse.add_argument("--temperature", type=float, nargs="+", default=[1.0])
    parse.add_argument("--held-out", type=float, help="only symbols that this share holds out")
    parse.add_argument(
        "--max-gap-days", type=int, default=10, help="longer holes end a window (China: 15)"
    )
    parse.add_argument("--models", nargs="+", default=["nano"])
    parse.add_argument("--threads", type=int, default=1)
    args = parse.parse_args()
    batches, actuals = windows(args)
    days = np.array([batch.as_of_B[0] for batch in batches]).astype("datetime64[D]")
    print(f"{args.store.name}: {sum(map(len, batches))} windows at {len(batches)} dates, "
          f"{days[0]} to {days[-1]}; {args.paths} paths")  # fmt: skip
    spacing = float(np.median(np.diff(days).astype(int))) if len(days) > 1 else 30.0
    lags = int(np.ceil(args.horizon * 1.45 / max(spacing, 1.0)))
    z_B = np.concatenate(
        [
            (b.values_BLF[:, -1, CLOSE] - b.values_BLF[..., CLOSE].mean(axis=1))
            / b.values_BLF[..., CLOSE].std(axis=1)
            for b in batches
        ]
    )
    steps = [step for step in STEPS if step <= args.horizon]
    heads = [f"CRPS {s}" for s in steps]
    heads += ["mean", "ratio 1", f"ratio {args.horizon}", "ratio mean", "t", "80 %", "QLIKE", "VR"]
    print("| model | " + " | ".join(heads) + " | slope | repaired | floored |")
    print("|---|" + "---:|" * (len(steps) + 11))
    plain = SamplingParams()
    asked = [SamplingParams(temperature=t, top_p=p) for t in args.temperature for p in args.top_p]
    rows = [(name, plain) for name in BESIDE]
    rows += [
        (name, sampling)
        for name in args.models
        if name not in BESIDE
        for sampling in ([plain] if name in BASELINES else asked)
    ]
    base_H, base_D = np.empty(0), np.empty(0)
    for model, sampling in rows:
        forecaster = load_forecaster(model, threads=args.threads).forecaster
        drawn = sampled(forecaster, batches, args.paths, sampling)
        scores = [score(*each) for each in zip(drawn, batches, actuals, strict=True)]
        crps_H = np.concatenate([s.crps_BH for s in scores]).mean(axis=0)
        crps_D = np.array([s.crps_BH.mean() for s in scores])
        if model == REFERENCE:
            base_H, base_D = crps_H, crps_D
        variances = np.sum([s.variances for s in scores], axis=0)
        mean_B = np.concatenate([s.mean_B for s in scores])
        whole = sum(map(len, batches)) * args.paths * args.horizon
        repaired = sum(int(paths.repaired_B.sum()) for paths in drawn)
        told = [f"{crps_H[s - 1]:.4g}" for s in steps]
        told += [f"{crps_H.mean():.4g}", f"{crps_H[0] / base_H[0]:.3f}"]
        told += [f"{crps_H[-1] / base_H[-1]:.3f}", f"{crps_H.mean() / base_H.mean():.4f}"]
        told += ["–" if model == REFERENCE else f"{date_mean(crps_D - base_D, lags).t:+.1f}"]
        told += [f"{np.concatenate([s.inside_BH for s in scores]).mean():.3f}"]
        told += [f"{np.concatenate([s.qlike_B for s in scores]).mean():.3f}"]
        told += [f"{variances[0] / variances[1]:.2f}", f"{np.polyfit(z_B, mean_B, 1)[0]:+.2f}"]
        told += [f"{repaired / whole:.3%}", str(sum(s.floored for s in scores))]
        name = model if sampling.top_p == 1.0 else f"{model}, top_p {sampling.top_p}"
        name += "" if sampling.temperature == 1.0 else f", temperature {sampling.temperature}"
        print(f"| {name} | " + " | ".join(told) + " |", flush=True)
    print(f"actual VR {variances[2] / variances[3]:.2f}")


if __name__ == "__main__":
    main()
