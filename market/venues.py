"""Venues by name: how trading there looks, and what pairs are quoted in.

Knows names; the figures are in market.venue_figures, their shape in market.venue_rules.
"""

from __future__ import annotations

import re

from market.errors import ConfigError
from market.exchange_sessions import canonical_venue
from market.venue_figures import PRESETS
from market.venue_rules import Board, Tax, VenuePreset, bare_code

__all__ = ["Board", "Tax", "VenuePreset", "bare_code", "quote_currency", "venue_preset"]


def venue_preset(venue: str) -> VenuePreset:
    """The preset of a venue by any of its names (XNSE, NSE, XBOM, 24/7, …).

    Raises ConfigError for unknown venues, and for those whose costs are not known.
    """
    code = canonical_venue(venue)
    found = PRESETS.get(code)
    if found is None:
        raise ConfigError(
            f"venue {venue}: no usual costs are known for {code}; known are "
            f"{', '.join(sorted(PRESETS))}. Give commission, taxes, lot and limit yourself"
        )
    return found


def quote_currency(symbol: str) -> str | None:
    """The currency a pair is quoted in: USDT of BTC/USDT, ETH_USDT or BTCUSDT; None if unclear."""
    parts = re.split(r"[/_\-:]", symbol.strip().upper())
    if len(parts) > 1 and parts[1].isalnum():
        return parts[1]
    found = re.fullmatch(
        r"[A-Z0-9]{2,}?(USDT|USDC|FDUSD|BUSD|TUSD|USD|EUR|GBP|JPY|CHF|BTC|ETH|BNB)", parts[0]
    )
    return found[1] if found else None
