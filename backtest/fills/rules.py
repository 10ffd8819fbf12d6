"""When an order fills and how much of it. Knows numbers alone: no bars, no portfolio.

`Config` is what the kernels read: costs and rules of one configuration as a flat record.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from backtest.fills.costs import Costs
from market.settings import Settings

FillPrice = Literal["open", "close", "vwap"]

DUST = 1e-12
"""Relative size below which a difference in shares is rounding, not an order."""
LOT_SLACK = 1e-9
"""Lots short by less than this count as whole."""


class Reason(IntEnum):
    """Why an order did not trade, or not in full; NONE where it did."""

    NONE = 0
    NO_PRICE = 1
    PRICE_LIMIT = 2
    VOLUME = 3
    SAME_SESSION = 4
    NO_CASH = 5
    DELISTED = 6
    LEVERAGE = 7
    LOT = 8
    NO_VOLATILITY = 9
    NOT_LISTED = 10
    UNREACHED = 11
    MARGIN_CALL = 12
    EXITED = 13
    TOO_SMALL = 14
    NOT_HELD = 15


WORDS = {
    Reason.NO_PRICE: "no price",
    Reason.PRICE_LIMIT: "price limit",
    Reason.VOLUME: "volume",
    Reason.SAME_SESSION: "bought this session",
    Reason.NO_CASH: "no cash",
    Reason.DELISTED: "delisted",
    Reason.LEVERAGE: "leverage limit",
    Reason.LOT: "less than a lot",
    Reason.NO_VOLATILITY: "no volatility estimate",
    Reason.NOT_LISTED: "no price at the decision",
    Reason.UNREACHED: "limit price not reached",
    Reason.MARGIN_CALL: "margin call on the same bar",
    Reason.EXITED: "closed by an exit since the decision",
    Reason.TOO_SMALL: "below the least order value",
    Reason.NOT_HELD: "more than is held",
}


class Kind(IntEnum):
    """What an order came from."""

    TRADE = 0
    PAYOUT = 1
    """A delisted name's, free of cost."""
    MARGIN_CALL = 2
    STOP = 3
    TRAIL = 4
    TAKE = 5
    TIME = 6


KIND_WORDS = {
    Kind.TRADE: "decision",
    Kind.PAYOUT: "payout",
    Kind.MARGIN_CALL: "margin call",
    Kind.STOP: "stop loss",
    Kind.TRAIL: "trailing stop",
    Kind.TAKE: "take profit",
    Kind.TIME: "time exit",
}


class Unit(IntEnum):
    """What the number of an entry of `inputs.Targets` means."""

    TARGET = 0
    """Fraction of equity to hold; names not listed are sold."""
    SHARES = 1
    """Shares to buy (below 0: sell)."""
    VALUE = 2
    """Their value at the decision's close, in currency."""
    PERCENT = 3
    """Their value as a fraction of the equity at the decision."""
    ENTER = 4
    """Fraction of equity to hold; nothing is done where the name is held already."""
    EXIT = 5
    """Sell or cover all; the number is not read."""


class Rules(Settings):
    """How decisions become fills; `backtest.fills.oracle` says in which order."""

    lag: int = Field(1, ge=0)
    """Bars from the decision's close to the fill; 0 is refused unless allow_same_bar."""
    fill: FillPrice = "open"
    """Reference price on the fill bar: open, close, or vwap, the proxy (open + high + low + close)
    / 4."""
    allow_same_bar: bool = False
    """Permit lag 0, which nobody can trade; the report flags it."""
    inside_bar: bool = False
    """Keep fill prices within the bar's low and high."""
    participation: float = Field(0.0, ge=0, le=1)
    """Largest share of the fill bar's volume one order may take; 0: no cap."""
    carry: bool = False
    """Try again on the following bars what could not fill, until the next decision fills; else it
    is cancelled. What cash or leverage did not allow is never carried."""
    lot: float = Field(0.0, ge=0)
    """Raw shares per lot; 0: fractional shares. Selling out is never rounded."""
    t_plus_one: bool = False
    """Shares bought in a session cannot be sold in it."""
    limit: float = Field(0.0, ge=0, le=1)
    """Price limit as a fraction, 0.1 for 10%, of the last close of the session before, adjusted for
    splits and dividends since and rounded half up to `tick`: no buy at a reference price there or
    above, no sell there or below; 0: none. A file of terms may give each symbol its own."""
    tick: float = Field(0.01, ge=0)
    """Step of prices that limits are rounded to; 0: no rounding."""
    short: bool = False
    """Allow negative weights; kelly then sells short too, and longshort does so in any case."""
    leverage: float = Field(1.0, gt=0, le=100)
    """Most gross exposure over equity, at decisions and after every fill that adds to it."""
    maintenance: float = Field(0.0, ge=0, le=1)
    """Equity over gross exposure at a close below which everything is sold; 0: no margin calls."""
    band: float = Field(0.0, ge=0, le=1)
    """Changes of a position by less than this fraction of the equity are not traded, opening and
    closing apart; 0: no band."""
    min_order: float = Field(0.0, ge=0)
    """Orders of less than this value are refused, in the currency of the prices."""
    stop_loss: float = Field(0.0, ge=0, lt=1)
    """Close a position this fraction beyond its average fill price, against it; 0: never."""
    trailing_stop: float = Field(0.0, ge=0, lt=1)
    """Close it this fraction off the best price since its first fill; 0: never."""
    take_profit: float = Field(0.0, ge=0)
    """Close it this fraction beyond its average fill price, in its favour; 0: never."""
    max_bars: int = Field(0, ge=0)
    """Close it at the open of this many bars after its first fill; 0: never."""

    @model_validator(mode="after")
    def _nobody_trades_the_past(self) -> Self:
        if self.lag == 0 and not self.allow_same_bar:
            raise ValueError(
                "`lag` 0 fills at the very close the decision was made from, which nobody can do; "
                "use 1, or `allow_same_bar` to do it anyway, flagged on the report"
            )
        if self.lag == 0 and self.fill != "close":
            raise ValueError(
                f"`lag` 0 with `fill` {self.fill}: the {self.fill} of a bar is over when its close "
                "decides; use `fill` close"
            )
        return self

    @property
    def margin(self) -> bool:
        """A margin account: gross exposure is limited, not cash."""
        return self.short or self.leverage > 1

    @property
    def exits(self) -> bool:
        """Whether positions are closed by more than decisions."""
        return bool(self.stop_loss or self.trailing_stop or self.take_profit or self.max_bars)


CONFIG = np.dtype(
    [
        ("targets", np.int64),
        ("cash", np.float64),
        ("rate", np.float64),
        ("per_share", np.float64),
        ("min_fee", np.float64),
        ("slippage", np.float64),
        ("slippage_volatility", np.float64),
        ("impact", np.float64),
        ("borrow", np.float64),
        ("cash_rate", np.float64),
        ("debit_rate", np.float64),
        ("lag", np.int64),
        ("inside_bar", np.bool_),
        ("participation", np.float64),
        ("carry", np.bool_),
        ("lot", np.float64),
        ("t_plus_one", np.bool_),
        ("limit", np.float64),
        ("margin", np.bool_),
        ("leverage", np.float64),
        ("maintenance", np.float64),
        ("max_fee", np.float64),
        ("buy_tax", np.float64),
        ("sell_tax", np.float64),
        ("maker", np.float64),
        ("funding", np.float64),
        ("at_open", np.bool_),
        ("short", np.bool_),
        ("tick", np.float64),
        ("band", np.float64),
        ("min_order", np.float64),
        ("stop", np.float64),
        ("trail", np.float64),
        ("take", np.float64),
        ("max_bars", np.int64),
    ]
)
"""One configuration as the kernels read it; rates are per bar."""


def configs(
    many: list[tuple[int, Costs, Rules, float]], bars_per_year: float
) -> npt.NDArray[np.void]:
    """Records of (index of the target set, costs, rules, starting cash)."""
    out = np.zeros(len(many), CONFIG)
    for i, (targets, costs, rules, cash) in enumerate(many):
        out[i] = (
            targets,
            cash,
            costs.commission_bps / 10_000,
            costs.commission_per_share,
            costs.min_fee,
            costs.slippage_bps / 10_000,
            costs.slippage_volatility,
            costs.impact,
            costs.borrow_bps / 10_000 / bars_per_year,
            costs.cash_rate / bars_per_year,
            costs.debit_rate / bars_per_year,
            rules.lag,
            rules.inside_bar,
            rules.participation,
            rules.carry,
            rules.lot,
            rules.t_plus_one,
            rules.limit,
            rules.margin,
            rules.leverage,
            rules.maintenance,
            costs.max_fee if costs.max_fee > 0 else np.inf,
            costs.buy_tax_bps / 10_000,
            costs.sell_tax_bps / 10_000,
            (costs.commission_bps if costs.maker_bps is None else costs.maker_bps) / 10_000,
            costs.funding_bps / 10_000 / bars_per_year,
            rules.fill == "open",
            rules.short,
            rules.tick,
            rules.band,
            rules.min_order,
            rules.stop_loss,
            rules.trailing_stop,
            rules.take_profit,
            rules.max_bars,
        )
    return out
