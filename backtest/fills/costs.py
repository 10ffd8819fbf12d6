"""What trading and holding cost. Knows numbers alone: no bars, no portfolio."""

from __future__ import annotations

from pydantic import Field

from market.settings import Settings


class Costs(Settings):
    """Costs of an order and of what is held; every one is 0 or more.

    An order of q shares at the reference price p of its bar fills at
    p · (1 ± (slippage + slippage_volatility · σ + impact · σ · √(q / V))), against the trader, with
    σ the volatility of one bar known before the fill and V the bar's volume (the square-root law,
    e.g. Tóth et al. 2011, "Anomalous price impact and the critical nature of liquidity in
    financial markets"). Commission is max(value · rate + q · per share, min_fee).
    """

    commission_bps: float = Field(5.0, ge=0, lt=10_000)
    """Commission in basis points of each order's value."""
    commission_per_share: float = Field(0.0, ge=0)
    """Commission per share, in the currency of the prices."""
    min_fee: float = Field(1.0, ge=0)
    """An order is charged at least this much, in the currency of the prices."""
    slippage_bps: float = Field(5.0, ge=0, lt=10_000)
    """Buys fill this many basis points above the reference price, sells as many below."""
    slippage_volatility: float = Field(0.0, ge=0)
    """Further slippage, in volatilities of one bar."""
    impact: float = Field(0.0, ge=0)
    """Square-root impact: this × volatility × √(order / volume); 1 is usual, 0 none."""
    borrow_bps: float = Field(0.0, ge=0)
    """Yearly fee on the value of shorts, in basis points."""
    cash_rate: float = Field(0.0, ge=0)
    """Yearly interest on cash; 0.03 is 3%."""
    debit_rate: float = Field(0.0, ge=0)
    """Yearly interest on borrowed cash."""

    @property
    def needs_volatility(self) -> bool:
        """Whether a fill price depends on the volatility of a bar."""
        return self.slippage_volatility > 0 or self.impact > 0
