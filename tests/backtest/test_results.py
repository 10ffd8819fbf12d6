"""What a result says of itself."""

from __future__ import annotations

from backtest import BacktestResult


def test_a_result_prints_its_headline_in_a_few_lines(result: BacktestResult) -> None:
    lines = repr(result).splitlines()
    assert len(lines) < 20
    assert max(map(len, lines)) < 100
    for words in ("Top-k", "Equal weight", "Buy & hold", "sharpe", "rank IC"):
        assert any(words in line for line in lines), words


def test_the_summary_holds_the_books_figures(result: BacktestResult) -> None:
    told = result.summary()
    assert told["books"]["Top-k"]["sharpe"] == result.strategy.metrics.sharpe
    assert told["in_sample_dates"] == list(result.in_sample_dates)
    assert told["rank_ic"]["dates"] == result.ic.dates
