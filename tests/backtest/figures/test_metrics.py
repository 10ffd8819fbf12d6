"""The figures of a book against other libraries, closed forms and hand counts."""

from __future__ import annotations

import warnings
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest

from backtest import BacktestResult
from backtest.figures import ic, metrics
from backtest.fills.stats import N_TOTALS, STATS, Total, summarise_nb
from tests.backtest.made_up import weekdays


@pytest.fixture(scope="module")
def equity() -> np.ndarray:
    return 1e6 * np.cumprod(1 + np.random.default_rng(0).normal(4e-4, 0.012, 500))


def test_volatility_and_sharpe_are_those_of_pandas(equity: np.ndarray) -> None:
    returns = pd.Series(equity).pct_change().dropna()
    ours = metrics.returns(equity)
    np.testing.assert_allclose(ours, returns)
    assert metrics.volatility(ours, 252) == pytest.approx(returns.std() * 252**0.5)
    assert metrics.sharpe(ours, 252) == pytest.approx(returns.mean() / returns.std() * 252**0.5)


def test_drawdown_is_that_of_pandas(equity: np.ndarray) -> None:
    series = pd.Series(equity)
    expected = series / series.cummax() - 1
    np.testing.assert_allclose(metrics.drawdown(equity), expected)
    under = expected < 0
    spells = under.groupby((~under).cumsum()).sum()
    assert metrics.longest_drawdown(equity) == spells.max()


def test_drawdown_by_hand() -> None:
    path = np.array([100, 90, 95, 100, 101, 80.8, 90, 90])
    assert metrics.drawdown(path).min() == pytest.approx(-0.2)
    assert metrics.longest_drawdown(path) == 3
    assert metrics.longest_drawdown(np.array([1.0, 2.0, 3.0])) == 0


def test_cagr_of_a_doubling_in_two_years() -> None:
    assert metrics.cagr(np.array([1.0, 1.7, 2.0]), 2.0) == pytest.approx(2**0.5 - 1)


def test_sharpe_error_is_los_formula() -> None:
    # Lo (2002), table 1: 24 monthly observations, SR 0.5 a month -> 0.217.
    returns = np.tile([1.0, -1.0], 12)
    returns = returns / returns.std(ddof=1) + 0.5
    assert metrics.sharpe(returns, 1) == pytest.approx(0.5)
    assert metrics.sharpe_error(returns, 1) == pytest.approx(0.217, abs=5e-4)
    assert metrics.sharpe_error(returns, 12) == pytest.approx(0.2165 * 12**0.5, abs=2e-3)


def test_sortino_by_hand() -> None:
    returns = np.array([0.03, -0.01, 0.02, -0.02])
    assert metrics.sortino(returns, 4) == pytest.approx(0.005 / (0.0005 / 4) ** 0.5 * 2)


def test_undefined_figures_are_nan_rather_than_infinite() -> None:
    flat = np.zeros(10)
    assert np.isnan(metrics.sharpe(flat, 252))
    assert np.isnan(metrics.sortino(np.full(10, 0.01), 252))
    assert np.isnan(metrics.hit_rate(flat))
    assert np.isnan(ic.hac_t(np.array([0.1]), 2))
    assert np.isnan(ic.hac_t(np.full(5, 0.1), 2))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (weekdays(300), 261 / 252),
        ([date(2020, 1, 1) + timedelta(days=i) for i in range(400)], 1),
        ([date(2020, 1, 3) + timedelta(weeks=i) for i in range(60)], 1),
    ],
    ids=["weekdays", "days", "weeks"],
)
def test_bars_per_year_are_counted(labels: list[date], expected: float) -> None:
    counted = metrics.bars_per_year(np.array(labels, "datetime64[us]"))
    assert counted in (252, 365, 52)
    assert counted == pytest.approx({300: 252, 400: 365, 60: 52}[len(labels)])


def test_bars_per_year_of_hours() -> None:
    hours = np.arange("2020-01-01", "2021-01-01", dtype="datetime64[h]").astype("datetime64[us]")
    assert metrics.bars_per_year(hours) == 365 * 24


def test_rank_ic_is_spearmans_with_average_ranks_for_ties() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    days = [datetime(2020, 1, d) for d in (3, 10, 17, 24)]
    frame = pl.DataFrame(
        {
            "as_of": np.repeat(np.array(days, "datetime64[us]"), 30),
            "as_of_date": [day.date() for day in days for _ in range(30)],
            "score": rng.normal(size=120).round(1),
            "realised": rng.normal(size=120).round(1),
        }
    )
    found = ic.rank_ic(frame, lag=1)
    expected = [
        scipy_stats.spearmanr(part["score"], part["realised"]).statistic
        for part in frame.partition_by("as_of")
    ]
    np.testing.assert_allclose(found.by_date["ic"], expected, atol=1e-12)
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.lag == 1
    assert found.dates == 4


def test_rank_ic_leaves_out_what_cannot_be_ranked() -> None:
    nan = float("nan")
    frame = pl.DataFrame(
        {
            "as_of": [datetime(2020, 1, d) for d in (1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4)],
            "as_of_date": [date(2020, 1, d) for d in (1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4)],
            "score": [1.0, 2, 3, nan, 5, 5, 5, 1, 2, 3, 1, 2],
            "realised": [0.1, 0.2, 0.3, -9, 1, 2, 3, 1, 2, nan, 1, 2],
        }
    )
    found = ic.rank_ic(frame, lag=0)
    assert found.by_date["ic"][0] == pytest.approx(1.0)
    assert np.isnan(found.by_date["ic"][1:].to_numpy()).all()
    assert found.dates == 1


@pytest.mark.parametrize("lag", [0, 1, 4, 60])
def test_hac_t_against_the_double_sum_over_all_pairs(lag: int) -> None:
    rng = np.random.default_rng(2)
    values = 0.02 + np.convolve(rng.normal(0, 0.1, 53), np.ones(4), "valid")
    n = len(values)
    error = values - values.mean()
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    weights = np.maximum(1 - distance / (lag + 1), 0)
    variance = (np.outer(error, error) * weights).sum() / n**2
    assert ic.hac_t(values, lag) == pytest.approx(values.mean() / variance**0.5)


def test_hac_t_without_lags_is_the_plain_t() -> None:
    values = np.random.default_rng(3).normal(0.1, 1, 400)
    plain = values.mean() / (values.std(ddof=0) / 20)
    assert ic.hac_t(values, 0) == pytest.approx(plain)


def test_overlapping_windows_widen_the_error() -> None:
    rng = np.random.default_rng(4)
    overlapping = 0.3 + np.convolve(rng.normal(0, 1, 403), np.ones(4) / 4, "valid")
    assert abs(ic.hac_t(overlapping, 8)) < 0.75 * abs(ic.hac_t(overlapping, 0))


@pytest.mark.parametrize(
    ("rows", "horizon", "expected"),
    [([0, 5, 10, 15], 20, 3), ([0, 5, 10, 15], 5, 0), ([0, 5, 10, 15], 6, 1), ([3], 20, 0)],
)
def test_overlap_counts_the_windows_that_share_bars(
    rows: list[int], horizon: int, expected: int
) -> None:
    assert ic.overlap(np.array(rows), horizon) == expected


def test_cost_drag_and_turnover_follow_the_orders(result: BacktestResult) -> None:
    for book in result.books:
        traded = book.orders.filter(~pl.col("settled"))
        years = (book.daily.height - 1) / result.periods_per_year
        slippage = (traded["value"] - traded["size"] * traded["reference"]).abs()
        cost = traded["fee"].sum() + slippage.sum()
        drag = cost / book.daily["equity"].mean() / years
        assert book.metrics.cost_drag == pytest.approx(drag)
        equity = dict(book.daily.select("close_utc", "equity").iter_rows())
        half = sum(o["value"] / 2 / equity[o["as_of"]] for o in traded.iter_rows(named=True))
        assert book.metrics.turnover == pytest.approx(half / years)
        assert book.metrics.orders == traded.height


def test_realised_returns_are_close_to_close_over_the_horizon(result: BacktestResult) -> None:
    finite = result.scores.filter(pl.col("realised").is_finite())
    assert finite.height > 100
    assert 0 <= result.picks_above_median <= 1


@pytest.fixture(scope="module")
def two_books() -> tuple[np.ndarray, np.ndarray]:
    """Returns of a book and of its benchmark."""
    rng = np.random.default_rng(5)
    market = rng.standard_t(4, 700) * 0.01
    return 0.0003 + 0.7 * market + rng.normal(0, 0.005, 700), market


def test_figures_that_empyrical_defines_too_agree_with_it(
    two_books: tuple[np.ndarray, np.ndarray],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        empyrical = pytest.importorskip("empyrical")
        book, market = two_books
        theirs = {
            "volatility": empyrical.annual_volatility(book),
            "sharpe": empyrical.sharpe_ratio(book),
            "sortino": empyrical.sortino_ratio(book),
            "drawdown": empyrical.max_drawdown(book),
            "calmar": empyrical.calmar_ratio(book),
            "var": empyrical.value_at_risk(book),
            "cvar": empyrical.conditional_value_at_risk(book),
            "tail": empyrical.tail_ratio(book),
            "beta": empyrical.beta(book, market),
        }
    equity = np.concatenate(([1.0], np.cumprod(1 + book)))
    growth = metrics.cagr(equity, len(book) / 252)
    deepest = metrics.drawdown(equity).min()
    ours = {
        "volatility": metrics.volatility(book, 252),
        "sharpe": metrics.sharpe(book, 252),
        "sortino": metrics.sortino(book, 252),
        "drawdown": deepest,
        "calmar": metrics.calmar(growth, deepest),
        "var": metrics.value_at_risk(book),
        "cvar": metrics.conditional_value_at_risk(book),
        "tail": metrics.tail_ratio(book),
        "beta": metrics.alpha_beta(book, market, 252)[1],
    }
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_alpha_profit_factor_and_moments_by_definition(
    two_books: tuple[np.ndarray, np.ndarray],
) -> None:
    book, market = two_books
    alpha, beta = metrics.alpha_beta(book, market, 252)
    slope, intercept = np.polyfit(market, book, 1)
    assert (alpha, beta) == pytest.approx((intercept * 252, slope))
    assert metrics.profit_factor(book) == pytest.approx(
        book[book > 0].sum() / -book[book < 0].sum()
    )
    skew, kurtosis = metrics.moments(book)
    assert skew == pytest.approx(pd.Series(book).skew(), rel=0.01)
    assert kurtosis - 3 == pytest.approx(pd.Series(book).kurt(), rel=0.03)
    assert np.isnan(metrics.profit_factor(np.array([0.1, 0.2])))


def test_capacity_is_where_impact_eats_all_growth() -> None:
    # 8% net, of which impact took 2%: at 25 times the equity it takes 5 times as much, all of it.
    assert metrics.capacity(1e6, 0.08, 0.02) == pytest.approx(25e6)
    assert metrics.capacity(1e6, -0.05, 0.02) == 0.0
    assert np.isnan(metrics.capacity(1e6, 0.08, 0.0))


@pytest.mark.parametrize("ruined", [False, True])
def test_streamed_statistics_are_those_of_the_metrics(equity: np.ndarray, ruined: bool) -> None:
    path = equity.copy()
    if ruined:
        path[300:] = 0.0
    cash, out, totals = path * 0.25, np.empty(len(STATS)), np.arange(float(N_TOTALS))
    totals[Total.RUIN] = 301 if ruined else 0
    summarise_nb(path, cash, np.zeros(len(path)), totals, 252.0, out)
    figures = dict(zip(STATS, out, strict=True))
    returns = metrics.returns(path)
    expected = {
        "final_equity": path[-1],
        "total_return": path[-1] / path[0] - 1,
        "mean": returns.mean(),
        "deviation": returns.std(ddof=1),
        "sharpe": np.nan if ruined else metrics.sharpe(returns, 252),
        "sortino": np.nan if ruined else metrics.sortino(returns, 252),
        "max_drawdown": metrics.drawdown(path).min(),
        "longest_drawdown": metrics.longest_drawdown(path),
        "skew": np.nan if ruined else metrics.moments(returns)[0],
        "kurtosis": np.nan if ruined else metrics.moments(returns)[1],
        "fees": 0.0,
        "slippage": 1.0,
        "turnover": 4.0,
        "orders": 8.0,
        "misses": 9.0,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(
        expected, rel=1e-9, nan_ok=True
    )


def test_a_books_figures_are_on_it(result: BacktestResult) -> None:
    strategy, equal = result.strategy.metrics, result.equal_weight.metrics
    assert (equal.alpha, equal.beta) == pytest.approx((0.0, 1.0), abs=1e-12)
    assert 0 <= strategy.deflated_sharpe <= 1
    assert strategy.calmar == pytest.approx(strategy.cagr / -strategy.max_drawdown)
    assert strategy.conditional_value_at_risk <= strategy.value_at_risk < 0
