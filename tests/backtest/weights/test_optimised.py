"""Weights that skfolio finds: limits, order of names, no look-ahead, and what has no solution."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest import BacktestSettings, run_backtest
from backtest.weights.optimised import joined, optimised
from backtest.weights.settings import OPTIMISED, Signals, StrategySettings
from market.errors import BacktestInputError, ConfigError
from tests.backtest.made_up import random_market, random_scores

pytest.importorskip("skfolio", reason="pip install 'candlecast[skfolio]'")
WINDOW, PATHS = 60, 80


def signals(seed: int, n: int = 8, rows: int = 2) -> Signals:
    """Names of different volatility that move together; some returns are not known."""
    rng = np.random.default_rng(seed)
    shape = (WINDOW + rows, n)
    return_TN = rng.normal(0, 0.01, (shape[0], 1)) + rng.normal(0, 1, shape) * np.geomspace(
        0.004, 0.04, n
    )
    return_TN[rng.random(shape) < 0.01] = np.nan
    path_DPN = rng.normal(0.01, 1, (rows, PATHS, n)) * np.geomspace(0.01, 0.1, n)
    return Signals(
        row_D=np.arange(rows) + WINDOW,
        score_DN=rng.normal(size=(rows, n)),
        window_return=lambda row, column_K: return_TN[row - WINDOW + 1 : row + 1, column_K],
        path_return=lambda d, column_K: path_DPN[d][:, column_K],
    )


@pytest.mark.parametrize("name", OPTIMISED)
@pytest.mark.parametrize("scenarios", ["past", "paths"])
@given(
    seed=st.integers(0, 1000),
    k=st.integers(1, 8),
    gross=st.sampled_from([0.5, 1.0, 1.6]),
    most=st.sampled_from([0.0, 0.1, 0.25, 0.6]),
)
@settings(max_examples=4, deadline=None)
def test_weights_keep_their_limits(
    name: Any, scenarios: Any, seed: int, k: int, gross: float, most: float
) -> None:
    strategy = StrategySettings(name=name, scenarios=scenarios, k=k, gross=gross, max_weight=most)
    told: list[str] = []
    given_ = replace(signals(seed), unsolved=lambda d, why: told.append(why))
    start_D1, column_M, weight_M = optimised(strategy, given_)
    assert not told
    assert (weight_M >= 0).all()
    for d in range(2):
        span = slice(start_D1[d], start_D1[d + 1])
        best = np.argsort(-given_.score_DN[d], kind="stable")[:k]
        assert column_M[span].tolist() == best.tolist()
        assert weight_M[span].sum() == pytest.approx(min(gross, k * most) if most else gross)
        assert not most or weight_M[span].max() <= most * (1 + 1e-12)
    again = optimised(strategy, given_)
    assert np.array_equal(weight_M, again[2])


def test_minimum_variance_is_that_of_two_names_by_hand() -> None:
    rng = np.random.default_rng(1)
    past = rng.normal(0, 1, (WINDOW, 2)) * [0.01, 0.02]
    made = Signals(
        row_D=np.array([WINDOW]), score_DN=np.array([[2.0, 1.0]]),
        window_return=lambda row, column_K: past[:, column_K],
    )  # fmt: skip
    weight_M = optimised(StrategySettings(name="min_variance", k=2), made)[2]
    from sklearn.covariance import ledoit_wolf

    first, both, second = ledoit_wolf(past)[0][[0, 0, 1], [0, 1, 1]]
    assert weight_M[0] == pytest.approx((second - both) / (first + second - 2 * both), abs=1e-4)


def test_a_falling_tail_is_avoided_by_cvar() -> None:
    made = signals(3, n=2, rows=1)
    path_PN = np.tile(np.linspace(-0.02, 0.03, PATHS)[:, None], (1, 2))
    path_PN[:8, 1] = -0.6
    tailed = replace(made, path_return=lambda d, column_K: path_PN[:, column_K])
    _, column_M, weight_M = optimised(StrategySettings(name="cvar", k=2), tailed)
    assert dict(zip(column_M.tolist(), weight_M.tolist(), strict=True))[0] > 0.99


def test_few_paths_are_refused() -> None:
    made = signals(3)
    read = made.path_return
    assert read is not None
    few = replace(made, path_return=lambda d, column_K: read(d, column_K)[:8])
    with pytest.raises(BacktestInputError, match=r"forecasts have 8 .*forecast more paths"):
        optimised(StrategySettings(name="cvar", k=2), few)


def test_joined_paths_keep_their_values_and_move_as_the_past_did() -> None:
    rng = np.random.default_rng(2)
    common = rng.normal(size=(WINDOW, 1))
    past = common + 0.2 * rng.normal(size=(WINDOW, 3))
    apart = rng.normal(size=(200, 3))
    made = joined(apart, past)
    assert np.array_equal(np.sort(made, axis=0), np.sort(apart, axis=0))
    assert abs(np.corrcoef(apart.T)[0, 1]) < 0.2
    assert np.corrcoef(made.T)[0, 1] > 0.8


def test_without_enough_bars_the_weights_before_are_kept_and_said() -> None:
    made = signals(5, n=4)
    read = made.window_return
    assert read is not None
    gaps = lambda row, column_K: read(row, column_K) * (np.nan if row > WINDOW else 1)  # noqa: E731
    told: dict[int, str] = {}
    made = replace(made, window_return=gaps, unsolved=told.__setitem__)
    start_D1, column_M, weight_M = optimised(StrategySettings(name="hrp", k=4), made)
    assert list(told) == [1]
    assert "fewer than 20 bars" in told[1]
    half = start_D1[1]
    assert np.array_equal(weight_M[:half], weight_M[half:])
    assert np.array_equal(column_M[:half], column_M[half:])


def test_without_skfolio_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "skfolio":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'candlecast\[skfolio\]'"):
        optimised(StrategySettings(name="hrp"), signals(1))


def paths_of(forecasts: pl.DataFrame, seed: int) -> pl.LazyFrame:
    """Kept paths of made-up forecasts, in the columns that are read of them."""
    rng = np.random.default_rng(seed)
    rows = forecasts.select("run_id", "as_of", "symbol", "step", "last_close")
    rows = rows.join(pl.DataFrame({"path": np.arange(40, dtype=np.int32)}), how="cross")
    change = pl.Series(rng.normal(0, 0.03, rows.height))
    return rows.with_columns((pl.col("last_close") * (1 + change)).alias("close")).lazy()


@pytest.mark.parametrize("name", OPTIMISED)
def test_what_comes_after_a_decision_changes_no_weight_of_it(name: str) -> None:
    market = random_market(3)
    table = market.forecasts(random_scores(market, 4, range(40, 80, 10)))
    paths = paths_of(table, 1)
    chosen = BacktestSettings(strategy=name, k=4, end=market.days[60])
    result = run_backtest(market.bars, table, chosen, paths=paths)
    close, open_ = market.close_TN.copy(), market.open_TN.copy()
    close[62:] *= 3
    open_[62:] *= 3
    late = pl.col("as_of").dt.date() > market.days[60]
    spoiled = paths.with_columns(pl.when(late).then(1.0).otherwise(pl.col("close")).alias("close"))
    other = run_backtest(
        replace(market, close_TN=close, open_TN=open_).bars, table, chosen, paths=spoiled
    )
    assert result.strategy.orders.height > 4
    assert result.strategy.orders.equals(other.strategy.orders)


def test_cvar_without_paths_is_one_line_and_past_returns_are_taken_when_asked_for() -> None:
    market = random_market(3)
    table = market.forecasts(random_scores(market, 4, range(40, 80, 20)))
    with pytest.raises(BacktestInputError, match="keep_paths, or set scenarios to past"):
        run_backtest(market.bars, table, BacktestSettings(strategy="cvar", k=4))
    past = BacktestSettings(strategy="cvar", k=4, scenarios="past")
    assert run_backtest(market.bars, table, past).strategy.orders.height
