"""What trading and holding cost. Knows numbers alone: no bars, no portfolio."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite

from market.errors import BacktestInputError


@dataclass(frozen=True)
class Costs:
    """Costs of an order and of what is held; every field but maker_bps and funding_bps is 0 or
    more.

    An order of q shares at the reference price p of its bar fills at
    p · (1 ± (slippage + slippage_volatility · σ + impact · σ · √(q / V))), against the trader, with
    σ the volatility of one bar known before the fill and V the bar's volume (the square-root law,
    e.g. Tóth et al. 2011, "Anomalous price impact and the critical nature of liquidity in
    financial markets"). Its fee is min(max(value · rate + q · per share, min_fee), max_fee), and
    on top of that the tax of its side. A limit order that waits in the book, and a take-profit,
    fills at its own price without slippage and pays maker_bps.
    """

    commission_bps: float = 5.0
    """Basis points of the order's value, either side."""
    commission_per_share: float = 0.0
    """Currency per share."""
    min_fee: float = 1.0
    """Least commission of an order, in the currency of the prices."""
    slippage_bps: float = 5.0
    """Basis points a fill is worse than the reference price."""
    slippage_volatility: float = 0.0
    """Further slippage, as a multiple of the volatility of one bar."""
    impact: float = 0.0
    """Coefficient of the square-root impact; 1 is the usual order of magnitude."""
    borrow_bps: float = 0.0
    """Basis points per year on the value of short positions."""
    cash_rate: float = 0.0
    """Interest per year on cash, as a fraction; 0.03 is 3%."""
    debit_rate: float = 0.0
    """Interest per year on borrowed cash, as a fraction."""
    max_fee: float = 0.0
    """Most commission of an order, taxes not counted; 0: no cap."""
    buy_tax_bps: float = 0.0
    """Basis points of a buy's value beyond the commission: stamp duty, currency conversion."""
    sell_tax_bps: float = 0.0
    """Likewise of a sale: stamp duty, transaction tax."""
    maker_bps: float | None = None
    """Commission of fills that waited in the book, instead of commission_bps; below 0 it is a
    rebate. None: the same as others."""
    funding_bps: float = 0.0
    """Basis points per year that longs pay shorts on the value of positions (perpetual contracts);
    below 0 shorts pay. Rates that change with time go into the actions, column `funding`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "maker_bps" and value is None:
                continue
            signed = field.name in ("maker_bps", "funding_bps")
            if not (isfinite(value) and (signed or value >= 0)):
                rule = "must be a number" if signed else "must be a number, 0 or more"
                raise BacktestInputError(f"{field.name} {value}: {rule}")
        for name in ("commission_bps", "slippage_bps", "buy_tax_bps", "sell_tax_bps", "maker_bps"):
            value = getattr(self, name)
            if value is not None and abs(value) >= 10_000:
                raise BacktestInputError(f"{name} {value}: must be below 10000")
        if 0 < self.max_fee < self.min_fee:
            raise BacktestInputError(f"max_fee {self.max_fee}: is below min_fee {self.min_fee}")

    @property
    def needs_volatility(self) -> bool:
        """Whether a fill price depends on the volatility of a bar."""
        return self.slippage_volatility > 0 or self.impact > 0
