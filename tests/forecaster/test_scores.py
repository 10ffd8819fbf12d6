"""Scores of sampled forecasts, against independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from forecaster.scores import crps, rank_correlation


@given(paths=st.integers(2, 40), horizon=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_crps_is_the_fair_estimator(paths: int, horizon: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sampled, actual = rng.standard_normal((paths, horizon)), rng.standard_normal(horizon)
    expected = scoringrules.crps_ensemble(actual, sampled.T, estimator="fair")
    np.testing.assert_allclose(crps(sampled, actual), expected, rtol=1e-9, atol=1e-12)


@given(n=st.integers(3, 30), levels=st.integers(2, 10), seed=st.integers(0, 10**6))
def test_rank_correlation_counts_ties_as_spearman_does(n: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, levels, n).astype(float), rng.standard_normal(n)
    if len(set(x)) == 1:
        assert np.isnan(rank_correlation(x, y))
    else:
        np.testing.assert_allclose(rank_correlation(x, y), spearmanr(x, y).statistic, atol=1e-12)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="S >= 2"):
        crps(np.zeros((1, 3)), np.zeros(3))
    with pytest.raises(ValueError, match=r"\(4,\)"):
        crps(np.zeros((5, 3)), np.zeros(4))
