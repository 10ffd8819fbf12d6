"""Forecasts that need no training: what a model has to beat. Knows numpy alone (and `arch`, where
asked for).

    series       runs a rule series by series behind the Forecaster interface
    bars         whole bars from returns and bars of the lookback
    resampling   bars drawn from the lookback: plain, driftless, in blocks
    gaussian     random walk, drift, EWMA volatility
    volatility   filtered historical simulation, plain and by time of day; GARCH(1,1)-t
    linear       autoregression of returns

Each samples whole bars, and draws its noise per series from numpy's Philox keyed by (seed, symbol,
as_of): as independent of batch and order as the models are.

Installed packages add theirs under the entry point `candlecast.baselines`.
"""

from forecaster.baselines.gaussian import Drift, EwmaGaussian, RandomWalk
from forecaster.baselines.linear import LinearAutoregression
from forecaster.baselines.resampling import BlockBootstrap, DriftlessBootstrap, HistoricalBootstrap
from forecaster.baselines.series import Baseline
from forecaster.baselines.volatility import FilteredHistorical, GarchT, SeasonalVolatility
from forecaster.interface import Forecaster
from forecaster.plugins import BASELINES as GROUP
from forecaster.plugins import load_plugin, require_untrained
from market.errors import ConfigError
from market.plugins import plugins

BASELINES: dict[str, type[Baseline]] = {
    "random-walk": RandomWalk,
    "bootstrap": HistoricalBootstrap,
    "bootstrap-driftless": DriftlessBootstrap,
    "block-bootstrap": BlockBootstrap,
    "ewma": EwmaGaussian,
    "fhs": FilteredHistorical,
    "garch": GarchT,
    "drift": Drift,
    "seasonal": SeasonalVolatility,
    "linear": LinearAutoregression,
}
"""Ours; `known_baselines` has those of other packages too."""


def known_baselines() -> dict[str, str]:
    """Every name `load_baseline` takes, with a line about it. Loads nothing."""
    own = {name: each.about for name, each in BASELINES.items()}
    added = {name: f"of package {each.origin}" for name, each in plugins(GROUP).items()}
    return own | {name: about for name, about in added.items() if name not in own}


def load_baseline(name: str, device: str = "cpu") -> Forecaster:
    """A baseline by its name, ours before others'.

    Raises ConfigError for an unknown name, and for a plug-in that cannot be used.
    """
    if name in BASELINES:
        return BASELINES[name]()
    offered = plugins(GROUP)
    if name not in offered:
        raise ConfigError(f"{name}: not a baseline; known are {', '.join(known_baselines())}")
    made = load_plugin(offered[name], device)
    return require_untrained(made, {each.name: own for own, each in BASELINES.items()})


__all__ = [
    "BASELINES",
    "Baseline",
    "BlockBootstrap",
    "Drift",
    "DriftlessBootstrap",
    "EwmaGaussian",
    "FilteredHistorical",
    "GarchT",
    "HistoricalBootstrap",
    "LinearAutoregression",
    "RandomWalk",
    "SeasonalVolatility",
    "known_baselines",
    "load_baseline",
]
