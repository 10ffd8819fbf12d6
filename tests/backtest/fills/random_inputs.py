"""Random kernel inputs with everything that can go wrong in them, and decisions to trade."""

from __future__ import annotations

import numpy as np

from backtest.fills.inputs import Inputs, Targets
from backtest.fills.rules import Unit


def random_inputs(rng: np.random.Generator, n_bars: int, n_symbols: int) -> Inputs:
    """Suspensions, zero volume, late listings, delistings, splits, dividends, sessions of bars."""
    shape = (n_bars, n_symbols)
    close = 30 * np.exp(np.cumsum(rng.normal(0, 0.03, shape), axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0, 0.03, shape))
    halted = rng.random(shape) < rng.choice([0.0, 0.05, 0.2])
    listed_at = np.where(rng.random(n_symbols) < 0.2, rng.integers(0, n_bars, n_symbols), 0)
    gone_at = np.where(rng.random(n_symbols) < 0.2, rng.integers(2, n_bars, n_symbols), n_bars)
    rows = np.arange(n_bars)[:, None]
    dead = (rows < listed_at) | (rows >= gone_at)
    close[halted | dead] = np.nan
    open_[halted | dead] = np.nan
    open_[rng.random(shape) < 0.02] = np.nan
    mark, settle_row, settle_price = (
        close.copy(),
        np.full(n_symbols, -1),
        np.full(n_symbols, np.nan),
    )
    for t in range(1, n_bars):
        mark[t] = np.where(np.isnan(mark[t]), mark[t - 1], mark[t])
    for c in np.flatnonzero((gone_at + 2 < n_bars) & np.isfinite(mark[-1])):
        settle_row[c] = gone_at[c] + 2
        settle_price[c] = mark[-1, c] * rng.choice([0.0, 0.5, 1.0])
        mark[settle_row[c] :, c] = settle_price[c]
    payouts = np.argsort(settle_row, kind="stable")
    payouts = payouts[settle_row[payouts] >= 0]
    n_actions = int(rng.integers(0, 6))
    low, high = rng.uniform(0.97, 1.0, shape), rng.uniform(1.0, 1.03, shape)
    some = lambda values: np.where(rng.random(n_symbols) < 0.5, values, np.nan)  # noqa: E731
    return Inputs(
        fill_TN=open_,
        low_TN=np.fmin(open_, close) * low,
        high_TN=np.fmax(open_, close) * high,
        volume_TN=np.where(rng.random(shape) < 0.05, 0.0, rng.uniform(10, 3000, shape)),
        sigma_TN=np.where(rng.random(shape) < 0.03, np.nan, rng.uniform(0.005, 0.05, shape)),
        factor_TN=rng.uniform(0.5, 2.0, (1, n_symbols)),
        mark_TN=mark,
        session_T=np.arange(n_bars) // int(rng.integers(1, 4)),
        settle_row_N=settle_row,
        settle_price_N=settle_price,
        payout_row_S=settle_row[payouts],
        payout_column_S=payouts,
        action_row_A=np.sort(rng.integers(1, n_bars, n_actions)),
        action_column_A=rng.integers(0, n_symbols, n_actions),
        split_A=rng.choice([1.0, 2.0, 0.5], n_actions),
        dividend_A=rng.choice([0.0, 0.4], n_actions),
        funding_A=rng.choice([0.0, 0.01, -0.01], n_actions),
        open_TN=open_,
        limit_N=some(rng.choice([0.05, 0.02, 0.0], n_symbols)),
        rate_N=some(rng.uniform(0, 0.01, n_symbols)),
        borrow_N=some(rng.uniform(0, 0.001, n_symbols)),
        thin_T=np.isfinite(open_).sum(axis=1) <= n_symbols // 2,
    )


def random_targets(
    rng: np.random.Generator, n_bars: int, n_symbols: int, *, short: bool, leverage: float
) -> Targets:
    """Decisions on some rows; a decision may list any names in any order, or none."""
    rows = np.flatnonzero(rng.random(n_bars) < rng.choice([0.1, 0.4, 1.0]))
    columns, weights, starts = [], [], [0]
    for _ in rows:
        k = int(rng.integers(0, n_symbols + 1))
        weight = rng.dirichlet(np.ones(k)) * leverage * rng.choice([0.5, 1.0]) if k else np.empty(0)
        weight[rng.random(k) < 0.1] = 0.0
        if short:
            weight *= rng.choice([-1.0, 1.0], k)
        columns.append(rng.permutation(n_symbols)[:k])
        weights.append(weight)
        starts.append(starts[-1] + k)
    return Targets(
        set_S1=np.array([0, len(rows)]),
        row_R=rows,
        start_R1=np.array(starts),
        column_M=np.concatenate([*columns, np.empty(0, np.int64)]).astype(np.int64),
        weight_M=np.concatenate([*weights, np.empty(0)]),
    )


def random_orders(rng: np.random.Generator, targets: Targets) -> Targets:
    """The same names and dates as orders: shares, values, percents, entries and exits, some with a
    limit price."""
    n = len(targets.column_M)
    scale = {Unit.SHARES: 40.0, Unit.VALUE: 3000.0}
    units = rng.choice([int(unit) for unit in Unit if unit != Unit.TARGET], n)
    signs = np.where(np.isin(units, (Unit.ENTER, Unit.EXIT)), 1.0, rng.choice([-1.0, 1.0, 1.0], n))
    sizes = np.array([scale.get(Unit(unit), 1.0) for unit in units])
    limits = np.where(rng.random(n) < 0.5, 30 * np.exp(rng.normal(0, 0.2, n)), np.nan)
    return targets._replace(
        weight_M=np.abs(targets.weight_M) * sizes * signs, unit_M=units, limit_M=limits
    )
