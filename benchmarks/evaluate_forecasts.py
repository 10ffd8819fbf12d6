"""How good are the sampled futures? CRPS and interval coverage beside the baselines.

    python benchmarks/evaluate_forecasts.py --store LAKE --start 2016-01-15 --end 2016-12-31

Every model forecasts the same windows: `--dates` sessions spread over the range, `--symbols`
symbols with complete bars around each. Scores are of the close relative to the last known close,
in percent. CRPS is the fair ensemble estimator (Ferro 2014), lower is better; coverage is the
share of closes inside the 10–90 % quantiles of the paths, 0.80 is right. `repaired` is the share of
sampled bars that broke a bar rule. Intraday bars are forecast after the first bar of each session.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

import numpy as np
import scoringrules

from forecaster import SamplingParams, WindowBatch, load_forecaster
from forecaster.interface import CLOSE
from forecaster.training.config import DataSettings
from forecaster.training.data.pools import TrainingSeries, unbroken_runs
from forecaster.training.data.splits import is_held_out
from market.lake.history import MarketHistory

STEPS = (1, 5, 10, 20)


def windows(
    store: Path, start: date, end: date, n_dates: int, n_symbols: int, lookback: int, horizon: int,
    held_out: float | None, max_gap_days: int,
) -> tuple[list[WindowBatch], list[np.ndarray]]:  # fmt: skip
    """One batch per date, and what really happened, (B, H) closes."""
    history = MarketHistory.open(store)
    sessions = history.sessions(start, end)[:-horizon]
    chosen = [sessions[i] for i in np.linspace(0, len(sessions) - 1, n_dates).round().astype(int)]
    names = history.symbols()["symbol"].to_list()
    if held_out is not None:
        names = [name for name in names if is_held_out(name, held_out)]
    everything = history.series(names)
    rules = DataSettings(
        train_through=start, validation_through=date.max, purge_bars=0, max_gap_days=max_gap_days
    )
    batches, actuals = [], []
    for k, session in enumerate(chosen):
        rng = np.random.default_rng([2016, k])
        picked = []
        for series in everything:
            at = int(np.searchsorted(series.sessions_N, np.datetime64(session)))
            if at >= len(series.sessions_N) or series.sessions_N[at] != np.datetime64(session):
                continue
            rows = slice(at + 1 - lookback, at + 1 + horizon)
            if rows.start < 0 or rows.stop > len(series.sessions_N):
                continue
            cut = TrainingSeries(series.symbol, series.timestamps_N[rows], series.values_NF[rows])
            if len(unbroken_runs(cut, rules)) == 1:
                picked.append((cut, series.close_utc_N[at]))
        if not picked:
            continue
        if len(picked) > n_symbols:
            picked = [picked[i] for i in sorted(rng.choice(len(picked), n_symbols, replace=False))]
        values = np.stack([cut.values_NF for cut, _ in picked])
        labels = np.stack([cut.timestamps_N for cut, _ in picked])
        batches.append(
            WindowBatch(
                symbols=tuple(cut.symbol for cut, _ in picked),
                as_of_B=np.array([close for _, close in picked]),
                values_BLF=values[:, :lookback],
                timestamps_BL=labels[:, :lookback],
                future_BH=labels[:, lookback:],
            )
        )
        actuals.append(values[:, lookback:, CLOSE])
    return batches, actuals


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--store", type=Path, required=True)
    parse.add_argument("--start", type=date.fromisoformat, required=True)
    parse.add_argument("--end", type=date.fromisoformat, required=True)
    parse.add_argument("--dates", type=int, default=6)
    parse.add_argument("--symbols", type=int, default=100)
    parse.add_argument("--lookback", type=int, default=256)
    parse.add_argument("--horizon", type=int, default=20)
    parse.add_argument("--paths", type=int, default=64)
    parse.add_argument("--top-p", type=float, nargs="+", default=[0.9, 1.0])
    parse.add_argument("--held-out", type=float, help="only symbols that this share holds out")
    parse.add_argument(
        "--max-gap-days", type=int, default=10, help="longer holes end a window (China: 15)"
    )
    parse.add_argument("--models", nargs="+", default=["random-walk", "bootstrap", "nano"])
    parse.add_argument("--threads", type=int, default=1)
    args = parse.parse_args()

    batches, actuals = windows(
        args.store, args.start, args.end, args.dates, args.symbols, args.lookback, args.horizon,
        args.held_out, args.max_gap_days,
    )  # fmt: skip
    dates = ", ".join(str(batch.as_of_B[0])[:10] for batch in batches)
    print(f"{sum(map(len, batches))} windows at {dates}; {args.paths} paths")
    steps = [step for step in STEPS if step <= args.horizon]
    head = " | ".join(f"CRPS {step}" for step in steps)
    print(f"\n| model | top_p | {head} | mean CRPS | 80 % coverage | coverage 1 … {steps[-1]} "
          "| repaired |")  # fmt: skip
    print("|---|---:|" + "---:|" * (len(steps) + 4))
    for model in args.models:
        forecaster = load_forecaster(model, threads=args.threads).forecaster
        for top_p in args.top_p if model not in ("random-walk", "bootstrap") else [1.0]:
            crps, inside, repaired = [], [], 0
            for batch, actual_BH in zip(batches, actuals, strict=True):
                paths = forecaster.sample_paths(
                    batch, n_paths=args.paths, sampling=SamplingParams(top_p=top_p), seed=1
                )
                repaired += int(paths.repaired_B.sum())
                scale_B1 = 100 / paths.last_close_B[:, None]
                closes_BHS = np.moveaxis(paths.values_BSHF[..., CLOSE], 1, 2) * scale_B1[..., None]
                observed_BH = actual_BH * scale_B1
                crps.append(
                    scoringrules.crps_ensemble(
                        observed_BH, closes_BHS.astype(np.float64), estimator="fair"
                    )
                )
                low, high = np.quantile(closes_BHS, [0.1, 0.9], axis=-1)
                inside.append((low <= observed_BH) & (observed_BH <= high))
            crps_H = np.concatenate(crps).mean(axis=0)
            inside_H = np.concatenate(inside).mean(axis=0)
            at = " | ".join(f"{crps_H[step - 1]:.4g}" for step in steps)
            ends = " … ".join(f"{inside_H[step - 1]:.2f}" for step in steps)
            share = repaired / (len(inside_H) * args.paths * sum(map(len, batches)))
            print(
                f"| {model} | {top_p} | {at} | {crps_H.mean():.4g} | {inside_H.mean():.2f} "
                f"| {ends} | {share:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
