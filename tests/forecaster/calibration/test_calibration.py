"""Faulty forecasters of a made-up market are repaired on dates the fit has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecaster.calibration import MODEL, Calibration, PastForecasts, calibrate, fit
from forecaster.calibration.closes import calibrated_closes, moved_model
from forecaster.calibration.conformal import LEVELS, Map, mapped
from forecaster.calibration.fit import identity
from forecaster.calibration.gate import Fitted, relative_crps
from forecaster.calibration.past import POOLED, fit_steps
from forecaster.calibration.pool import fit_weights, pooled, shares
from forecaster.calibration.spread import fit_memory, path_volatility, reordered
from forecaster.quantiles import ensemble_quantiles
from forecaster.scores import window_crps
from market.errors import ForecastInputError
from tests.forecaster.made_up import Market, faulty, market, past_of

FIT_DATES, TEST_DATES = 100, 60
FAULTS = ("perfect", "too wide", "too narrow", "biased", "mean reverting", "noisy levels")


@pytest.fixture(scope="module")
def made() -> Market:
    return market(FIT_DATES + TEST_DATES, n_symbols=12, horizon=8, n_paths=48)


@pytest.fixture(scope="module")
def past(made: Market) -> PastForecasts:
    return past_of(made, made.perfect_NSH)


@pytest.fixture(scope="module")
def with_fault(made: Market, past: PastForecasts) -> Callable[[str], PastForecasts]:
    def build(name: str) -> PastForecasts:
        model = faulty(name, made).astype(np.float32)
        return replace(past, members={**past.members, MODEL: model})

    return build


def published(past: PastForecasts, calibration: Calibration) -> np.ndarray:
    parts = [past.members[name] for name in (MODEL, *POOLED)]
    return calibrated_closes(parts, past.sigma_N, calibration).close_NSH


def mean_crps(members_NSH: np.ndarray, past: PastForecasts) -> np.ndarray:
    return (window_crps(members_NSH, past.actual_NH) / past.unit_NH).mean(axis=0)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_repaired_on_unseen_dates(
    fault: str, with_fault: Callable[[str], PastForecasts], made: Market
) -> None:
    past = with_fault(fault)
    split = past.as_of_D[FIT_DATES]
    test = past.rows(past.as_of_N > split)
    calibration = fit(past.known_by(split))
    perfect = mean_crps(made.perfect_NSH[past.as_of_N > split], test)
    ratio = (mean_crps(published(test, calibration), test) / perfect).mean()
    assert ratio <= 1.01
    raw = (mean_crps(test.members[MODEL], test) / perfect).mean()
    if fault not in ("perfect", "noisy levels"):
        assert raw > 1.04, "there was something to repair"


def test_a_made_up_reversion_is_smoothed_out_of_the_paths(
    with_fault: Callable[[str], PastForecasts],
) -> None:
    past = with_fault("noisy levels")
    calibration = fit(past)
    assert calibration.memory > 0
    actual = np.diff(past.actual_NH, axis=1, prepend=0.0).std(axis=1, ddof=1).mean()
    raw = path_volatility(past.members[MODEL].astype(np.float64)).mean() / actual
    after = path_volatility(published(past, calibration)).mean() / actual
    assert raw > 1.3
    assert 0.9 <= after <= 1.15


@given(memory=st.sampled_from([-0.3, -0.1, 0.2, 0.6]), seed=st.integers(0, 100))
def test_how_paths_move_leaves_every_step_as_it_was(memory: float, seed: int) -> None:
    members = np.random.default_rng(seed).standard_normal((3, 20, 6)).cumsum(axis=2)
    out = reordered(members, memory)
    assert (np.sort(out, axis=1) == np.sort(members, axis=1)).all()
    moved, before = (path_volatility(each).mean() for each in (out, members))
    assert (moved < before) == (memory > 0)


@pytest.mark.parametrize("lag", [-0.5, 0.2])
def test_paths_that_move_too_much_or_too_little_are_brought_towards_the_market(lag: float) -> None:
    """Steps of the paths follow each other where the market's do not, or the other way round."""
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((200, 33, 10))
    for h in range(1, 10):
        steps[..., h] += lag * steps[..., h - 1]
    level = steps.cumsum(axis=2)
    level /= level.std(axis=1, keepdims=True) / np.sqrt(np.arange(1, 11))
    actual = rng.standard_normal((200, 10)).cumsum(axis=1)
    day = np.arange(200) // 2
    memory = fit_memory(level, level, actual, np.ones(200), day, 0)
    after = path_volatility(reordered(level, memory)).mean()
    assert np.sign(memory) == -np.sign(lag)
    assert abs(np.log(after)) < 0.6 * abs(np.log(path_volatility(level).mean()))


def test_a_lucky_streak_tilts_no_forecast(past: PastForecasts) -> None:
    """Seven rises in ten at one step of sixty dates: little of it is believed."""
    few = past.rows((past.date_N < 60) & np.array([s == "S00" for s in past.symbols]))
    rose = np.random.default_rng(2).random(few.actual_NH.shape[0]) < 0.7
    actual = few.actual_NH.copy()
    actual[:, 1] = np.abs(actual[:, 1]) * np.where(rose, 1, -1)
    found = fit(replace(few, actual_NH=actual))
    assert 0.5 < found.up_share[1] < 0.56
    assert 0 <= found.mean_shift[1] < 0.8 * np.nanmean(actual[:, 1] / few.unit_NH[:, 1])


def test_intervals_cover_what_they_say_on_unseen_dates(
    with_fault: Callable[[str], PastForecasts],
) -> None:
    past = with_fault("too narrow")
    split = past.as_of_D[FIT_DATES]
    test = past.rows(past.as_of_N > split)
    members = np.moveaxis(np.sort(published(test, fit(past.known_by(split))), axis=1), 1, 0)
    low, high = ensemble_quantiles(members, (0.1, 0.9))
    inside = (low <= test.actual_NH) & (test.actual_NH <= high)
    assert inside.mean() == pytest.approx(0.8, abs=0.05)


def test_a_volatility_regime_is_followed_within_thirty_dates() -> None:
    """Volatility doubles while the model's spread stays: 30 dates later the published forecast is
    within 4% of the perfect one again."""
    made = market(150, n_symbols=12, horizon=3, n_paths=48, jump=0.7, seed=3)
    blind = made.perfect_NSH.copy()
    past = past_of(made, blind)
    late = past.date_N >= 75
    middle = blind.mean(axis=1, keepdims=True)
    blind[late] = (middle + (blind - middle) * np.exp(-0.7))[late]
    past = replace(past, members={**past.members, MODEL: blind.astype(np.float32)})

    def ratio(first: int, last: int) -> float:
        ours, theirs = [], []
        for d in range(first, last, 4):
            now = past.as_of_N == past.as_of_D[d]
            test = past.rows(now)
            calibration = fit(past.known_by(past.as_of_D[d]))
            ours.append(mean_crps(published(test, calibration), test))
            theirs.append(mean_crps(made.perfect_NSH[now], test))
        return float((np.mean(ours, axis=0) / np.mean(theirs, axis=0)).mean())

    assert ratio(105, 145) <= 1.04


@given(seed=st.integers(0, 1000), model_share=st.sampled_from([0.0, 0.5, 1.0]),
       factor=st.floats(0.3, 3.0), shrink=st.floats(0.0, 1.0))  # fmt: skip
def test_members_keep_their_ranks(
    seed: int, model_share: float, factor: float, shrink: float
) -> None:
    rng = np.random.default_rng(seed)
    model = rng.standard_normal((3, 10, 4)).cumsum(axis=2) * 0.02
    other = rng.standard_normal((3, 10, 4)) * 0.03
    base = identity((1, 2, 4)).as_dict()
    changed = Calibration.from_dict(
        base | {"model_share": model_share, "spread_factor": [factor] * 3,
                "mean_factor": [shrink] * 3,
                "upper": [x * 1.3 for x in LEVELS], "lower": [x * 0.8 for x in LEVELS]}
    )  # fmt: skip
    out = calibrated_closes([model, other, other], np.full(3, 0.02), changed).close_NSH
    assert (np.argsort(out, axis=1) == np.argsort(model, axis=1)).all()
    moved, _ = moved_model(model, other, np.full((3, 4), 0.02), changed)
    assert (np.argsort(moved, axis=1) == np.argsort(model, axis=1)).all()


def test_the_identity_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    model = rng.standard_normal((3, 10, 4)) * 0.02
    same = calibrated_closes([model, model, model], np.full(3, 0.02), identity((1, 2, 4)))
    np.testing.assert_allclose(same.close_NSH, model, atol=1e-12)
    np.testing.assert_allclose(same.stretch_NSH, 1.0)


@given(st.lists(st.floats(0.01, 3), min_size=3, max_size=3), st.integers(0, 100))
def test_the_residual_map_is_increasing(steps: list[float], seed: int) -> None:
    knots, to = np.cumsum(steps), np.cumsum(steps[::-1])
    residuals = Map(tuple(knots), tuple(to), tuple(to * 0.5))
    x = np.sort(np.random.default_rng(seed).normal(0, 4, 50))
    assert (np.diff(mapped(x, residuals)) >= 0).all()
    assert np.sign(mapped(x, residuals)).tolist() == np.sign(x).tolist()


def test_a_fit_does_not_see_what_was_not_known(past: PastForecasts) -> None:
    moment = past.as_of_D[FIT_DATES]
    later = past.ended_NH > moment
    poisoned = replace(
        past,
        actual_NH=np.where(later, 9.0, past.actual_NH),
        members={
            name: np.where((past.as_of_N >= moment)[:, None, None], 7.0, each).astype(np.float32)
            for name, each in past.members.items()
        },
    )
    known, other = past.known_by(moment), poisoned.known_by(moment)
    assert known.digest() == other.digest()
    assert fit(known) == fit(other)
    assert np.isnan(known.actual_NH).any(), "horizons that had not ended are unknown, not cut off"
    assert calibrate(known) == calibrate(other)


def test_too_few_dates_are_said_and_nothing_is_changed(past: PastForecasts) -> None:
    early = past.known_by(past.as_of_D[40])
    fitted = calibrate(early)
    assert fitted.published == "raw"
    assert fitted.calibration is None
    assert fitted.status == "uncalibrated: 33 of 60 past dates whose horizon has ended"


def test_the_gate_publishes_what_did_best(
    with_fault: Callable[[str], PastForecasts], past: PastForecasts
) -> None:
    relative = relative_crps(with_fault("mean reverting"))
    assert np.nanmean(relative["calibrated"]) < np.nanmean(relative["raw"])
    assert np.nanmean(relative["random-walk"]) == pytest.approx(1)
    assert calibrate(with_fault("mean reverting")).published == "calibrated"
    noise = np.random.default_rng(1).standard_normal(past.members[MODEL].shape)
    worthless = replace(past, members={**past.members, MODEL: noise.astype(np.float32)})
    fitted = calibrate(worthless)
    assert fitted.published != "raw"
    assert fitted.ratios[fitted.published] <= min(fitted.ratios.values()) + 0.02
    assert Fitted.from_dict(fitted.as_dict()) == fitted


def test_unadjusted_splits_are_not_learned_from(past: PastForecasts) -> None:
    odd = past.actual_NH.copy()
    odd[::50] = np.log(0.1)
    assert np.isnan(replace(past, actual_NH=odd).learnable().actual_NH[::50]).all()
    assert np.isfinite(past.learnable().actual_NH).all()


def test_pool_weights_find_the_better_part() -> None:
    rng = np.random.default_rng(0)
    actual = rng.standard_normal((400, 3))
    good, bad = rng.standard_normal((400, 20, 3)), 5 + rng.standard_normal((400, 20, 3))
    ones = np.ones_like(actual)
    assert fit_weights([bad, good, bad], actual, ones, ones) == (0.0, 1.0, 0.0)
    assert shares((0.5, 0.3, 0.2), 7) == (4, 2, 1)
    out, source = pooled([good, bad, bad], (0.5, 0.3, 0.2))
    assert out.shape == good.shape
    assert (out[:, source == 1] == bad[:, source == 1]).all()


def test_steps_and_one_path() -> None:
    assert fit_steps(20).tolist() == [1, 2, 3, 5, 8, 13, 20]
    assert fit_steps(1).tolist() == [1]
    with pytest.raises(ForecastInputError, match="one path cannot be scored"):
        PastForecasts(("A",), np.array(["2020-01-01"], "datetime64[us]"),
                      {MODEL: np.zeros((1, 1, 2))}, np.ones(1), np.zeros((1, 2)),
                      np.full((1, 2), np.datetime64("2020-01-03", "us")))  # fmt: skip
