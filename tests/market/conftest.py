"""Small hand-made bars the market tests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from market import Label, StoreSpec

_LONGEST = 400

MakeBars = Callable[..., pl.DataFrame]


@pytest.fixture(scope="session")
def daily_spec() -> StoreSpec:
    return StoreSpec("XNYS", "1d", "America/New_York", Label.SESSION)


@pytest.fixture(scope="session")
def make_bars() -> MakeBars:
    """Daily bars on the weekdays from a date on, with volume and amount.

    Seeded by the symbol; asking for more of them only adds to the end.
    """

    def make(
        symbols: Sequence[str] = ("AAPL", "BRK.B", "BTC/USDT"),
        start: date = date(2024, 1, 2),
        n: int = 30,
    ) -> pl.DataFrame:
        days = [start + timedelta(days=i) for i in range(_LONGEST * 7 // 5)]
        labels = [datetime(d.year, d.month, d.day) for d in days if d.weekday() < 5][:n]
        frames = []
        for symbol in symbols:
            rng = np.random.default_rng(list(symbol.encode()))
            close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, _LONGEST)))
            open_ = close * np.exp(rng.normal(0, 0.005, _LONGEST))
            frames.append(
                pl.DataFrame(
                    {
                        "symbol": [symbol] * n,
                        "timestamp": labels,
                        "open": open_[:n],
                        "high": (np.maximum(open_, close) * 1.01)[:n],
                        "low": (np.minimum(open_, close) * 0.99)[:n],
                        "close": close[:n],
                        "volume": rng.integers(1000, 9000, _LONGEST)[:n].astype(float),
                        "amount": rng.uniform(1e5, 1e6, _LONGEST)[:n],
                    }
                )
            )
        return pl.concat(frames)

    return make
