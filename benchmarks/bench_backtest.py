"""How fast the backtester is, beside vectorbt in the same process on the same inputs.

    python benchmarks/bench_backtest.py            # every case, about three minutes
    python benchmarks/bench_backtest.py --case topk --case sweep
    python benchmarks/bench_stops.py               # the same with stops

Made-up prices, warm (every function has run once), medians of --repeats runs; where vectorbt runs
too, its orders or figures are compared with ours before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from backtest.fills.costs import Costs
from backtest.fills.inputs import MISS, ORDER, Inputs, Recorded, Targets
from backtest.fills.kernels import simulate_nb
from backtest.fills.many import simulate_many_nb
from backtest.fills.per_symbol import thresholds_per_symbol
from backtest.fills.qlib import QlibSettings, qlib_topk_dropout
from backtest.fills.rules import Rules, configs
from backtest.fills.stats import N_TOTALS
from backtest.fills.targets import many_targets
from backtest.fills.vectorbt_rules import vectorbt_nb
from backtest.weights.settings import Signals, StrategySettings
from backtest.weights.strategies import build_targets

COSTS = Costs(commission_bps=10, min_fee=0, slippage_bps=5)


def market(n_bars: int, n: int, dtype: Any = np.float64, seed: int = 0) -> Inputs:
    """Random walks with overnight gaps; every name trades on every bar."""
    rng = np.random.default_rng(seed)
    close = rng.standard_normal((n_bars, n), dtype=np.float32) * np.float32(0.02)
    np.cumsum(close, axis=0, out=close)
    close = (30 * np.exp(close)).astype(dtype)
    open_ = np.vstack([close[:1], close[:-1]])
    open_ *= np.exp(rng.standard_normal((1, n), dtype=np.float32) * 0.005).astype(dtype)
    none, ints, floats = np.ones((1, 1), dtype), np.empty(0, np.int64), np.empty(0)
    return Inputs(
        open_, none, none, none, none, np.ones((1, n), dtype), close, np.arange(n_bars),
        np.full(n, -1), np.full(n, np.nan), ints, ints, ints, ints, floats, floats,
    )  # fmt: skip


def decided(n_bars: int, n: int, every: int, seed: int = 1) -> Signals:
    """Random scores on every `every`-th bar."""
    row_D = np.arange(0, n_bars - 1, every)
    return Signals(row_D, np.random.default_rng(seed).normal(size=(len(row_D), n)))


def ours(m: Inputs, targets: Targets, record: int = 0) -> tuple[Callable[[], Any], Recorded]:
    """The simulator by our rules, as a call without arguments, and what it records."""
    n_bars = len(m.mark_TN)
    config = configs([(0, COSTS, Rules(), 1e6)], 252)[0]
    equity, cash, short, totals = *np.empty((3, n_bars)), np.zeros(N_TOTALS)
    recorded = Recorded(np.zeros(record, ORDER), np.zeros(0, MISS))
    return (
        lambda: simulate_nb(
            m, targets, config, 0, n_bars - 1, equity, cash, short, totals, recorded, None
        ),
        recorded,
    )


def as_vectorbt(
    m: Inputs, targets: Targets, record: int
) -> tuple[Callable[[], int], Recorded, np.ndarray]:
    """compat="vectorbt", likewise, and its equity."""
    n_bars = len(m.mark_TN)
    config = configs([(0, COSTS, Rules(), 1e6)], 252)[0]
    equity, cash = np.empty(n_bars), np.empty(n_bars)
    recorded = Recorded(np.zeros(record, ORDER), np.zeros(0, MISS))
    run = lambda: vectorbt_nb(  # noqa: E731
        m.fill_TN, m.mark_TN, targets, config, np.nan, True, 0, n_bars - 1, equity, cash, recorded
    )
    return run, recorded, equity


def vectorbt_orders(m: Inputs, targets: Targets) -> Callable[..., Any]:
    """`Portfolio.from_orders` with NaN on rows without a rebalance, and its daily value."""
    import vectorbt as vbt

    size = np.full(m.mark_TN.shape, np.nan)
    for d, row in enumerate(targets.row_R):
        span = slice(targets.start_R1[d], targets.start_R1[d + 1])
        size[row + 1] = 0.0
        size[row + 1, targets.column_M[span]] = targets.weight_M[span]

    def run(equity: bool = True) -> Any:
        portfolio = vbt.Portfolio.from_orders(
            m.mark_TN, size=size, size_type="targetpercent", direction="longonly", price=m.fill_TN,
            fees=1e-3, slippage=5e-4, init_cash=1e6, cash_sharing=True, group_by=True,
            call_seq="auto", freq="D", engine="numba",
        )  # fmt: skip
        return portfolio, portfolio.value() if equity else None

    return run


def median(run: Callable[[], object], repeats: int) -> float:
    """Median seconds of a warm call."""
    run()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def topk(repeats: int) -> Iterator[str]:
    """Weekly top-50 with daily equity, two sizes."""
    for n_bars, n, slow_repeats in ((1250, 500, 7), (2500, 2000, 3)):
        m, signals = market(n_bars, n), decided(n_bars, n, 5)
        settings = StrategySettings(k=50)
        targets = build_targets(settings, signals)
        theirs = vectorbt_orders(m, targets)
        portfolio, value = theirs()
        records = portfolio.order_records
        compat, recorded, equity = as_vectorbt(m, targets, 0)
        count = compat()
        compat_recording, recorded, equity = as_vectorbt(m, targets, count)
        compat_recording()
        signed = np.where(records["side"] == 0, records["size"], -records["size"])
        assert np.array_equal(recorded.orders["column"], records["col"])
        np.testing.assert_allclose(recorded.orders["size"], signed, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(equity, np.asarray(value), rtol=1e-9)

        default, _ = ours(m, targets)
        both = lambda: ours(m, build_targets(settings, signals))[0]()  # noqa: B023, E731
        base = median(theirs, slow_repeats)
        alone = median(lambda: theirs(equity=False), slow_repeats)  # noqa: B023
        yield (
            f"weekly top-50, {n_bars} x {n}, {count} orders: vectorbt {base * 1e3:.1f} ms with its "
            f"daily equity, {alone * 1e3:.1f} ms without"
        )
        for name, run in (
            ('compat="vectorbt", the same orders', compat),
            ("our rules", default),
            ("our rules, strategy step included", both),
        ):
            seconds = median(run, repeats)
            yield f"  {name}: {seconds * 1e3:.3f} ms = {base / seconds:,.0f} x"


def dropout(repeats: int) -> Iterator[str]:
    """Qlib's top-k dropout 50/5, daily, with limits and minimum fee."""
    m = market(1250, 500)
    close = m.mark_TN
    change = np.vstack([np.full((1, 500), np.nan), close[1:] / close[:-1] - 1])
    score = np.random.default_rng(1).normal(size=close.shape)
    run = lambda: qlib_topk_dropout(  # noqa: E731
        score, m.fill_TN, close, change, np.full(close.shape, 1e6), np.ones(500), QlibSettings()
    )
    yield f"Qlib top-k dropout 50/5 daily, 1250 x 500: {median(run, repeats) * 1e3:.1f} ms"


def thresholds(repeats: int) -> Iterator[str]:
    """Long above a threshold, per symbol, 20 settings: Sharpe ratio and drawdown of each."""
    m = market(1250, 500)
    score = np.random.default_rng(1).normal(size=m.mark_TN.shape)
    enter, leave = np.linspace(0.5, 2.0, 20), np.linspace(-0.5, -2.0, 20)
    run = lambda: thresholds_per_symbol(  # noqa: E731
        score, m.fill_TN, m.mark_TN, enter, leave, COSTS, bars_per_year=365
    )
    run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    seconds = median(run, repeats)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    import vectorbt as vbt

    up, down = np.zeros((1250, 500, 20), bool), np.zeros((1250, 500, 20), bool)
    up[1:], down[1:] = score[:-1, :, None] > enter, score[:-1, :, None] <= leave
    up, down = up.reshape(1250, 10_000), down.reshape(1250, 10_000)
    close, price = np.repeat(m.mark_TN, 20, axis=1), np.repeat(m.fill_TN, 20, axis=1)

    def theirs() -> Any:
        portfolio = vbt.Portfolio.from_signals(
            close, up, down, price=price, fees=1e-3, slippage=5e-4, init_cash=1.0,
            freq="D", engine="numba",
        )  # fmt: skip
        return portfolio, portfolio.sharpe_ratio(), portfolio.max_drawdown()

    portfolio, _, fall = theirs()
    # vectorbt counts the bar before the first return as a return of 0; we do not.
    returns = np.asarray(portfolio.returns())[1:]
    sharpe = returns.mean(axis=0) / returns.std(axis=0, ddof=1) * 365**0.5
    figures = run()
    np.testing.assert_allclose(
        np.asarray(sharpe).reshape(500, 20).T, figures.sharpe_KN, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(
        np.asarray(fall).reshape(500, 20).T, figures.max_drawdown_KN, rtol=1e-6, atol=1e-9
    )
    base = median(theirs, 3)
    yield (
        f"thresholds per symbol, 1250 x 500 x 20: vectorbt {base * 1e3:,.0f} ms, ours "
        f"{seconds * 1e3:.1f} ms = {base / seconds:.0f} x, {grown:.0f} MB above before"
    )


def sweep(repeats: int) -> Iterator[str]:
    """100 target sets x 100 cost settings, statistics of each."""
    m = market(1250, 500)
    sets = [
        build_targets(StrategySettings(k=50), decided(1250, 500, 5, seed)) for seed in range(100)
    ]
    targets = many_targets(sets)
    many = configs(
        [
            (s, Costs(commission_bps=bps, min_fee=0, slippage_bps=bps / 2), Rules(), 1e6)
            for s in range(100)
            for bps in range(100)
        ],
        252,
    )
    edges = np.linspace(0, 1249, 17).astype(np.int64)
    run = lambda: simulate_many_nb(m, targets, many, 0, 1249, 252.0, edges, None)  # noqa: E731
    yield f"sweep of 10,000 configurations, 1250 x 500: {median(run, max(repeats // 7, 2)):.2f} s"


def large(repeats: int) -> Iterator[str]:
    """10,000 bars of 5,000 symbols in float32, top-500 every 5 bars."""
    m, signals = market(10_000, 5_000, np.float32), decided(10_000, 5_000, 5)
    run, _ = ours(m, build_targets(StrategySettings(k=500), signals))
    orders = run()[0]
    yield (
        f"10,000 x 5,000 float32, top-500 every 5 bars: {median(run, repeats) * 1e3:.0f} ms, "
        f"{orders:,} orders"
    )


def start(repeats: int) -> Iterator[str]:
    """What importing costs, and the first call with an empty and a filled cache."""
    code = (
        "import time; t = time.perf_counter(); import backtest.pipeline;"
        "print(time.perf_counter() - t)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    yield f"importing backtest.pipeline: {statistics.median(seconds):.2f} s"
    first = (
        "import sys; sys.argv = ['bench']; import time; sys.path.insert(0, 'benchmarks');"
        "from bench_backtest import *; m = market(50, 20);"
        "s = build_targets(StrategySettings(k=5), decided(50, 20, 5)); run, _ = ours(m, s);"
        "t = time.perf_counter(); run(); print(time.perf_counter() - t)"
    )
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": "."}
        for name in ("empty", "filled"):
            done = subprocess.run(
                [sys.executable, "-c", first], capture_output=True, check=True, env=environment
            )
            yield f"first simulation, {name} kernel cache: {float(done.stdout):.2f} s"


CASES = {
    "start": start,
    "thresholds": thresholds,  # before anything large, for its memory
    "topk": topk,
    "dropout": dropout,
    "sweep": sweep,
    "large": large,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    for name in arguments.case or CASES:
        for line in CASES[name](arguments.repeats):
            print(line, flush=True)
