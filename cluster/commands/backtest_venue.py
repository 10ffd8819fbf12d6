"""A venue's usual costs and rules as defaults of a backtest.

Knows venue presets and settings of a backtest; computes no result. What the user gives always wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

import polars as pl

from backtest.fills.terms import Terms
from backtest.settings import BacktestRequest
from market.venues import VenuePreset, quote_currency, venue_preset


class VenueDefaults(NamedTuple):
    """A request with a venue's figures where it gave none."""

    settings: BacktestRequest
    terms: Terms | None
    words: str
    """What the figures are, for the page."""


def with_venue(
    request: BacktestRequest,
    terms: Terms | None,
    venue: str | None,
    symbols: Sequence[str],
    span: tuple[date, date],
) -> VenueDefaults:
    """Costs, lot, T+1 and daily limits of a venue, for what the request does not give itself.

    span: first and last session of the bars. Where a tax or limit changed between them, the higher
    tax and the narrower limit hold throughout: a backtest then fills no better than anybody could.
    Raises ConfigError for a venue without known figures.
    """
    preset = venue_preset(venue or "none")
    taxes = preset.taxes_in(*span)
    costs: dict[str, float] = {
        "commission_bps": preset.commission_bps,
        "commission_per_share": preset.commission_per_share,
        "min_fee": preset.min_fee,
        "buy_tax_bps": max(each.buy_bps for each in taxes),
        "sell_tax_bps": max(each.sell_bps for each in taxes),
    }
    rules: dict[str, Any] = {"lot": preset.lot, "t_plus_one": preset.t_plus_one}
    if len(preset.ticks) <= 1:
        rules["tick"] = preset.ticks[0][1] if preset.ticks else 0.0
    else:
        rules["tick"] = 0.0  # one number cannot be a ladder: limits stay unrounded
    given = {*request.costs.model_fields_set, *request.rules.model_fields_set}
    made = request.model_copy(
        update={
            "costs": request.costs.model_copy(update=_without(costs, given)),
            "rules": request.rules.model_copy(update=_without(rules, given)),
        }
    )
    said = [preset.words(span[1])]
    now = taxes[-1]
    if (costs["buy_tax_bps"], costs["sell_tax_bps"]) != (now.buy_bps, now.sell_bps):
        said.append("taxes were higher in some of these years: the highest is charged throughout")
    if preset.boards and "limit" not in given:
        limits = {symbol: preset.limits_in(symbol, *span) for symbol in symbols}
        terms = _limited(terms, {name: min(found) for name, found in limits.items() if found})
        if any(len(set(found)) > 1 for found in limits.values()):
            said.append("limits changed meanwhile: the narrowest of these years holds throughout")
        if len(preset.ticks) > 1:
            said.append("limit prices are not rounded, ticks differ by price")
    own = sorted(given & {*costs, *rules, "limit"})
    if own:
        said.append(f"given instead: {', '.join(own)}")
    said += [_currencies(preset, symbols), preset.note]
    return VenueDefaults(made, terms, "; ".join(each for each in said if each))


def _without(values: dict[str, Any], given: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in given}


def _limited(terms: Terms | None, limits: dict[str, float]) -> Terms | None:
    """Terms with these limits, where a symbol has none yet."""
    if not limits:
        return terms
    own = pl.DataFrame({"symbol": list(limits), "limit": list(limits.values())})
    if terms is None:
        return Terms(own)
    table = terms.table.join(own, on="symbol", how="full", suffix="_venue", coalesce=True)
    if "limit_venue" in table.columns:
        limit = pl.coalesce(pl.col("limit").cast(pl.Float64), "limit_venue").alias("limit")
        table = table.with_columns(limit).drop("limit_venue")
    return Terms(table)


def _currencies(preset: VenuePreset, symbols: Sequence[str]) -> str:
    """Which currencies the prices are in, where the symbols say it."""
    if preset.currency is not None:
        return f"cash and fees are in {preset.currency}"
    found = sorted({quote_currency(symbol) or "?" for symbol in symbols} - {"?"})
    if len(found) > 1:
        return (
            f"PRICES ARE IN SEVERAL CURRENCIES ({', '.join(found[:5])}): one account cannot hold "
            "them; backtest one of them at a time"
        )
    return f"cash and fees are in {found[0]}" if found else ""
