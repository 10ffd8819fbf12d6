"""Deflated Sharpe ratio, overfitting and walk-forward folds on cases with a known answer."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.figures.overfitting import (
    block_sums,
    deflated_sharpe,
    expected_best_sharpe,
    probabilistic_sharpe,
    probability_of_overfitting,
    walk_forward_sharpe,
)
from backtest.walkforward import folds
from market.errors import BacktestInputError


def test_the_example_of_the_deflated_sharpe_paper() -> None:
    # Bailey & López de Prado (2014): annual Sharpe 2.5 over 5 years of 250 days, skew -3,
    # kurtosis 10, the best of 100 trials whose annual Sharpe ratios have variance 1/2.
    variance = 0.5 / 250
    assert expected_best_sharpe(100, variance) == pytest.approx(0.1132, abs=5e-5)
    found = deflated_sharpe(2.5 / sqrt(250), 1250, 100, variance=variance, skew=-3.0, kurtosis=10.0)
    assert found == pytest.approx(0.9004, abs=5e-5)
    fewer = deflated_sharpe(2.5 / sqrt(250), 1250, 46, variance=variance, skew=-3.0, kurtosis=10.0)
    assert fewer == pytest.approx(0.9505, abs=5e-5)


def test_one_trial_is_the_probabilistic_sharpe_ratio() -> None:
    assert deflated_sharpe(0.1, 500, 1) == probabilistic_sharpe(0.1, 500)
    # Normal returns: Φ(0.1 · √499 / √1.005).
    assert probabilistic_sharpe(0.1, 500) == pytest.approx(0.98709, abs=1e-4)
    assert np.isnan(deflated_sharpe(float("nan"), 500, 3))


def test_the_expected_best_of_noise_is_what_noise_gives() -> None:
    best = np.random.default_rng(0).normal(size=(4000, 50)).max(axis=1).mean()
    assert expected_best_sharpe(50, 1.0) == pytest.approx(best, abs=0.03)


def plain_pbo(returns: np.ndarray, blocks: int) -> float:
    """The definition, split by split."""
    parts = np.array_split(returns, blocks)
    below = []
    for half in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[i] for i in half])
        outside = np.concatenate([parts[i] for i in range(blocks) if i not in half])
        sharpe = [x.mean(axis=0) / x.std(axis=0, ddof=1) for x in (inside, outside)]
        best = sharpe[0].argmax()
        rank = (sharpe[1] <= sharpe[1][best]).sum() / (returns.shape[1] + 1)
        below.append((rank < 0.5) + 0.5 * (rank == 0.5))
    return float(np.mean(below))


def test_overfitting_is_what_its_definition_counts() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, (120, 7))
    found = probability_of_overfitting(*block_sums(returns, 6))
    assert found.splits == 20
    assert found.probability == pytest.approx(plain_pbo(returns, 6))


def test_a_truly_better_configuration_is_no_overfitting() -> None:
    returns = np.random.default_rng(2).normal(0, 0.01, (400, 10))
    returns[:, 3] += 0.01
    assert probability_of_overfitting(*block_sums(returns, 8)).probability == 0.0


def test_what_wins_one_half_and_loses_the_other_is_overfitting() -> None:
    # Every configuration has the same total; the better in one half, the worse in the other.
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.01, (320, 20))
    level = rng.normal(0, 0.01, (8, 20))
    level -= level.mean(axis=0)
    returns = np.repeat(level, 40, axis=0) + noise - noise.mean(axis=0)
    assert probability_of_overfitting(*block_sums(returns, 8)).probability > 0.95


def test_pure_noise_is_about_a_coin_toss() -> None:
    found = [
        probability_of_overfitting(
            *block_sums(np.random.default_rng(seed).normal(size=(480, 30)), 8)
        ).probability
        for seed in range(20)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.12)


def test_too_little_to_choose_from_is_refused() -> None:
    with pytest.raises(BacktestInputError, match="at least two configurations"):
        probability_of_overfitting(*block_sums(np.ones((40, 1)), 4))
    with pytest.raises(BacktestInputError, match="too few for 16 blocks"):
        block_sums(np.ones((20, 3)), 16)
    with pytest.raises(BacktestInputError, match="even number"):
        block_sums(np.ones((200, 3)), 5)


def test_walking_forward_trades_the_best_so_far() -> None:
    rng = np.random.default_rng(4)
    returns = rng.normal(0, 0.01, (160, 3))
    returns[:80, 1] += 0.02
    returns[80:, 2] += 0.01
    sharpe, chosen = walk_forward_sharpe(*block_sums(returns, 8), least_blocks=2)
    assert chosen[:2].tolist() == [1, 1]
    picked = np.concatenate([returns[20 * b : 20 * b + 20, c] for b, c in enumerate(chosen, 2)])
    assert sharpe == pytest.approx(picked.mean() / picked.std(ddof=1))


@given(
    n_rows=st.integers(60, 300),
    train=st.integers(5, 40),
    test=st.integers(1, 30),
    horizon=st.integers(1, 10),
    embargo=st.integers(0, 5),
    expanding=st.booleans(),
)
def test_no_outcome_of_training_reaches_into_its_test(
    n_rows: int, train: int, test: int, horizon: int, embargo: int, expanding: bool
) -> None:
    made = list(
        folds(n_rows, train=train, test=test, horizon=horizon, embargo=embargo, expanding=expanding)
    )
    for fold in made:
        last_known = fold.train_end - 1 + horizon
        assert last_known + embargo < fold.test_start
        assert fold.test_start < fold.test_end <= n_rows
        assert fold.train_end - fold.train_start >= train
        assert (fold.train_start == 0) if expanding else True
    tested = [row for fold in made for row in range(fold.test_start, fold.test_end)]
    assert tested == list(range(train + horizon + embargo, n_rows))


def test_folds_by_hand_and_what_they_refuse() -> None:
    rolling = list(folds(20, train=6, test=5, horizon=2))
    assert [(f.train_start, f.train_end, f.test_start, f.test_end) for f in rolling] == [
        (0, 6, 8, 13),
        (5, 11, 13, 18),
        (10, 16, 18, 20),
    ]
    with pytest.raises(BacktestInputError, match="purge 1 is shorter than the horizon 2"):
        list(folds(20, train=6, test=5, horizon=2, purge=1))
    with pytest.raises(BacktestInputError, match="20 rows do not hold 30"):
        list(folds(20, train=30, test=5, horizon=2))
