"""What trading and holding cost. Knows numbers alone: no bars, no portfolio."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from market.settings import Settings


class Costs(Settings):
    """Costs of an order and of what is held.

    An order of q shares at the reference price p of its bar fills at
    p · (1 ± (slippage + slippage_volatility · σ + impact · σ · √(q / V))), against the trader, with
    σ the volatility of one bar known before the fill and V the bar's volume (the square-root law,
    e.g. Tóth et al. 2011, "Anomalous price impact and the critical nature of liquidity in
    financial markets"). Its fee is min(max(value · rate + q · per share, min_fee), max_fee), and
    on top of that the tax of its side. A limit order that waits in the book, and a take-profit,
    fills at its own price without slippage and pays maker_bps.
    """

    commission_bps: float = Field(5.0, ge=0, lt=10_000)
    """Commission in basis points of each order's value."""
    commission_per_share: float = Field(0.0, ge=0)
    """Commission per share, in the currency of the prices."""
    min_fee: float = Field(1.0, ge=0)
    """An order is charged at least this much, in the currency of the prices."""
    max_fee: float = Field(0.0, ge=0)
    """An order is charged at most this much, taxes apart, in the currency of the prices; 0: no
    cap."""
    buy_tax_bps: float = Field(0.0, ge=0, lt=10_000)
    """Basis points of a buy's value beyond the commission: stamp duty, currency conversion."""
    sell_tax_bps: float = Field(0.0, ge=0, lt=10_000)
    """Basis points of a sale's value beyond the commission: stamp duty, transaction tax."""
    maker_bps: float | None = Field(None, gt=-10_000, lt=10_000)
    """Commission of fills that waited in the book, below 0 a rebate. Without: commission_bps."""
    slippage_bps: float = Field(5.0, ge=0, lt=10_000)
    """Buys fill this many basis points above the reference price, sells as many below."""
    slippage_volatility: float = Field(0.0, ge=0)
    """Further slippage, in volatilities of one bar."""
    impact: float = Field(0.0, ge=0)
    """Square-root impact: this × volatility × √(order / volume); 1 is usual, 0 none."""
    borrow_bps: float = Field(0.0, ge=0)
    """Yearly fee on the value of shorts, in basis points."""
    funding_bps: float = 0.0
    """Yearly rate that longs pay shorts on the value of positions, in basis points (perpetual
    contracts); below 0 shorts pay. Rates that change with time are actions, column funding."""
    cash_rate: float = Field(0.0, ge=0)
    """Yearly interest on cash; 0.03 is 3%."""
    debit_rate: float = Field(0.0, ge=0)
    """Yearly interest on borrowed cash."""

    @model_validator(mode="after")
    def _cap_above_floor(self) -> Self:
        if 0 < self.max_fee < self.min_fee:
            raise ValueError(f"`max_fee` {self.max_fee} is below `min_fee` {self.min_fee}")
        return self

    @property
    def needs_volatility(self) -> bool:
        """Whether a fill price depends on the volatility of a bar."""
        return self.slippage_volatility > 0 or self.impact > 0
