"""Top-k dropout on Qlib's simulated exchange, step for step.

Behaviour of Qlib 0.9.7 (TopkDropoutStrategy on SimulatorExecutor, region cn), re-implemented from
its observed results and held to them in tests. Its known peculiarities are kept here and nowhere
else: a sell that fails lets the holdings exceed topk, `risk_degree` scales cash rather than equity,
n_drop = 0 sells everything, the cash of a buy that cannot trade is not handed to the others, and
the price limit is judged by the change of that day's *close*.

Legend: T bars, N symbols.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isnan
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
CHINA_LIMIT = 0.095
LEAST_PRICE = 1e-8
"""A deal price not above this counts as missing, and the close is taken."""


class _Exchange(NamedTuple):
    deal_TN: Any
    close_TN: Any
    change_TN: Any
    volume_TN: Any
    factor_N: Any
    limit: float
    forbid_all: bool
    impact: float
    open_cost: float
    close_cost: float
    min_cost: float
    unit: float


@dataclass(frozen=True)
class QlibSettings:
    """Settings of strategy and exchange, under Qlib's names."""

    topk: int = 50
    n_drop: int = 5
    hold_thresh: int = 1
    """Least bars a name is held."""
    only_tradable: bool = False
    forbid_all_trade_at_limit: bool = True
    account: float = 1e8
    impact_cost: float = 0.0
    """Cost ratio of an order as large as the bar, falling with the square of its share."""
    limit_threshold: float | None = None
    """None takes the default of region cn, CHINA_LIMIT; infinity is no limit."""
    open_cost: float = 0.0005
    close_cost: float = 0.0015
    min_cost: float = 5.0
    trade_unit: float = 100.0
    risk_degree: float = 0.95

    def __post_init__(self) -> None:
        if self.topk < 1 or self.n_drop < 0 or self.n_drop > self.topk:
            raise BacktestInputError(
                f"topk {self.topk}, n_drop {self.n_drop}: rule 0 <= n_drop <= topk, topk >= 1"
            )


@dataclass(frozen=True)
class QlibReport:
    """One value per step; fractions are of the account at the step before."""

    account: Float
    returns: Float
    """Before costs, as Qlib reports them."""
    turnover: Float
    cost: Float
    value: Float
    """Positions at their last close."""
    cash: Float
    amounts: Float
    """Shares held at the end of each step, (steps, symbols)."""


def qlib_topk_dropout(
    score_TN: Float,
    deal_TN: Float,
    close_TN: Float,
    change_TN: Float,
    volume_TN: Float,
    factor_N: Float,
    settings: QlibSettings,
    *,
    first: int = 1,
    last: int | None = None,
) -> QlibReport:
    """Run steps first..last (inclusive); step t trades on the scores of t − 1.

    Prices are adjusted and factor_N is adjusted / raw price, so that lots are of raw shares.
    close_TN NaN: suspended. change_TN: close over the previous close − 1.
    Raises BacktestInputError for steps outside the bars.
    """
    last = len(close_TN) - 1 if last is None else last
    if not 1 <= first <= last < len(close_TN):
        raise BacktestInputError(f"steps {first} to {last}: rule 1 <= first <= last < bars")
    s = settings
    exchange = _Exchange(
        deal_TN, close_TN, change_TN, volume_TN, factor_N,
        CHINA_LIMIT if s.limit_threshold is None else s.limit_threshold,
        s.forbid_all_trade_at_limit, s.impact_cost, s.open_cost, s.close_cost, s.min_cost,
        s.trade_unit,
    )  # fmt: skip
    out_6T = np.zeros((6, last - first + 1))
    amounts = np.zeros((last - first + 1, close_TN.shape[1]))
    _walk_nb(
        exchange, score_TN, s.topk, s.n_drop, s.hold_thresh, s.only_tradable, s.account,
        s.risk_degree, first, last, out_6T, amounts,
    )  # fmt: skip
    account, returns, turnover, cost, value, cash = out_6T
    return QlibReport(account, returns, turnover, cost, value, cash, amounts)


def risk_analysis(
    return_T: Float, *, product: bool = False, bars_per_year: float = 238
) -> dict[str, float]:
    """Qlib's summary of a return series: mean, std (ddof 1), annualised_return, information_ratio
    and max_drawdown, by sums or, with `product`, geometrically."""
    if product:
        curve: Any = np.cumprod(1 + return_T)
        mean = float(curve[-1] ** (1 / len(return_T)) - 1)
        std = float(np.std(np.log1p(return_T), ddof=1))
        annual = float((1 + mean) ** bars_per_year - 1)
        fall: Any = curve / np.maximum.accumulate(curve) - 1
    else:
        curve = np.cumsum(return_T)
        mean, std = float(np.mean(return_T)), float(np.std(return_T, ddof=1))
        annual = mean * bars_per_year
        fall = curve - np.maximum.accumulate(curve)
    return {
        "mean": mean,
        "std": std,
        "annualized_return": annual,
        "information_ratio": mean / std * bars_per_year**0.5,
        "max_drawdown": float(fall.min()),
    }


@njit(cache=True, nogil=True, error_model="numpy")
def _before(score_N: Any, a: int, b: int) -> bool:
    """Whether a ranks before b: higher score, NaN last, ties by the lower column."""
    x, y = score_N[a], score_N[b]
    if isnan(x) or isnan(y):
        return a < b if isnan(x) and isnan(y) else isnan(y)
    return a < b if x == y else x > y


@njit(cache=True, nogil=True, error_model="numpy")
def _insert(score_N: Any, ranked: Any, n: int, most: int, c: int) -> int:
    """Put c into the best-first list of n, keeping the best `most`; the new length."""
    if n == most:
        if n == 0 or not _before(score_N, c, ranked[n - 1]):
            return n
        n -= 1
    i = n - 1
    while i >= 0 and _before(score_N, c, ranked[i]):
        ranked[i + 1] = ranked[i]
        i -= 1
    ranked[i + 1] = c
    return n + 1


@njit(cache=True, nogil=True, error_model="numpy")
def _blocked(x: Any, t: int, c: int, side: int) -> bool:
    """side: 1 buy, -1 sell, 0 both directions must be free."""
    if isnan(x.close_TN[t, c]):
        return True
    change = x.change_TN[t, c]
    return (side >= 0 and change >= x.limit) or (side <= 0 and change <= -x.limit)


@njit(cache=True, nogil=True, error_model="numpy")
def _deal_price(x: Any, t: int, c: int) -> Any:
    price = x.deal_TN[t, c]
    return x.close_TN[t, c] if isnan(price) or price <= LEAST_PRICE else price


@njit(cache=True, nogil=True, error_model="numpy")
def _to_lots(x: Any, c: int, amount: float) -> Any:
    if x.unit <= 0:
        return amount
    return floor((amount * x.factor_N[c] + 0.1) / x.unit) * x.unit / x.factor_N[c]


@njit(cache=True, nogil=True, error_model="numpy")
def _deal(
    x: Any, t: int, c: int, amount: float, cash: float, buy: bool
) -> tuple[float, float, float]:
    """(amount, value, cost) an order of `amount` trades; a sale here is of a whole position."""
    price = _deal_price(x, t, c)
    value, bar_value = amount * price, x.volume_TN[t, c] * price
    share = 1.0 if isnan(bar_value) or bar_value == 0 else (value / bar_value) ** 2
    ratio = (x.open_cost if buy else x.close_cost) + x.impact * share
    fee = max(value * ratio, x.min_cost)
    if buy:
        if cash < fee:
            amount = 0.0
        elif cash < value + fee:
            if cash >= x.min_cost / ratio + x.min_cost:
                most = cash / (1 + ratio) / price
            else:
                most = (cash - x.min_cost) / price
            amount = _to_lots(x, c, min(most, amount))
        else:
            amount = _to_lots(x, c, amount)
    elif cash + value < fee:
        amount = 0.0
    value = amount * price
    return amount, value, 0.0 if value <= 1e-5 else max(value * ratio, x.min_cost)


@njit(cache=True, nogil=True, error_model="numpy")
def _walk_nb(
    x: Any,
    score_TN: Any,
    topk: int,
    n_drop: int,
    hold_thresh: int,
    only_tradable: bool,
    account: float,
    risk_degree: float,
    first: int,
    last: int,
    out_6T: Any,
    amounts_TN: Any,
) -> None:
    n = score_TN.shape[1]
    amount_N, mark_N = np.zeros(n), np.zeros(n)
    bars_N = np.zeros(n, np.int64)
    today_N, comb_N = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    to_sell_N, buys_N, quantity_N = np.zeros(n, np.bool_), np.empty(n, np.int64), np.empty(n)
    held_N = np.empty(n, np.int64)
    cash, before = account, account
    for t in range(first, last + 1):
        score_N = score_TN[t - 1]
        n_held, any_score = 0, False
        for c in range(n):
            any_score = any_score or not isnan(score_N[c])
            if amount_N[c] > 0:
                held_N[n_held] = c
                n_held += 1
        traded, cost, n_buys = 0.0, 0.0, 0
        if any_score:
            want = n_drop + topk - n_held
            most, n_today = want if want >= 0 else n, 0
            for c in range(n):
                if amount_N[c] == 0 and not (only_tradable and _blocked(x, t, c, 0)):
                    n_today = _insert(score_N, today_N, n_today, most, c)
            if want < 0:
                n_today = max(n_today + want, 0)
            n_comb = 0
            for i in range(n_held):
                n_comb = _insert(score_N, comb_N, n_comb, n, held_N[i])
            for i in range(n_today):
                n_comb = _insert(score_N, comb_N, n_comb, n, today_N[i])
            n_sell, seen = 0, 0
            for i in range(n_comb - 1, -1, -1):
                if seen == n_drop and n_drop > 0:
                    break
                c = comb_N[i]
                if only_tradable and _blocked(x, t, c, 0):
                    continue
                seen += 1
                if amount_N[c] > 0:
                    to_sell_N[c] = True
                    n_sell += 1
            n_buys = n_sell + topk - n_held
            n_buys = min(n_buys, n_today) if n_buys >= 0 else max(n_today + n_buys, 0)
            for i in range(n_held):
                c = held_N[i]
                if not to_sell_N[c]:
                    continue
                to_sell_N[c] = False
                if _blocked(x, t, c, 0 if x.forbid_all else -1) or bars_N[c] < hold_thresh:
                    continue
                amount, value, fee = _deal(x, t, c, amount_N[c], cash, False)
                cash += value - fee
                traded += value
                cost += fee
                amount_N[c] = amount_N[c] - amount
                if abs(amount_N[c]) < 1e-5:
                    amount_N[c], bars_N[c] = 0.0, 0
            each = cash * risk_degree / n_buys if n_buys > 0 else 0.0
            at = 0
            for i in range(n_buys):
                c = today_N[i]
                if not _blocked(x, t, c, 0 if x.forbid_all else 1):
                    buys_N[at], quantity_N[at] = c, _to_lots(x, c, each / _deal_price(x, t, c))
                    at += 1
            for i in range(at):
                c = buys_N[i]
                amount, value, fee = _deal(x, t, c, quantity_N[i], cash, True)
                if amount > 0:
                    cash -= value + fee
                    traded += value
                    cost += fee
                    amount_N[c] += amount
        worth = 0.0
        for c in range(n):
            if amount_N[c] > 0:
                if not isnan(x.close_TN[t, c]):
                    mark_N[c] = x.close_TN[t, c]
                worth += amount_N[c] * mark_N[c]
                bars_N[c] += 1
            amounts_TN[t - first, c] = amount_N[c]
        now = cash + worth
        at = t - first
        out_6T[0, at], out_6T[1, at] = now, (now - before + cost) / before
        out_6T[2, at], out_6T[3, at] = traded / before, cost / before
        out_6T[4, at], out_6T[5, at] = worth, cash
        before = now
