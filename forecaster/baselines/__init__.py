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
"""

from forecaster.baselines.gaussian import Drift, EwmaGaussian, RandomWalk
from forecaster.baselines.linear import LinearAutoregression
from forecaster.baselines.resampling import BlockBootstrap, DriftlessBootstrap, HistoricalBootstrap
from forecaster.baselines.series import Baseline
from forecaster.baselines.volatility import FilteredHistorical, GarchT, SeasonalVolatility

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
]
