"""What tests of plug-ins share."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl

import candlecast as cc
from forecaster import WindowBatch


def forget(package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def forecast(bars: pl.DataFrame, model: str, **more: object) -> pl.DataFrame:
    """Rows of the forecast table."""
    made = cc.forecast(bars, 5, model=model, paths=16, lookback=48, venue="XNYS", **more)
    assert made.model == model
    return made.steps.collect()


def some_windows() -> WindowBatch:
    rng = np.random.default_rng(3)
    close_BL = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, (6, 60)), axis=1))
    values = np.stack(
        [close_BL, close_BL * 1.01, close_BL * 0.99, close_BL, close_BL, close_BL], axis=-1
    )
    day = np.datetime64("2020-01-01T21:00", "us") + np.arange(65) * np.timedelta64(1, "D")
    return WindowBatch(
        symbols=tuple("ABCDEF"),
        as_of_B=np.repeat(day[59], 6),
        values_BLF=values,
        timestamps_BL=np.tile(day[:60], (6, 1)),
        future_BH=np.tile(day[60:], (6, 1)),
    )
