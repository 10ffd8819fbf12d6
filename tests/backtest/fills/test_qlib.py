"""Qlib's top-k dropout against what Qlib 0.9.7 answered on made-up prices (tests/golden/qlib)."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest import BacktestResult, BacktestSettings, run_backtest
from backtest.figures.ic import correlations
from backtest.fills.qlib import QlibReport, QlibSettings, qlib_topk_dropout, risk_analysis
from market.errors import CandlecastError
from tests.backtest.made_up import random_market, random_scores

N_CASES = 6


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    folder = golden_dir / "qlib"
    with np.load(folder / "expected.npz") as arrays:
        return dict(arrays), json.loads((folder / "meta.json").read_text())["configs"]


def run(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> QlibReport:
    names = {field.name for field in fields(QlibSettings)}
    return qlib_topk_dropout(
        arrays["score"],
        arrays[config["deal_price"]],
        arrays["close"],
        arrays["change"],
        arrays["volume"],
        arrays["factor"],
        QlibSettings(**{key: value for key, value in config.items() if key in names}),
        first=config["first_step"],
        last=config["last_step"],
    )


@pytest.mark.parametrize("case", range(N_CASES))
def test_every_step_is_qlibs(
    golden: tuple[dict[str, np.ndarray], list[dict[str, Any]]], case: int
) -> None:
    arrays, configs = golden
    report = run(arrays, configs[case])
    np.testing.assert_allclose(report.amounts, arrays[f"amounts_{case}"], rtol=1e-9)
    for ours, theirs in (
        (report.account, "account"),
        (report.cash, "cash"),
        (report.value, "value"),
        (report.turnover, "turnover"),
        (report.cost, "cost"),
    ):
        np.testing.assert_allclose(ours, arrays[f"{theirs}_{case}"], rtol=1e-9, err_msg=theirs)
    np.testing.assert_allclose(report.returns, arrays[f"return_{case}"], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("case", range(N_CASES))
@pytest.mark.parametrize("mode", ["sum", "product"])
def test_the_summary_is_qlibs(
    golden: tuple[dict[str, np.ndarray], list[dict[str, Any]]], case: int, mode: str
) -> None:
    arrays, configs = golden
    report = run(arrays, configs[case])
    ours = risk_analysis(report.returns - report.cost, product=mode == "product")
    theirs = configs[case]["risk_analysis_of_return_minus_cost"][mode]
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_what_comes_later_changes_no_earlier_step(
    golden: tuple[dict[str, np.ndarray], list[dict[str, Any]]],
) -> None:
    arrays, configs = golden
    cut = {k: a[:150] if a.ndim == 2 and len(a) == 260 else a for k, a in arrays.items()}
    short = run(cut, {**configs[2], "last_step": 149})
    whole = run(arrays, configs[2])
    assert whole.account[: len(short.account)].tobytes() == short.account.tobytes()


def test_ic_and_rank_ic_are_qlibs(
    golden: tuple[dict[str, np.ndarray], list[dict[str, Any]]],
) -> None:
    arrays, _ = golden
    close = arrays["close"]
    ahead = np.full(close.shape, np.nan)
    ahead[:-1] = close[1:] / close[:-1] - 1
    for name, ranked in (("ic", False), ("rank_ic", True)):
        ours = correlations(arrays["score"], ahead, ranked=ranked)
        np.testing.assert_allclose(ours, arrays[name], rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("fill", ["open", "close"])
def test_a_backtest_in_its_manner_is_its_walk(fill: str) -> None:
    market = random_market(60, n_days=70)
    rows = list(range(5, 65))
    table = market.forecasts(random_scores(market, 61, rows), horizon=1)
    settings = BacktestSettings(
        compat="qlib", strategy="dropout", k=4, n_drop=1, fill=fill, cash=1e6, commission_bps=5,
        sell_tax_bps=10, slippage_bps=0, min_fee=5, lot=100, limit=0.05, impact=0.1,
    )  # fmt: skip
    made = run_backtest(market.bars, table, settings)
    prices = made.prices
    score_TN = np.full(prices.close_TN.shape, np.nan)
    for row in made.scores.iter_rows(named=True):
        score_TN[rows[0] :][_place(made, row["as_of"]), prices.column(row["symbol"])] = row["score"]
    change_TN = np.full_like(score_TN, np.nan)
    change_TN[1:] = prices.close_TN[1:] / prices.mark_TN[:-1] - 1
    told = QlibSettings(
        topk=4, n_drop=1, account=1e6, impact_cost=0.1, limit_threshold=0.05, open_cost=0.0005,
        close_cost=0.0015, min_cost=5, trade_unit=100,
    )  # fmt: skip
    first = rows[0] + 1
    last = first + made.strategy.daily.height - 2
    deal_TN = prices.open_TN if fill == "open" else prices.close_TN
    walk = qlib_topk_dropout(
        score_TN, deal_TN, prices.close_TN, change_TN, prices.volume_TN,
        np.ones(len(prices.symbols)), told, first=first, last=last,
    )  # fmt: skip
    assert made.strategy.daily["equity"].to_numpy()[1:] == pytest.approx(walk.account, rel=1e-12)
    orders = made.strategy.orders
    paid = orders.group_by("close_utc").agg(
        (pl.when(pl.col("side") == "buy").then(-1).otherwise(1) * pl.col("value")).sum()
        - pl.col("fee").sum()
    )
    cash = made.strategy.daily.join(paid, on="close_utc", how="left")["literal"].fill_null(0.0)
    assert (1e6 + cash.cum_sum()).to_numpy() == pytest.approx(
        made.strategy.daily["cash"].to_numpy(), rel=1e-9
    )
    assert made.strategy.metrics.orders > 20


def _place(made: BacktestResult, as_of: datetime) -> int:
    return made.strategy.daily["close_utc"].to_list().index(as_of)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"t_plus_one": True}, "t_plus_one: Qlib's exchange does not know it"),
        ({"borrow_bps": 1}, "borrow_bps: Qlib's exchange does not know it"),
        ({"lag": 2}, "lag 1"),
        ({"strategy": "topk"}, "set strategy to dropout"),
    ],
)
def test_what_it_does_not_know_is_refused(given: dict[str, Any], words: str) -> None:
    market = random_market(60, n_days=30)
    table = market.forecasts(random_scores(market, 61, [5, 10]), horizon=1)
    with pytest.raises(CandlecastError, match=words):
        run_backtest(
            market.bars,
            table,
            BacktestSettings(**{"compat": "qlib", "strategy": "dropout"} | given),
        )
