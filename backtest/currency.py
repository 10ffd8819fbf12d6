"""The currency of prices and fees, as venue or symbols tell it. Knows settings and venues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from backtest.settings import BacktestSettings
from market.errors import ConfigError
from market.venues import quote_currency, venue_preset

SettingsT = TypeVar("SettingsT", bound=BacktestSettings)

COINS = frozenset(("BTC", "ETH", "BNB"))
"""Currencies of which one unit is a fortune as a fee."""


def with_currency(
    settings: SettingsT, venue: str | None, symbols: Sequence[str]
) -> tuple[SettingsT, dict[str, str]]:
    """Settings that name the currency where it is known, and what to say of it on the page.

    The venue's, else the one that all symbols are quoted in. In a coin, a least fee that nobody
    gave is none: the usual 1 would be one coin an order.
    """
    currency = settings.currency or _of_venue(venue) or _of_symbols(symbols)
    if currency is None:
        return settings, {}
    made = settings.model_copy(update={"currency": currency})
    if currency in COINS and "min_fee" not in settings.costs.model_fields_set:
        made = made.model_copy(update={"costs": made.costs.model_copy(update={"min_fee": 0.0})})
        return made, {"fees": f"no least fee, since prices are in {currency}; --min-fee sets one"}
    return made, {}


def _of_venue(venue: str | None) -> str | None:
    if venue is None:
        return None
    try:
        return venue_preset(venue).currency
    except ConfigError:
        return None  # no figures are known of it


def _of_symbols(symbols: Sequence[str]) -> str | None:
    found = {quote_currency(symbol) for symbol in symbols}
    return found.pop() if len(found) == 1 else None
