"""Are sampled paths right about what a portfolio needs? Walk-forward, beside simple baselines.

    python benchmarks/evaluate_paths.py --store LAKE --start 2016-01-04 --end 2017-02-07 \
        --dates 52 --symbols 60

Windows, dates and CRPS are those of evaluate_forecasts.py. Added are four baselines without drift
(random walk, bootstrap, Gaussian and filtered historical simulation on EWMA volatility, decay
0.94), and per model:

- CRPS of the close relative to the driftless bootstrap's, and t of the difference of their mean
  over all steps, from one number per date (Newey & West 1987, as many lags as windows overlap);
- 80 %: share of closes inside the paths' 10 and 90 % quantiles (type 6), all steps;
- QLIKE of the realised variance of the whole horizon against the paths' mean (Patton 2011);
- VR: variance of the log return over the horizon by the summed variances of its steps, of the
  paths, pooled over windows after dividing by each window's volatility; `actual` is the bars';
- slope: of the mean forecast at the last step, in percent, on the last close's z-score in its
  lookback: what it says of reversion to the mean;
- repaired: bars that broke a rule; floored: paths that reached the price floor.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scoringrules
from evaluate_forecasts import windows

from forecaster import SamplingParams, WindowBatch, load_forecaster
from forecaster.interface import CLOSE, Forecaster
from forecaster.repair import FLOOR

Array = npt.NDArray[np.float64]
DECAY = 0.94
BASELINES = ("bootstrap-0", "random-walk-0", "ewma", "fhs")


class Paths(NamedTuple):
    """Closes relative to the last known one, (B, S, H), and how many bars were repaired."""

    closes_BSH: Array
    repaired: int


def baseline(name: str, batch: WindowBatch, n_paths: int, rng: np.random.Generator) -> Paths:
    """Paths of a baseline without drift."""
    close_BL = batch.values_BLF[..., CLOSE]
    returns_BL = np.diff(np.log(close_BL), axis=1)
    b, length = returns_BL.shape
    shape = (b, n_paths, batch.horizon)

    def drawn(values_BL: Array) -> Array:
        centred_BL = values_BL - values_BL.mean(axis=1, keepdims=True)
        chosen = rng.integers(0, length, (b, n_paths * batch.horizon))
        return np.take_along_axis(centred_BL, chosen, axis=1).reshape(shape)

    if name == "bootstrap-0":
        steps_BSH = drawn(returns_BL)
    elif name == "random-walk-0":
        steps_BSH = rng.standard_normal(shape) * returns_BL.std(axis=1, ddof=1)[:, None, None]
    else:
        variance_BL = np.empty(returns_BL.shape)
        now_B = (returns_BL**2).mean(axis=1)
        for t in range(length):
            variance_BL[:, t] = now_B
            now_B = DECAY * now_B + (1 - DECAY) * returns_BL[:, t] ** 2
        if name == "ewma":
            steps_BSH = rng.standard_normal(shape) * np.sqrt(now_B)[:, None, None]
        else:
            steps_BSH = drawn(returns_BL / np.sqrt(np.maximum(variance_BL, 1e-16)))
            now_BS = np.repeat(now_B[:, None], n_paths, axis=1)
            for h in range(batch.horizon):
                steps_BSH[..., h] *= np.sqrt(now_BS)
                now_BS = DECAY * now_BS + (1 - DECAY) * steps_BSH[..., h] ** 2
    return Paths(np.exp(np.cumsum(steps_BSH, axis=-1)), 0)


def sampled(forecaster: Forecaster, batches: list[WindowBatch], n_paths: int) -> list[Paths]:
    """Paths of a model, all dates in one call: a date of few symbols would fill no tile."""
    whole = WindowBatch(
        tuple(symbol for b in batches for symbol in b.symbols),
        *(
            np.concatenate([getattr(b, name) for b in batches])
            for name in ("as_of_B", "values_BLF", "timestamps_BL", "future_BH")
        ),
    )
    paths = forecaster.sample_paths(
        whole, n_paths=n_paths, sampling=SamplingParams(top_p=1.0), seed=1
    )
    closes_BSH = paths.values_BSHF[..., CLOSE].astype(np.float64)
    closes_BSH /= paths.last_close_B[:, None, None]
    ends = np.cumsum([len(b) for b in batches])[:-1]
    return [
        Paths(closes, int(repaired.sum()))
        for closes, repaired in zip(
            np.split(closes_BSH, ends), np.split(paths.repaired_B, ends), strict=True
        )
    ]


class Scores(NamedTuple):
    """Of one batch, which is one date."""

    crps_BH: Array
    inside_BH: npt.NDArray[np.bool_]
    qlike_B: Array
    variances: Array
    """Variance over the whole horizon and summed over steps, of paths, then of the bars."""
    mean_B: Array
    floored: int


def score(paths: Paths, batch: WindowBatch, actual_BH: Array) -> Scores:
    closes_BSH = paths.closes_BSH
    last_B1 = batch.values_BLF[:, -1:, CLOSE]
    observed_BH = actual_BH / last_B1
    closes_BHS = np.moveaxis(closes_BSH, 1, 2)
    low_BH, high_BH = np.quantile(closes_BHS, [0.1, 0.9], axis=-1, method="weibull")
    floored_BSH = np.maximum(closes_BSH, FLOOR)
    steps_BSH = np.diff(np.log(floored_BSH), axis=-1, prepend=0.0)
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


def newey_west_t(value_D: Array, lags: int) -> float:
    """t of the mean of one number per date, Bartlett weights."""
    centred_D = value_D - value_D.mean()
    n = len(value_D)
    variance = (centred_D**2).sum() / n
    for lag in range(1, min(lags, n - 1) + 1):
        overlap = (centred_D[lag:] * centred_D[:-lag]).sum() / n
        variance += 2 * (1 - lag / (lags + 1)) * overlap
    return float(value_D.mean() / np.sqrt(max(variance, 1e-18) / n))


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
    parse.add_argument("--held-out", type=float, help="only symbols that this share holds out")
    parse.add_argument("--max-gap-days", type=int, default=10)
    parse.add_argument("--models", nargs="+", default=["nano"])
    parse.add_argument("--threads", type=int, default=1)
    args = parse.parse_args()
    batches, actuals = windows(
        args.store, args.start, args.end, args.dates, args.symbols, args.lookback, args.horizon,
        args.held_out, args.max_gap_days,
    )  # fmt: skip
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
    steps = [step for step in (1, 5, 10, 20) if step <= args.horizon]
    print("| model | " + " | ".join(f"CRPS {s}" for s in steps) + " | mean | ratio 1 | ratio 20 "
          "| ratio mean | t | 80 % | QLIKE | VR | slope | repaired | floored |")  # fmt: skip
    print("|---|" + "---:|" * (len(steps) + 11))
    reference: list[Array] = []
    for model in (*BASELINES, *args.models):
        forecaster = None
        if model not in BASELINES:
            forecaster = load_forecaster(model, threads=args.threads).forecaster
        scores, repaired = [], 0
        if forecaster is None:
            drawn = [
                baseline(model, b, args.paths, np.random.default_rng([15, k]))
                for k, b in enumerate(batches)
            ]
        else:
            drawn = sampled(forecaster, batches, args.paths)
        for paths, batch, actual_BH in zip(drawn, batches, actuals, strict=True):
            repaired += paths.repaired
            scores.append(score(paths, batch, actual_BH))
        crps_H = np.concatenate([s.crps_BH for s in scores]).mean(axis=0)
        per_date = [s.crps_BH.mean() for s in scores]
        reference = reference or [crps_H, np.array(per_date)]
        variances = np.sum([s.variances for s in scores], axis=0)
        mean_B = np.concatenate([s.mean_B for s in scores])
        whole = sum(map(len, batches)) * args.paths * args.horizon
        ratio_H = crps_H / reference[0]
        actual_ratio = variances[2] / variances[3]
        told = [f"{crps_H[s - 1]:.4g}" for s in steps]
        told += [f"{crps_H.mean():.4g}", f"{ratio_H[0]:.3f}", f"{ratio_H[-1]:.3f}"]
        told += [f"{crps_H.mean() / reference[0].mean():.4f}"]
        difference_D = np.array(per_date) - reference[1]
        told += [f"{newey_west_t(difference_D, lags):+.1f}" if difference_D.any() else "–"]
        told += [f"{np.concatenate([s.inside_BH for s in scores]).mean():.3f}"]
        told += [f"{np.concatenate([s.qlike_B for s in scores]).mean():.3f}"]
        told += [f"{variances[0] / variances[1]:.2f}", f"{np.polyfit(z_B, mean_B, 1)[0]:+.2f}"]
        told += [f"{repaired / whole:.3%}", str(sum(s.floored for s in scores))]
        print(f"| {model} | " + " | ".join(told) + " |", flush=True)
    print(f"actual VR {actual_ratio:.2f}")


if __name__ == "__main__":
    main()
