"""What simulated bars a run trains on. Knows the simulators' settings; no torch and no files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Self

from pydantic import Field, model_validator

from forecaster.training.shapes import Count, Positive
from market.settings import Settings
from market.synthetic import SimulatorParams

TRAINING_SEEDS = range(1000, 2000)
"""Simulator seeds that training may use. No other code simulates with them, so that a simulated
market outside this range is always one the shipped model has never seen."""


class SimulatedProcesses(Settings):
    """Simulated series with volatility of many kinds, daily and intraday; see market.processes."""

    seeds: tuple[int, ...]
    """From TRAINING_SEEDS only; one set of series each."""
    daily_series: Count = 100
    intraday_series: Count = 12
    """Of each kind of session and bar length."""
    n_bars: Count = 2500

    @model_validator(mode="after")
    def _reserved(self) -> Self:
        _require_reserved(self.seeds)
        return self


class SimulatedMarkets(Settings):
    """Simulated bars beside the real ones: one market per seed."""

    seeds: tuple[int, ...]
    """From TRAINING_SEEDS only."""
    n_symbols: Annotated[int, Field(ge=3)] = 60
    n_sessions: Count = 2500
    start: date = date(2006, 1, 3)
    venue: str = "XNYS"
    annual_volatility: tuple[Positive, ...] = (0.28,)
    """Taken in turn, one per seed."""
    processes: SimulatedProcesses | None = None
    """Further series beside the markets."""

    @model_validator(mode="after")
    def _reserved(self) -> Self:
        _require_reserved(self.seeds)
        if not self.annual_volatility:
            raise ValueError("`annual_volatility`: at least one value")
        return self

    def markets(self) -> Iterator[SimulatorParams]:
        for k, seed in enumerate(self.seeds):
            yield SimulatorParams(
                seed=seed,
                n_symbols=self.n_symbols,
                n_sessions=self.n_sessions,
                start=self.start,
                venue=self.venue,
                annual_volatility=self.annual_volatility[k % len(self.annual_volatility)],
                delisting_session=max(40, int(0.8 * self.n_sessions)),
            )


def _require_reserved(seeds: tuple[int, ...]) -> None:
    wrong = [seed for seed in seeds if seed not in TRAINING_SEEDS]
    if wrong:
        raise ValueError(
            f"`seeds` {wrong}: training may simulate with seeds {TRAINING_SEEDS.start} to "
            f"{TRAINING_SEEDS.stop - 1} only, so that demos and tests stay unseen"
        )
