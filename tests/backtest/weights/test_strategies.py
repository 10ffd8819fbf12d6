"""What strategies want to hold, against plain definitions and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.fills.inputs import Targets
from backtest.fills.targets import many_targets
from backtest.weights.selection import best_nb
from backtest.weights.settings import Signals, StrategySettings
from backtest.weights.strategies import build_targets
from market.errors import BacktestInputError, ConfigError

NAMES = ["topk", "dropout", "longshort", "threshold", "kelly"]


def scores(seed: int, n_rows: int = 12, n: int = 15) -> np.ndarray:
    """With ties, and NaN here and there."""
    rng = np.random.default_rng(seed)
    out = rng.normal(size=(n_rows, n)).round(1)
    out[rng.random(out.shape) < 0.15] = np.nan
    return out


def signals(score_DN: np.ndarray) -> Signals:
    rng = np.random.default_rng(7)
    shape = (40, score_DN.shape[1])
    row_D = np.arange(0, 3 * len(score_DN), 3)
    returns = rng.normal(0, 0.01, (3 * len(score_DN) + 40, shape[1]))
    return Signals(
        row_D=row_D,
        score_DN=score_DN,
        volatility_DN=rng.uniform(0.005, 0.04, (100, shape[1]))[: len(score_DN)],
        beta_DN=rng.uniform(0.5, 1.5, (100, shape[1]))[: len(score_DN)],
        mean_DN=score_DN / 100,
        deviation_DN=rng.uniform(0.02, 0.1, (100, shape[1]))[: len(score_DN)],
        window_return=lambda row, column_K: returns[row : row + 40, column_K],
    )


def rows(targets: Targets) -> list[dict[int, float]]:
    """Weights by column, in the listed order, per decision."""
    spans = zip(targets.start_R1[:-1], targets.start_R1[1:], strict=True)
    return [
        dict(zip(targets.column_M[a:b].tolist(), targets.weight_M[a:b].tolist(), strict=True))
        for a, b in spans
    ]


@given(seed=st.integers(0, 10_000), k=st.integers(1, 20))
def test_the_best_k_are_those_of_a_sort(seed: int, k: int) -> None:
    score_DN = scores(seed)
    start, column = best_nb(score_DN, np.full(len(score_DN), k))
    for d, score in enumerate(score_DN):
        ranked = sorted((-s, c) for c, s in enumerate(score) if not np.isnan(s))
        assert column[start[d] : start[d + 1]].tolist() == [c for _, c in ranked[:k]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighting", ["equal", "score", "inverse_volatility"])
def test_a_later_score_changes_no_earlier_weight(name: str, weighting: str) -> None:
    settings = StrategySettings(
        name=name,  # type: ignore[arg-type]
        k=4,
        weighting=weighting,  # type: ignore[arg-type]
        quantile=0.3,
        max_turnover=0.4,
        max_weight=0.4,
        volatility_target=0.1,
    )
    score_DN = scores(3)
    other_DN = score_DN.copy()
    other_DN[7:] = -other_DN[7:]
    clean, dirty = (rows(build_targets(settings, signals(s))) for s in (score_DN, other_DN))
    assert clean[:7] == dirty[:7]
    assert clean != dirty


@pytest.mark.parametrize("name", NAMES)
def test_a_name_without_a_score_is_not_bought(name: str) -> None:
    score_DN = scores(5)
    score_DN[:, 2] = np.nan
    settings = StrategySettings(name=name, k=15, quantile=0.5)  # type: ignore[arg-type]
    assert all(2 not in row for row in rows(build_targets(settings, signals(score_DN))))


@given(seed=st.integers(0, 10_000), n_drop=st.integers(0, 4))
def test_dropout_replaces_at_most_n_drop_of_the_worst(seed: int, n_drop: int) -> None:
    score_DN = scores(seed)
    settings = StrategySettings(name="dropout", k=5, n_drop=n_drop)
    held: set[int] = set()
    for score, row in zip(score_DN, rows(build_targets(settings, signals(score_DN))), strict=True):
        gone, new = held - set(row), set(row) - held
        assert len(gone) <= n_drop
        assert len(row) <= 5
        assert not np.isnan(score[list(new)]).any()
        if held:
            assert len(row) >= len(held), "a name is only sold for another one"
        value = np.nan_to_num(score, nan=-np.inf)
        for sold in gone:
            assert all(value[sold] <= value[kept] for kept in held - gone)
        held = set(row)


def test_dropout_without_drops_never_sells() -> None:
    settings = StrategySettings(name="dropout", k=3, n_drop=0)
    weights = rows(build_targets(settings, signals(scores(1))))
    assert all(set(row) == set(weights[0]) for row in weights)


@pytest.mark.parametrize("weighting", ["equal", "score", "inverse_volatility"])
def test_legs_of_a_dollar_neutral_strategy_cancel(weighting: str) -> None:
    settings = StrategySettings(
        name="longshort",
        quantile=0.25,
        weighting=weighting,  # type: ignore[arg-type]
        gross=2.0,
    )
    for row in rows(build_targets(settings, signals(scores(2)))):
        weight = np.array(list(row.values()))
        assert weight.sum() == pytest.approx(0, abs=1e-12)
        assert np.abs(weight).sum() == pytest.approx(2.0)


def test_betas_of_a_beta_neutral_strategy_cancel() -> None:
    settings = StrategySettings(name="longshort", quantile=0.25, neutral="beta")
    given = signals(scores(2))
    assert given.beta_DN is not None
    for d, row in enumerate(rows(build_targets(settings, given))):
        beta = sum(weight * given.beta_DN[d, c] for c, weight in row.items())
        assert beta == pytest.approx(0, abs=1e-12)
        assert sum(map(abs, row.values())) == pytest.approx(1.0)


def test_thresholds_hold_until_the_lower_one() -> None:
    score_DN = np.array([[0.6, 0.2], [0.3, 0.2], [np.nan, 0.8], [0.0, 0.4], [0.3, 0.6]])
    settings = StrategySettings(name="threshold", enter=0.5, leave=0.1)
    held = [set(row) for row in rows(build_targets(settings, signals(score_DN)))]
    assert held == [{0}, {0}, {0, 1}, {1}, {1}]


def test_kelly_by_hand() -> None:
    given = Signals(
        row_D=np.array([0]),
        score_DN=np.array([[0.01, 0.02, -0.01]]),
        mean_DN=np.array([[0.01, 0.02, -0.01]]),
        deviation_DN=np.array([[0.2, 0.2, 0.1]]),
    )
    settings = StrategySettings(name="kelly", kelly_fraction=0.5, gross=2.0)
    assert rows(build_targets(settings, given)) == [pytest.approx({1: 0.25, 0: 0.125})]
    both = StrategySettings(name="kelly", kelly_fraction=1.0, gross=1.0)
    # 0.25, 0.5 and -1 shrink to a gross of 1.
    expected = {2: -1 / 1.75, 1: 0.5 / 1.75, 0: 0.25 / 1.75}
    assert rows(build_targets(both, replace(given, short=True))) == [pytest.approx(expected)]


def test_weights_by_score_and_volatility_by_hand() -> None:
    given = Signals(
        row_D=np.array([0]),
        score_DN=np.array([[3.0, 1.0, 2.0, -5.0]]),
        volatility_DN=np.array([[0.01, 0.02, np.nan, 0.01]]),
    )
    by_score = StrategySettings(k=3, weighting="score")
    # Above the least: 2, 0, 1; plus their mean 1: 3, 1, 2 of 6.
    assert rows(build_targets(by_score, given)) == [pytest.approx({0: 3 / 6, 2: 2 / 6, 1: 1 / 6})]
    by_risk = StrategySettings(k=3, weighting="inverse_volatility")
    # 100, 50, and their median 75 where there is not an estimate.
    expected = {0: 100 / 225, 2: 75 / 225, 1: 50 / 225}
    assert rows(build_targets(by_risk, given)) == [pytest.approx(expected)]


def test_caps_only_take_away() -> None:
    given = signals(scores(4))
    plain = rows(build_targets(StrategySettings(k=4), given))
    capped = rows(build_targets(StrategySettings(k=4, max_weight=0.2), given))
    assert all(set(a) == set(b) for a, b in zip(plain, capped, strict=True))
    assert all(max(row.values()) == pytest.approx(0.2) for row in capped)
    group = np.array([0] * 5 + [1] * 10)
    grouped = build_targets(StrategySettings(k=4, max_group=0.3), given, group_N=group)
    for row in rows(grouped):
        for number in (0, 1):
            assert sum(w for c, w in row.items() if group[c] == number) <= 0.3 + 1e-12


def test_the_turnover_cap_moves_part_of_the_way() -> None:
    score_DN = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    settings = StrategySettings(k=1, max_turnover=0.25)
    weights = rows(build_targets(settings, signals(score_DN)))
    assert weights[0] == {0: 1.0}
    assert weights[1] == pytest.approx({1: 0.25, 0: 0.75})
    assert weights[2] == pytest.approx({1: 0.5, 0: 0.5})


def test_the_volatility_target_scales_down_and_never_up() -> None:
    quiet = np.tile([0.001, -0.001], (20, 1)).reshape(-1, 1)
    score_DN = np.array([[1.0]])
    for size, expected in ((1.0, 1.0), (20.0, 0.1 / (0.02 * 252**0.5))):
        given = Signals(
            np.array([0]), score_DN, window_return=lambda row, column, s=size: quiet * s
        )
        settings = StrategySettings(k=1, volatility_target=0.1)
        assert rows(build_targets(settings, given)) == [pytest.approx({0: expected})]


def test_sets_joined_stay_themselves() -> None:
    sets = [build_targets(StrategySettings(k=k), signals(scores(k))) for k in (1, 3, 5)]
    joined = many_targets(sets)
    assert rows(joined) == [row for each in sets for row in rows(each)]
    assert np.diff(joined.set_S1).tolist() == [12, 12, 12]


def test_missing_signals_and_impossible_settings_are_named() -> None:
    bare = Signals(np.array([0]), np.array([[1.0, 2.0]]))
    for settings, what in (
        (StrategySettings(weighting="inverse_volatility"), "inverse-volatility weights need"),
        (StrategySettings(name="kelly"), "Kelly weights need"),
        (StrategySettings(name="longshort", quantile=0.5, neutral="beta"), "beta-neutral legs"),
        (StrategySettings(volatility_target=0.1), "volatility target needs"),
        (StrategySettings(max_group=0.1), "a group cap need"),
    ):
        with pytest.raises(BacktestInputError, match=what):
            build_targets(settings, bare)
    with pytest.raises(ConfigError, match=r"leave 0.2 is above enter 0.1.*sold at once"):
        StrategySettings(name="threshold", enter=0.1, leave=0.2)
