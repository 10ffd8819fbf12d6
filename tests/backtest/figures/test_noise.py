"""The share of sampling error in expected returns."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from backtest.figures.noise import sampling_noise
from tests.backtest.made_up import random_market, random_scores


def test_scores_that_are_only_few_paths_are_all_sampling_error() -> None:
    market = random_market(70, n_days=40, n_symbols=12)
    rows = [10, 15, 20]
    table = market.forecasts(random_scores(market, 71, rows), horizon=2)
    value = (table["close_mean"] / table["last_close"] - 1).to_numpy()
    last = table.with_columns((pl.col("last_close") * 0.03 * 4).alias("close_std"))
    found = sampling_noise(last, 2)
    assert found["as_of"].to_list() == sorted(table["as_of"].unique())
    for as_of, share in found.iter_rows():
        there = ((table["as_of"] == as_of) & (table["step"] == 2)).to_numpy()
        assert share == pytest.approx(0.03**2 / np.var(value[there], ddof=1))
    assert 0.3 < found["share"].mean() < 3, "the scores were drawn with that very deviation"
    assert sampling_noise(table, 2).is_empty()
