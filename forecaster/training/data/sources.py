"""Bars to train on, from history lakes and from the simulator. Knows market; nothing of models."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from forecaster.training.config import SimulatedMarkets, TrainingError
from forecaster.training.data.pools import TrainingSeries
from market.fields import FEATURES
from market.lake.history import MarketHistory
from market.synthetic import simulate_market


def history_series(histories: Iterable[MarketHistory]) -> list[TrainingSeries]:
    """Every symbol of every history. A symbol in two histories is two series of one name."""
    return [
        TrainingSeries(one.symbol, one.timestamps_N, one.values_NF)
        for history in histories
        for one in history.series(history.symbols()["symbol"].to_list())
    ]


def simulated_series(markets: SimulatedMarkets) -> list[TrainingSeries]:
    """Every symbol of every simulated market."""
    return [
        TrainingSeries(
            str(symbol),
            frame["timestamp"].to_numpy(),
            np.ascontiguousarray(frame.select(FEATURES).to_numpy()),
            simulated=True,
        )
        for params in markets.markets()
        for (symbol,), frame in simulate_market(params).group_by("symbol", maintain_order=True)
    ]


def training_series(
    histories: Iterable[MarketHistory], simulated: SimulatedMarkets | None
) -> list[TrainingSeries]:
    """All bars of a run. Raises TrainingError where there are none."""
    series = history_series(histories)
    if simulated is not None:
        series += simulated_series(simulated)
    if not series:
        raise TrainingError(
            "no bars to train on: give --store with a history made by 'candlecast data import', or "
            "data.simulated in the config"
        )
    return series
