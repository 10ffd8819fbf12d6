"""Trains the model: `python -m candlecast_example.training STORE 2015-12-31 weights.json`."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path

import polars as pl

from market.lake.history import MarketHistory


def train(bars: pl.DataFrame, through: date) -> dict[str, object]:
    """Least squares of each log return on the one before, over all symbols.

    bars: symbol, session, close; those after `through` are left out, which is what
    `trained_through` promises.
    """
    known = bars.filter(pl.col("session") <= through).sort("symbol", "session")
    returns = known.select(now=pl.col("close").log().diff().over("symbol"), symbol="symbol")
    pairs = returns.with_columns(before=pl.col("now").shift(1).over("symbol")).drop_nulls()
    now, before = pairs["now"].to_numpy(), pairs["before"].to_numpy()
    return {
        "phi": round(float(now @ before / (before @ before)), 6),
        "trained_through": through.isoformat(),
    }


if __name__ == "__main__":
    store, day, out = sys.argv[1:]
    frame = MarketHistory.open(store).scan().select("symbol", "session", "close").collect()
    Path(out).write_text(json.dumps(train(frame, date.fromisoformat(day))) + "\n")
