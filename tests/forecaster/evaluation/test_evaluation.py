"""Figures of forecasts, against independent implementations and known answers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scoringrules
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from forecaster.evaluation import Cases, Forecasts, evaluate
from forecaster.evaluation.cases import as_quantiles, points_of_quantiles
from forecaster.evaluation.figures import auc, energy_score, pit_histogram
from forecaster.hac import block_interval, date_mean, overlap_lags, per_date
from forecaster.scores import window_crps
from forecaster.summary import QUANTILES
from market.errors import ForecastInputError

DATES, NAMES, HORIZON, PATHS = 40, 15, 4, 32


def cases(seed: int = 0, groups: bool = False) -> Cases:
    rng = np.random.default_rng(seed)
    n = DATES * NAMES
    days = np.datetime64("2020-01-01", "us") + np.arange(DATES) * np.timedelta64(7, "D")
    step = 0.01 * rng.standard_normal((n, HORIZON))
    return Cases(
        symbols=tuple(f"S{i % NAMES}" for i in range(n)),
        as_of_N=np.repeat(days, NAMES),
        actual_NH=step.cumsum(axis=1),
        sigma_N=np.full(n, 0.01),
        overlap_H=np.zeros(HORIZON, np.int64),
        range_NH=np.full((n, HORIZON), 0.02),
        log_volume_NH=np.zeros((n, HORIZON)),
        group_N=np.array([f"g{i % 2}" for i in range(n)]) if groups else None,
    )


def forecasts(
    name: str, seed: int, *, scale: float = 1.0, baseline: bool = False, shift: float = 0.0
) -> Forecasts:
    rng = np.random.default_rng(seed)
    n = DATES * NAMES
    steps = 0.01 * scale * rng.standard_normal((n, PATHS, HORIZON))
    members = steps.cumsum(axis=2) + shift
    return Forecasts(
        name=name,
        members_NSH=members,
        p_up_NH=(members > 0).mean(axis=1),
        exact=True,
        baseline=baseline,
        path_volatility_N=np.full(n, 0.01 * scale),
        range_NH=np.full((n, HORIZON), 0.03),
        log_volume_NH=np.full((n, HORIZON), 0.5),
        n_paths=PATHS,
        floored_N=np.zeros(n),
    )


def test_a_perfect_forecaster_looks_perfect_and_a_wide_one_wide() -> None:
    made = evaluate(
        cases(groups=True),
        [forecasts("good", 1), forecasts("wide", 2, scale=3), forecasts("base", 3, baseline=True)],
    )
    assert made.best_baseline == "base"
    rows = {(r["model"], r["step"]): r for r in made.steps.to_dicts()}
    for step in range(1, HORIZON + 1):
        good, wide = rows["good", step], rows["wide", step]
        assert good["coverage_80"] == pytest.approx(0.8, abs=0.05)
        assert good["coverage_80_low"] <= good["coverage_80"] <= good["coverage_80_high"]
        assert wide["coverage_80"] > 0.97
        assert abs(sum(good["pit"]) - 1) < 1e-9
        assert max(good["pit"]) < 0.16
        assert max(wide["pit"]) > 0.2, "outcomes pile up in the middle"
        assert good["brier"] == pytest.approx(0.25, abs=0.02)
        assert good["auc"] == pytest.approx(0.5, abs=0.08)
    against = {(r["model"], r["step"]): r for r in made.against.to_dicts()}
    assert against["good", 1]["ratio"] == pytest.approx(1, abs=0.02)
    assert against["wide", 1]["ratio"] > 1.2
    assert against["wide", 1]["t"] > 5
    assert against["wide", 1]["dates_for_t2"] < DATES
    parts = made.parts.filter(made.parts["model"] == "wide")
    assert set(parts["part"]) == {"calm", "middling", "wild", "g0", "g1"}
    models = {r["model"]: r for r in made.models.to_dicts()}
    assert models["good"]["path_volatility_ratio"] == pytest.approx(1.06, abs=0.06)
    assert models["wide"]["path_volatility_ratio"] > 2.8
    assert models["good"]["volatility_qlike"] < models["wide"]["volatility_qlike"]
    assert models["good"]["range_mae"] == pytest.approx(0.01)
    assert models["good"]["log_volume_mae_1"] == pytest.approx(0.5)
    assert models["good"]["variance_ratio"] == pytest.approx(1, abs=0.1)


def test_reversion_of_paths_is_seen() -> None:
    base = forecasts("reverting", 4)
    noise = 0.01 * np.random.default_rng(5).standard_normal(base.members_NSH.shape)
    odd = Forecasts(**{**vars(base), "members_NSH": noise})
    made = evaluate(cases(), [odd, forecasts("base", 3, baseline=True)])
    row = made.models.to_dicts()[0]
    assert row["autocorrelation"] < -0.3
    assert row["variance_ratio"] < 0.5


def test_a_ranking_that_holds_has_an_information_coefficient() -> None:
    found = cases()
    base = forecasts("informed", 6)
    informed = Forecasts(
        **{**vars(base), "members_NSH": base.members_NSH + 0.5 * found.actual_NH[:, None]}
    )
    row = evaluate(found, [informed]).steps.to_dicts()[0]
    assert row["rank_ic"] > 0.5
    assert row["rank_ic_t"] > 5
    assert row["fifths"] == sorted(row["fifths"])
    assert row["slope"] > 0.9


@given(st.integers(1, 5), st.integers(2, 12), st.integers(0, 99))
def test_the_energy_score_is_the_fair_one(windows: int, paths: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    members = rng.standard_normal((windows, paths, 3))
    actual = rng.standard_normal((windows, 3))
    expected = scoringrules.es_ensemble(actual, members, m_axis=-2, v_axis=-1, estimator="fair")
    found = energy_score(members, actual, np.ones((windows, 3)))
    np.testing.assert_allclose(found, expected / np.sqrt(3), rtol=1e-6, atol=1e-9)


@given(st.integers(4, 60), st.integers(0, 200))
def test_auc_counts_ties_as_mann_whitney_does(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score, up = rng.integers(0, 6, n) / 5, rng.random(n) < 0.5
    if up.all() or not up.any():
        assert np.isnan(auc(score, up))
        return
    u = mannwhitneyu(score[up], score[~up]).statistic
    assert auc(score, up) == pytest.approx(u / (up.sum() * (~up).sum()))


@given(st.integers(8, 60), st.integers(0, 5), st.integers(0, 99))
def test_hac_errors_are_those_of_statsmodels(n: int, lags: int, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import statsmodels.api as sm

        x = np.random.default_rng(seed).standard_normal(n).cumsum() / 5
        fitted = sm.OLS(x, np.ones(n)).fit(
            cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True}
        )
        found = date_mean(x, lags)
        assert found.mean == pytest.approx(fitted.params[0])
        assert found.error == pytest.approx(fitted.bse[0], rel=1e-6)


def test_dates_weigh_alike_and_gaps_are_left_out() -> None:
    value = np.array([1.0, 3.0, 10.0, np.nan])
    assert per_date(value, np.array([0, 0, 1, 2]), 4).tolist()[:2] == [2, 10]
    assert np.isnan(per_date(value, np.array([0, 0, 1, 2]), 4)[2:]).all()
    assert date_mean(np.array([2.0, 10.0, np.nan]), 0).mean == 6
    assert np.isnan(date_mean(np.array([1.0]), 3).t)
    low, high = block_interval(np.random.default_rng(0).standard_normal(200), 5)
    assert -0.3 < low < high < 0.3
    assert overlap_lags(np.arange(0, 100, 5), 20) == 3, "ceil(20 / 5) - 1"


def test_quantiles_stand_for_the_ensemble_they_came_from() -> None:
    rng = np.random.default_rng(2)
    members, actual = rng.standard_normal((300, 200, 2)), rng.standard_normal((300, 2))
    levels = tuple(q for q in QUANTILES)
    exact = window_crps(members, actual, fair=False).mean()
    kept = window_crps(as_quantiles(members, levels), actual, fair=False).mean()
    assert kept == pytest.approx(exact, rel=0.005)
    seven = np.full((1, 1, len(levels)), np.nan)
    seven[..., 1:-1] = np.quantile(members[0, :, 0], levels[1:-1])
    assert np.isfinite(points_of_quantiles(seven, levels)).all()


def test_the_histogram_is_flat_for_the_right_distribution() -> None:
    rng = np.random.default_rng(1)
    share = pit_histogram(np.sort(rng.standard_normal((99, 20_000)), axis=0),
                          rng.standard_normal(20_000))  # fmt: skip
    np.testing.assert_allclose(share, 0.1, atol=0.008)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [("future", "has an outcome"), ("constant", "same constant"), ("one", "one path")],
)
def test_bad_input_is_one_line(spoil: str, words: str) -> None:
    found, model = cases(), vars(forecasts("m", 1))
    if spoil == "future":
        found = Cases(**{**vars_of(found), "actual_NH": np.full((DATES * NAMES, HORIZON), np.nan)})
    elif spoil == "constant":
        model = model | {"members_NSH": np.zeros_like(model["members_NSH"])}
    else:
        model = model | {"n_paths": 1}
    with pytest.raises(ForecastInputError, match=words) as raised:
        evaluate(found, [Forecasts(**model)])
    assert "\n" not in str(raised.value)


def vars_of(found: Cases) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__dataclass_fields__}
