"""The page a user opens: complete, offline, honest, and drawn by a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from backtest import BacktestResult, BacktestSettings, run_backtest, write_tear_sheet
from backtest.report.tear_sheet import monthly_returns
from backtest.report.words import MINUS
from market.flags import Flag
from tests.backtest.made_up import random_market, random_scores
from tests.browser import drawn_in_a_browser, our_part


@pytest.fixture(scope="module")
def page(result: BacktestResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tear_sheet(result, tmp_path_factory.mktemp("sheet") / "deep" / "sheet.html")


@pytest.fixture(scope="module")
def clean() -> BacktestResult:
    """Nothing in-sample, no costs, one forecast date, no future to compare with."""
    market = random_market(30, n_days=24, n_symbols=2)
    table = market.forecasts(random_scores(market, 31, [20]), horizon=10)
    return run_backtest(market.bars, table, BacktestSettings(k=1, min_fee=0, commission_bps=0))


@pytest.fixture(scope="module")
def dom(page: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return drawn_in_a_browser(page, tmp_path_factory.mktemp("profile"))


def test_a_browser_draws_every_plot(result: BacktestResult, dom: str) -> None:
    plots = re.findall(r'id="plot-([\w-]+)" class="plotly-graph-div js-plotly-plot"', dom)
    assert plots == [
        "equity", "drawdowns", "exposure", "rolling", "histogram", "years", "months", "ic",
        "quantiles", "decay", "trading", *(f"fan-{i}" for i in range(4)),
    ]  # fmt: skip
    drawn = re.split(r'id="plot-[\w-]+"', dom)[1:]
    assert all('class="main-svg"' in part for part in drawn)
    assert all(re.search(r'class="(trace scatter|trace bars|points)', part) for part in drawn)


def test_scripts_in_a_title_are_text(result: BacktestResult, dom: str, page: Path) -> None:
    assert result.settings.title.startswith("<script>")
    assert "<script>alert" not in dom.split("<h1>")[1]
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in our_part(page)
    assert "<b>&AMP" not in our_part(page)


def test_the_page_asks_nobody_for_anything(page: Path) -> None:
    ours = our_part(page)
    assert "default-src 'none'" in ours
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//""", ours)
    assert not re.findall(r"url\(|@import|<link|<iframe|<img|fetch\(|import\(", ours)
    assert page.read_text(encoding="utf-8").count("* plotly.js (") == 1, "embedded once"


def test_the_page_is_small(page: Path) -> None:
    assert page.stat().st_size < 2_000_000


def test_in_sample_banner_only_where_flagged(
    result: BacktestResult, clean: BacktestResult, page: Path, tmp_path: Path
) -> None:
    assert len(result.in_sample_dates) == 4
    ours = our_part(page)
    assert 'id="in-sample-banner"' in ours
    assert "4 of 12 forecast dates" in ours
    other = our_part(write_tear_sheet(clean, tmp_path / "clean.html"))
    assert "IN-SAMPLE" not in other
    assert "in-sample-banner" not in other


@pytest.mark.parametrize(
    ("published", "told"),
    [
        ("uncalibrated", "as sampled, on 1 of them because the past was too short"),
        ("as sampled", "UNCALIBRATED: on 1 of 1 forecast dates"),
        ("calibrated", "Calibration: of 1 forecast dates were traded calibrated on 1"),
    ],
)
def test_the_calibration_status_is_on_the_page(published: str, told: str, tmp_path: Path) -> None:
    market = random_market(30, n_days=24, n_symbols=2)
    table = market.forecasts(random_scores(market, 31, [20]), horizon=10)
    traded = table.with_columns(published=pl.lit(published))
    result = run_backtest(market.bars, traded, BacktestSettings(k=1))
    ours = our_part(write_tear_sheet(result, tmp_path / "sheet.html"))
    assert told in ours
    assert ("UNCALIBRATED" in ours) == (published != "calibrated")


def test_in_sample_spans_reach_to_the_next_rebalance(result: BacktestResult) -> None:
    dates = result.scores["as_of_date"].unique().sort()
    ((first, last),) = result.in_sample_spans
    assert (str(first)[:10], str(last)[:10]) == (str(dates[0]), str(dates[4]))


def test_settings_and_provenance_are_on_the_page(result: BacktestResult, page: Path) -> None:
    ours = our_part(page)
    for text in ("run-1", "model-a", "abc123", "commission_bps", "slippage_bps", "1,000,000"):
        assert text in ours
    for caveat in ("Shares are fixed from", "Survivorship", "Trials: 3"):
        assert caveat in ours


def test_monthly_returns_compound_to_the_total(result: BacktestResult) -> None:
    daily = result.strategy.daily
    years = monthly_returns(daily)
    assert [year for year, _, _ in years] == [2020]
    months = [cell.text for cell in years[0][1] if cell.text]
    assert len(months) == daily["timestamp"].dt.month().n_unique()
    growth = 1.0
    for text in months:
        growth *= 1 + float(text.replace(MINUS, "-").rstrip("%")) / 100
    assert growth - 1 == pytest.approx(result.strategy.metrics.total_return, abs=3e-4)


def test_a_backtest_of_one_date_still_makes_a_page(clean: BacktestResult, tmp_path: Path) -> None:
    ours = our_part(write_tear_sheet(clean, tmp_path / "sheet.html"))
    text = re.sub(r"<script.*?</script>", "", ours, flags=re.DOTALL).lower()
    assert not re.findall(r"\bnan\b|\binf\b", text)
    assert clean.ic.dates == 0


def test_fans_show_what_was_known_and_what_followed(result: BacktestResult) -> None:
    assert [fan.rank for fan in result.fans] == sorted(fan.rank for fan in result.fans)
    assert result.fans[0].rank == 1
    assert result.fans[-1].rank == result.fans[-1].ranked
    for fan in result.fans:
        day = pl.lit(fan.as_of_date).str.to_datetime(time_unit="us")
        assert fan.past.filter(pl.col("timestamp") > day).is_empty()
        assert fan.actual.filter(pl.col("timestamp") <= day).is_empty()
        assert fan.bands.height == result.horizon


def test_an_unknown_cut_off_is_said(tmp_path: Path) -> None:
    market = random_market(3)
    flags = {20: int(Flag.CUTOFF_UNKNOWN)}
    table = market.forecasts(random_scores(market, 4, [20, 30]), flags=flags)
    unknown = run_backtest(market.bars, table, BacktestSettings(k=4))
    assert "TRAINING CUT-OFF UNKNOWN" in our_part(write_tear_sheet(unknown, tmp_path / "t.html"))
