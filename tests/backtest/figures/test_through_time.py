"""Rolling figures, falls and years against their definitions, and a time axis without gaps."""

from __future__ import annotations

from datetime import date

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest

from backtest.figures import metrics
from backtest.figures.ranking import ic_decay, quantile_returns
from backtest.figures.through_time import monthly_profit, rolling, worst_falls, yearly
from backtest.report.time_axis import MOST_POINTS, closes, thinned, without_gaps, words

DAYS = np.arange("2020-01-01", "2023-01-01", dtype="datetime64[D]")


def test_a_rolling_figure_is_the_figure_of_its_window() -> None:
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(0, 0.01, (2, 200))
    theirs[40:80] = 0.001  # a benchmark that does not vary has no beta
    sharpe, volatility, beta = rolling(mine, theirs, 20, 252.0)
    assert np.isnan(sharpe[:19]).all()
    for t in (19, 37, 150, 199):
        span = slice(t - 19, t + 1)
        assert sharpe[t] == pytest.approx(metrics.sharpe(mine[span], 252))
        assert volatility[t] == pytest.approx(metrics.volatility(mine[span], 252))
        assert beta[t] == pytest.approx(metrics.alpha_beta(mine[span], theirs[span], 252)[1])
    assert np.isnan(beta[59:80]).all()
    assert np.isnan(rolling(mine[:5], theirs[:5], 20, 252.0)[0]).all()


def test_the_worst_falls_by_hand() -> None:
    equity = np.array([100.0, 90, 100, 110, 55, 66, 110, 99, 108.9])
    first, second, third = worst_falls(equity, DAYS[:9])
    assert (first.depth, first.bars) == (pytest.approx(-0.5), 3)
    assert (first.peak, first.trough, first.recovered) == (DAYS[3], DAYS[4], DAYS[6])
    assert (second.depth, second.bars, second.recovered) == (pytest.approx(-0.1), 2, DAYS[2])
    assert (third.depth, third.bars, third.recovered) == (pytest.approx(-0.1), 2, None)
    assert worst_falls(np.array([1.0, 2.0, 3.0]), DAYS[:3]) == ()


def test_years_and_months_add_up() -> None:
    equity = 100 * np.cumprod(1 + np.random.default_rng(1).normal(0, 0.01, len(DAYS)))
    daily = pl.DataFrame({"timestamp": DAYS.astype("datetime64[us]"), "equity": equity})
    years = yearly(daily)
    assert years["year"].to_list() == [2020, 2021, 2022]
    assert np.prod(1 + years["return"].to_numpy()) == pytest.approx(equity[-1] / equity[0])
    assert monthly_profit(daily)["pnl"].sum() == pytest.approx(equity[-1] - equity[0])


def test_fifths_of_a_perfect_score_and_its_decay() -> None:
    rng = np.random.default_rng(2)
    marks = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (60, 25)), axis=0))
    row_D = np.array([10, 20, 30])
    score_DN = marks[row_D + 5] / marks[row_D] - 1
    decayed = ic_decay(score_DN, row_D, marks, 59)
    five = decayed.filter(bars=5)
    assert (five["ic"][0], five["dates"][0]) == (pytest.approx(1.0), 3)
    assert decayed["bars"].max() == 40  # the first decision reaches 49 bars further
    assert (decayed.filter(pl.col("bars") != 5)["ic"] < 0.99).all()
    scores = pl.DataFrame(
        {
            "as_of": np.repeat(row_D, 25),
            "score": score_DN.ravel(),
            "realised": score_DN.ravel(),
        }
    )
    fifths = quantile_returns(scores)
    assert fifths["quantile"].to_list() == [1, 2, 3, 4, 5]
    by_hand = np.sort(score_DN, axis=1).reshape(3, 5, 5).mean(axis=2)
    np.testing.assert_allclose(fifths["mean"].to_numpy(), by_hand.mean(axis=0))
    np.testing.assert_allclose(fifths["error"].to_numpy(), by_hand.std(axis=0, ddof=1) / np.sqrt(3))
    nothing = scores.with_columns(realised=pl.lit(float("nan")))
    assert quantile_returns(nothing).is_empty()


def test_intraday_axes_leave_out_nights_weekends_and_holidays() -> None:
    days = np.array(
        [d for d in np.arange("2024-01-01", "2024-01-13", dtype="datetime64[D]")
         if d.astype(date).weekday() < 5 and str(d) != "2024-01-03"]
    )  # fmt: skip
    minutes = np.arange(9 * 60 + 15, 15 * 60 + 30, 5).astype("timedelta64[m]")
    labels = (days[:, None] + minutes).ravel()
    figure = go.Figure()
    figure.add_scatter(x=words(labels), y=np.arange(len(labels)))
    figure.add_vrect(x0=labels[3], x1=np.datetime64("2024-01-02T20:00"))
    axis = without_gaps(figure, labels).layout.xaxis
    assert axis.type == "category"
    assert list(axis.categoryarray) == words(labels), "every bar is as wide as any other"
    assert set(axis.tickvals) <= set(words(labels))
    assert (figure.layout.shapes[0].x0, figure.layout.shapes[0].x1) == (
        words(labels)[3],
        "2024-01-02T15:25",
    )
    around = np.arange("2024-01-01", "2024-01-13", np.timedelta64(60, "m"), "datetime64[m]")
    assert not closes(around)
    assert not closes(DAYS)
    assert words(labels)[:2] == ["2024-01-01T09:15", "2024-01-01T09:20"]
    assert words(DAYS)[0] == "2020-01-01"


def test_long_lines_are_drawn_at_the_ends_of_sessions() -> None:
    labels = np.arange("2024-01-01", "2024-03-01", np.timedelta64(5, "m"), "datetime64[m]")
    drawn = thinned(labels)
    assert len(labels) > MOST_POINTS > len(drawn)
    assert (drawn[0], drawn[-1]) == (0, len(labels) - 1)
    assert set(np.char.partition(words(labels[drawn[1:]]), "T")[:, 2]) == {"23:55"}
    assert len(thinned(DAYS)) == len(DAYS)
