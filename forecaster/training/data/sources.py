"""Bars to train on, from history lakes and from the simulator. Knows market; nothing of models."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from forecaster.training.config import TrainingError
from forecaster.training.data.pools import TrainingSeries
from forecaster.training.simulations import SimulatedMarkets, SimulatedProcesses
from market.fields import FEATURES
from market.lake.history import MarketHistory
from market.processes import DAILY, SESSIONS, simulate_processes
from market.synthetic import simulate_market
from market.windows import continuous_values


def history_series(histories: Iterable[MarketHistory]) -> list[TrainingSeries]:
    """Every symbol of every history, continuous over its splits. A symbol in two histories is two
    series of one name."""
    return [
        TrainingSeries(one.symbol, one.timestamps_N, continuous_values(one))
        for history in histories
        for one in history.series(history.symbols()["symbol"].to_list())
    ]


def simulated_series(markets: SimulatedMarkets) -> list[TrainingSeries]:
    """Every symbol of every simulated market, and the further series."""
    series = [
        TrainingSeries(
            str(symbol),
            frame["timestamp"].to_numpy(),
            np.ascontiguousarray(frame.select(FEATURES).to_numpy()),
            simulated=True,
        )
        for params in markets.markets()
        for (symbol,), frame in simulate_market(params).group_by("symbol", maintain_order=True)
    ]
    return series if markets.processes is None else series + _process_series(markets.processes)


def _process_series(processes: SimulatedProcesses) -> list[TrainingSeries]:
    kinds = [(DAILY, processes.daily_series)]
    kinds += [(session, processes.intraday_series) for session in SESSIONS]
    return [
        TrainingSeries(
            f"PROCESS{seed}-{session.bars}x{session.minutes}-{k}",
            one.timestamps_T,
            one.values_TF,
            simulated=True,
        )
        for seed in processes.seeds
        for session, count in kinds
        for k, one in enumerate(simulate_processes(seed, count, processes.n_bars, session))
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
