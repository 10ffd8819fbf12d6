"""What trading and holding cost. Knows numbers alone: no bars, no portfolio."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite

from market.errors import BacktestInputError


@dataclass(frozen=True)
class Costs:
    """Costs of an order and of what is held; every field is 0 or more.

    An order of q shares at the reference price p of its bar fills at
    p · (1 ± (slippage + slippage_volatility · σ + impact · σ · √(q / V))), against the trader, with
    σ the volatility of one bar known before the fill and V the bar's volume (the square-root law,
    e.g. Tóth et al. 2011, "Anomalous price impact and the critical nature of liquidity in
    financial markets"). Commission is max(value · rate + q · per share, min_fee).
    """

    commission_bps: float = 5.0
    """Basis points of the order's value."""
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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isfinite(value) and value >= 0):
                raise BacktestInputError(f"{field.name} {value}: must be a number, 0 or more")
        for name in ("commission_bps", "slippage_bps"):
            if getattr(self, name) >= 10_000:
                raise BacktestInputError(f"{name} {getattr(self, name)}: must be below 10000")

    @property
    def needs_volatility(self) -> bool:
        """Whether a fill price depends on the volatility of a bar."""
        return self.slippage_volatility > 0 or self.impact > 0
