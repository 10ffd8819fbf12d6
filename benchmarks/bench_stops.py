"""How fast the backtester is with stops, beside vectorbt in the same process on the same inputs.

    python benchmarks/bench_stops.py

Made-up prices, warm, medians of --repeats runs (vectorbt: 7). Orders and daily equity of both are
compared, to 1e-9, before anything is timed.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bench_backtest import market, median

from backtest.fills.costs import Costs
from backtest.fills.inputs import MISS, ORDER, Inputs, Recorded, Targets, more_of
from backtest.fills.kernels import simulate_nb
from backtest.fills.rules import Rules, Unit, configs
from backtest.fills.stats import N_TOTALS


def with_ranges(m: Inputs, seed: int = 2) -> Inputs:
    """Lows and highs around opens and closes; orders fill at the close."""
    rng = np.random.default_rng(seed)
    open_, close = m.fill_TN, m.mark_TN
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.01, close.shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.01, close.shape)))
    return m._replace(fill_TN=close, low_TN=low, high_TN=high, open_TN=open_)


def entries_as_orders(entry_TN: np.ndarray, weight: float) -> Targets:
    """Entries of bar t as decisions of t − 1, each for this fraction of equity."""
    row_R = np.flatnonzero(entry_TN[1:].any(axis=1))
    listed = entry_TN[row_R + 1]
    n = int(listed.sum())
    return Targets(
        np.array([0, len(row_R)]), row_R, np.concatenate(([0], np.cumsum(listed.sum(axis=1)))),
        np.nonzero(listed)[1], np.full(n, weight), np.full(n, int(Unit.ENTER)), np.full(n, np.nan),
    )  # fmt: skip


def stopped(
    m: Inputs, targets: Targets, rules: Rules
) -> tuple[Callable[..., np.ndarray], np.ndarray]:
    """The simulator by these rules, as a call that records so many orders, and its equity."""
    n_bars = len(m.mark_TN)
    costs = Costs(commission_bps=10, min_fee=0, slippage_bps=0)
    many = configs([(0, costs, rules, 1e6)], 252)
    equity, cash, short, totals = *np.empty((3, n_bars)), np.zeros(N_TOTALS)
    more = more_of(m, targets, many)

    def run(record: int = 0) -> tuple[int, np.ndarray]:
        recorded = Recorded(np.zeros(record, ORDER), np.zeros(0, MISS))
        count, _ = simulate_nb(
            m, targets, many[0], 0, n_bars - 1, equity, cash, short, totals, recorded, more
        )
        return count, recorded.orders

    return run, equity


def vectorbt_signals(
    m: Inputs, entry_TN: np.ndarray, size_TN: np.ndarray, stop: dict[str, Any]
) -> Callable[..., Any]:
    """`Portfolio.from_signals` in one account, entries and stops at our prices, and its value."""
    import vectorbt as vbt

    never = np.zeros_like(entry_TN)

    def run(equity: bool = True) -> Any:
        portfolio = vbt.Portfolio.from_signals(
            m.mark_TN, entry_TN, never, open=m.open_TN, high=m.high_TN, low=m.low_TN, size=size_TN,
            fees=1e-3, init_cash=1e6, cash_sharing=True, group_by=True, freq="D", engine="numba",
            stop_entry_price="fillprice", stop_exit_price="stoplimit", upon_stop_exit="close",
            **stop,
        )  # fmt: skip
        return portfolio, portfolio.value() if equity else None

    return run


STOPS: dict[str, tuple[dict[str, float], dict[str, Any]]] = {
    "stop-loss 5%": ({"stop_loss": 0.05}, {"sl_stop": 0.05}),
    "stop-loss 5%, take-profit 10%": (
        {"stop_loss": 0.05, "take_profit": 0.1},
        {"sl_stop": 0.05, "tp_stop": 0.1},
    ),
    "trailing stop 5%": ({"trailing_stop": 0.05}, {"sl_stop": 0.05, "sl_trail": True}),
}


def stops(repeats: int) -> Iterator[str]:
    """Random entries in one account, closed by stops; the same orders by `from_signals`."""
    n_bars, n = 1250, 500
    m = with_ranges(market(n_bars, n))
    entry_TN = np.random.default_rng(3).random((n_bars, n)) < 0.01
    entry_TN[0] = False
    weight = 0.4 / n  # the cash is never used up: who gets the rest of it is another rule
    targets = entries_as_orders(entry_TN, weight)
    for name, (rule, stop) in STOPS.items():
        run, equity = stopped(m, targets, Rules(fill="close", **rule))
        _, orders = run(run()[0])
        # Our shares are fixed at the decision's close, so theirs come from our equity there, which
        # is compared with theirs below.
        size = np.full(m.mark_TN.shape, np.nan)
        size[1:] = equity[:-1, None] * weight / m.mark_TN[:-1]
        theirs = vectorbt_signals(m, entry_TN, size, stop)
        portfolio, value = theirs()
        records = portfolio.order_records
        records = records[np.lexsort((records["col"], records["idx"]))]
        orders = orders[np.lexsort((orders["column"], orders["row"]))]
        signed = np.where(records["side"] == 0, records["size"], -records["size"])
        assert np.array_equal(orders["row"], records["idx"])
        assert np.array_equal(orders["column"], records["col"])
        np.testing.assert_allclose(orders["size"], signed, rtol=1e-9)
        np.testing.assert_allclose(orders["price"], records["price"], rtol=1e-9)
        np.testing.assert_allclose(orders["fee"], records["fees"], rtol=1e-9)
        np.testing.assert_allclose(equity, np.asarray(value), rtol=1e-9)

        base = median(theirs, 7)
        alone = median(lambda: theirs(equity=False), 7)  # noqa: B023
        seconds = median(run, repeats)
        yield (
            f"random entries, {name}, {n_bars} x {n}, the same {len(orders)} orders: vectorbt "
            f"{base * 1e3:.1f} ms with its daily equity, {alone * 1e3:.1f} ms without; ours "
            f"{seconds * 1e3:.3f} ms = {base / seconds:.0f} x and {alone / seconds:.0f} x"
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=51)
    for line in stops(parser.parse_args().repeats):
        print(line, flush=True)
