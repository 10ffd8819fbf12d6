"""Which settings a sweep's points read: what nobody reads cannot vary. Knows settings alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backtest.fills.costs import Costs
from backtest.settings import BacktestSettings
from backtest.weights.settings import OPTIMISED
from market.errors import ConfigError

Reader = Callable[[BacktestSettings], bool]

COST_KEYS = tuple(Costs.model_fields)
"""Assumptions, not choices: the cheapest always wins."""


def _named(*names: str) -> Reader:
    return lambda settings: settings.strategy.plugin is None and settings.strategy.name in names


def _margin(settings: BacktestSettings) -> bool:
    return settings.effective_rules.margin


_CHOSEN = "the strategy is {strategy}"
_READERS: dict[str, tuple[Reader, str]] = {
    "k": (_named("topk", "dropout", *OPTIMISED), _CHOSEN),
    "n_drop": (_named("dropout"), _CHOSEN),
    "quantile": (_named("longshort"), _CHOSEN),
    "neutral": (_named("longshort"), _CHOSEN),
    "gross": (_named("longshort", "kelly", *OPTIMISED), _CHOSEN),
    "enter": (_named("threshold"), _CHOSEN),
    "leave": (_named("threshold"), _CHOSEN),
    "kelly_fraction": (_named("kelly"), _CHOSEN),
    "scenarios": (_named(*OPTIMISED), _CHOSEN),
    "risk_aversion": (_named("cvar"), _CHOSEN),
    "weighting": (_named("topk", "dropout", "threshold", "longshort"), _CHOSEN),
    "debit_rate": (_margin, "nothing is borrowed without shorts or leverage above 1"),
    "maintenance": (_margin, "there are no margin calls without shorts or leverage above 1"),
    "borrow_bps": (lambda s: s.effective_rules.short, "nothing is sold short"),
    "tick": (lambda s: s.rules.limit > 0, "there is no price limit"),
    "maker_bps": (lambda s: s.rules.take_profit > 0, "no order waits in the book"),
    "allow_same_bar": (lambda s: s.rules.lag == 0, "lag is above 0"),
}
"""Settings that only some points read, and what the others are like."""


def refuse_unread(
    values_of: Mapping[str, Sequence[Any]], settings: Sequence[BacktestSettings], source: str
) -> None:
    """Raise ConfigError for a key that varies although no point reads it.

    values_of: the values of each key. settings: every combination of those on which it depends
    what else is read. source: forecasts, scores or momentum.
    """
    told = "scores come from a file" if source == "scores" else f"scores come from {source}"
    for key, given in values_of.items():
        values = {repr(value) for value in given}
        name = key.rpartition(".")[2]
        if len(values) < 2:
            continue
        why = None
        if name in ("momentum", "momentum_skip"):
            why = None if source == "momentum" else told
        elif name == "score":
            why = None if source == "forecasts" else told
        elif name == "horizon":
            only = "the horizon only judges a ranking, it changes no trade"
            why = None if source == "forecasts" else only
        elif name in _READERS:
            reads, text = _READERS[name]
            if not any(reads(each) for each in settings):
                strategies = sorted(
                    {each.strategy.plugin or each.strategy.name for each in settings}
                )
                why = text.format(strategy=" or ".join(strategies))
        if why is not None:
            raise ConfigError(
                f"grid: {key}: no combination reads it: {why}. Leave it out of the grid."
            )
