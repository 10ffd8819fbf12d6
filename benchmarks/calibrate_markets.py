"""Is the calibrated forecast better than simple ones? Walk-forward, on one market's store.

    python benchmarks/calibrate_markets.py --store LAKE --start 2016-02-01 --end 2017-01-06 \
        --stride 2 --dates 115 --symbols 6 --paths 32

The model forecasts `--symbols` symbols, drawn anew at each of `--dates` dates, `--stride` sessions
apart (with `--hours`, as many hours). Behind the first 60 dates whose horizon has ended, every
date's forecasts are calibrated with a fit on what was known by then, refitted every `--refit`
dates, and scored beside the raw ones and the baselines. Ratios are of the CRPS, per date first;
t is Newey-West over overlapping horizons, plus is worse. `published` is what the gate would have
published. `--keep FILE` stores the forecasts, so that judging again takes seconds;
`--symbols` then takes the first so many of those drawn at each date.
"""

from __future__ import annotations

import argparse
from datetime import UTC, date
from pathlib import Path

import numpy as np

from cluster.settings import USUAL_BASELINES
from forecaster import SamplingParams, WindowBatch, load_forecaster
from forecaster.calibration import MIN_DATES, MODEL, PastForecasts, calibrate
from forecaster.calibration.closes import calibrated_closes
from forecaster.calibration.past import POOLED, fit_steps
from forecaster.calibration.paths import bar_volatility, baseline_paths, log_closes
from forecaster.calibration.spread import path_volatility
from forecaster.hac import date_mean, per_date
from forecaster.quantiles import ensemble_quantiles
from forecaster.scores import window_crps
from market.calendars import future_timestamps
from market.lake.history import MarketHistory
from market.lake.universe import draw
from market.spec import AsOf
from market.windows import eligibility, view, window_at

AT_ONCE = 32
CANDIDATES = tuple(dict.fromkeys((*USUAL_BASELINES, *POOLED)))


def moments(history: MarketHistory, args: argparse.Namespace) -> list[AsOf]:
    if not args.hours:
        days = history.sessions(args.start, args.end)[:: args.stride][-args.dates :]
        return [history.resolve_as_of(day) for day in days]
    longest = max(history.series(), key=len)
    close = longest.close_utc_N
    inside = (close >= np.datetime64(args.start)) & (close <= np.datetime64(args.end))
    whole = (close - close[0]) % np.timedelta64(args.stride, "h") == np.timedelta64(0, "us")
    return [
        AsOf(longest.sessions_N[i].item(), close[i].item().replace(tzinfo=UTC))
        for i in np.flatnonzero(inside & whole)[-args.dates :]
    ]


def forecast(args: argparse.Namespace) -> PastForecasts:
    """The model's and the baselines' closes of every window, with outcomes."""
    history = MarketHistory.open(args.store)
    series = {each.symbol: each for each in history.series()}
    sessions = np.array(history.sessions(), dtype="datetime64[D]")
    model = load_forecaster(args.model, threads=args.threads).forecaster
    rows = []
    for as_of in moments(history, args):
        able = [
            name
            for name, one in series.items()
            if eligibility(one, as_of, args.lookback, sessions=sessions,
                           max_gap_sessions=args.max_gap_sessions) is None
        ]  # fmt: skip
        rows += [(as_of, series[name]) for name in draw(able, as_of, args.symbols)]
    members: dict[str, list[np.ndarray]] = {}
    sigma, actual, ended = [], [], []
    for first in range(0, len(rows), AT_ONCE):
        part = rows[first : first + AT_ONCE]
        cut = [(one, window_at(one, as_of, args.lookback)) for as_of, one in part]
        labels = np.stack([one.timestamps_N[w.first : w.last] for one, w in cut])
        windows = WindowBatch(
            tuple(one.symbol for one, _ in cut),
            np.array([as_of.close_us for as_of, _ in part]),
            np.stack([view(one, w) for one, w in cut]),
            labels,
            np.stack([future_timestamps(history.spec, row, args.horizon) for row in labels]),
        )
        raw = model.sample_paths(windows, n_paths=args.paths, sampling=SamplingParams(), seed=0)
        for name, paths in (
            {MODEL: raw} | baseline_paths(CANDIDATES, windows, args.paths, 0)
        ).items():
            members.setdefault(name, []).append(log_closes(paths))
        sigma.append(bar_volatility(windows.values_BLF))
        for one, w in cut:
            steps = np.arange(w.last, w.last + args.horizon)
            inside = steps < len(one)
            steps = np.minimum(steps, len(one) - 1)
            at = np.searchsorted(sessions, one.sessions_N[np.concatenate(([w.last - 1], steps))])
            known = inside & np.logical_and.accumulate(np.diff(at) - 1 <= args.max_gap_sessions)
            log = np.log(one.values_NF[steps, 3] / one.values_NF[w.last - 1, 3])
            actual.append(np.where(known, log, np.nan))
            ended.append(np.where(known, one.close_utc_N[steps], np.datetime64("NaT", "us")))
        print(f"{min(first + AT_ONCE, len(rows))} of {len(rows)} windows", end="\r", flush=True)
    return PastForecasts(
        symbols=tuple(one.symbol for _, one in rows),
        as_of_N=np.array([as_of.close_us for as_of, _ in rows]),
        members={name: np.concatenate(parts) for name, parts in members.items()},
        sigma_N=np.concatenate(sigma),
        actual_NH=np.stack(actual),
        ended_NH=np.stack(ended),
    )


def first_drawn(past: PastForecasts, symbols: int) -> PastForecasts:
    """The windows whose symbols were among the first drawn at their date."""
    start_N = np.searchsorted(past.as_of_N, past.as_of_N)
    return past.rows(np.arange(len(past)) - start_N < symbols)


def walk(past: PastForecasts, refit: int) -> tuple[PastForecasts, list[str]]:
    """Later dates with two more sources, `calibrated` and `published`; what was published."""
    days = past.as_of_D
    first = next(d for d in range(len(days)) if past.known_by(days[d]).complete_dates >= MIN_DATES)
    kept: dict[str, list[np.ndarray]] = {"calibrated": [], "published": []}
    chosen: list[str] = []
    for start in range(first, len(days), refit):
        fitted = calibrate(past.known_by(days[start]))
        assert fitted.calibration is not None
        block = past.rows((past.date_N >= start) & (past.date_N < start + refit))
        parts = [block.members[name] for name in (MODEL, *POOLED)]
        made = calibrated_closes(parts, block.sigma_N, fitted.calibration).close_NSH
        kept["calibrated"].append(made)
        sources = {"raw": block.members[MODEL], "calibrated": made} | dict(block.members)
        kept["published"].append(sources[fitted.published])
        chosen.append(fitted.published)
    test = past.rows(past.date_N >= first)
    more = {name: np.concatenate(parts) for name, parts in kept.items()}
    test = PastForecasts(
        test.symbols, test.as_of_N, dict(test.members) | more, test.sigma_N, test.actual_NH,
        test.ended_NH,
    )  # fmt: skip
    return test, chosen


def judge(test: PastForecasts) -> None:
    at = fit_steps(test.horizon) - 1
    n_dates = len(test.as_of_D)
    crps = {
        name: window_crps(each[..., at], test.actual_NH[:, at]) / test.unit_NH[:, at]
        for name, each in test.members.items()
    }

    def dates(name: str, k: int) -> np.ndarray:
        return per_date(crps[name][:, k], test.date_N, n_dates)

    def ratio(name: str, base: str, k: int) -> float:
        return date_mean(dates(name, k), 0).mean / date_mean(dates(base, k), 0).mean

    simple = min(CANDIDATES, key=lambda name: ratio(name, "random-walk", 0))
    actual = path_volatility(test.actual_NH[:, None])
    whole = np.isfinite(actual)
    print(f"\n{len(test)} windows on {n_dates} dates, {test.as_of_D[0]!s:.10} to "
          f"{test.as_of_D[-1]!s:.10}; best at step 1: {simple}")  # fmt: skip
    print("| forecast | CRPS / random walk | t, last step | / driftless bootstrap | step 1 / "
          f"{simple} | 80% covers: step 1, last, all | path volatility |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in (MODEL, "calibrated", "published", *CANDIDATES):
        walk_ratio = np.mean([ratio(name, "random-walk", k) for k in range(len(at))])
        boot_ratio = np.mean([ratio(name, "bootstrap-driftless", k) for k in range(len(at))])
        t = date_mean(dates(name, -1) - dates("random-walk", -1), int(test.overlap_H[at[-1]])).t
        ordered = np.moveaxis(np.sort(test.members[name].astype(np.float64), axis=1), 1, 0)
        low, high = ensemble_quantiles(ordered, (0.1, 0.9))
        inside = np.where(np.isfinite(test.actual_NH),
                          (low <= test.actual_NH) & (test.actual_NH <= high), np.nan)  # fmt: skip
        cover = [np.nanmean(inside[:, 0]), np.nanmean(inside[:, -1]), np.nanmean(inside)]
        moved = path_volatility(test.members[name].astype(np.float64))[whole].mean()
        print(f"| {name} | {walk_ratio:.3f} | {t:+.1f} | {boot_ratio:.3f} | "
              f"{ratio(name, simple, 0):.3f} | {cover[0]:.2f}, {cover[1]:.2f}, {cover[2]:.2f} | "
              f"{moved / actual[whole].mean():.2f} |")  # fmt: skip


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--store", type=Path, required=True)
    parse.add_argument("--start", type=date.fromisoformat, required=True)
    parse.add_argument("--end", type=date.fromisoformat, required=True)
    parse.add_argument("--stride", type=int, default=5)
    parse.add_argument("--hours", action="store_true", help="--stride counts hours")
    parse.add_argument("--dates", type=int, default=120)
    parse.add_argument("--symbols", type=int, default=6)
    parse.add_argument("--paths", type=int, default=64)
    parse.add_argument("--lookback", type=int, default=256)
    parse.add_argument("--horizon", type=int, default=20)
    parse.add_argument("--max-gap-sessions", type=int, default=5)
    parse.add_argument("--model", default="nano")
    parse.add_argument("--refit", type=int, default=5, help="dates between fits")
    parse.add_argument("--threads", type=int, default=1)
    parse.add_argument("--keep", type=Path, help="file of the forecasts; read where it exists")
    args = parse.parse_args()
    if args.keep is not None and args.keep.exists():
        held = np.load(args.keep)
        past = PastForecasts(
            tuple(held["symbols"]), held["as_of"],
            {k[2:]: held[k] for k in held.files if k.startswith("m_")},
            held["sigma"], held["actual"], held["ended"],
        )  # fmt: skip
    else:
        past = forecast(args)
        if args.keep is not None:
            np.savez_compressed(
                args.keep, symbols=past.symbols, as_of=past.as_of_N, sigma=past.sigma_N,
                actual=past.actual_NH, ended=past.ended_NH,
                **{f"m_{name}": each for name, each in past.members.items()},
            )  # fmt: skip
    test, chosen = walk(first_drawn(past, args.symbols), args.refit)
    judge(test)
    print("published, fit by fit: " + ", ".join(chosen))


if __name__ == "__main__":
    main()
