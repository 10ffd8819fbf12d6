"""What is refused, and what the message says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest import BacktestResult
from backtest.fills.costs import Costs
from backtest.fills.inputs import Targets
from backtest.fills.prices import kernel_inputs, price_table
from backtest.fills.rules import Rules
from backtest.fills.simulate import simulate
from backtest.report.tear_sheet import render
from backtest.settings import BacktestRequest
from cluster.settings import load_settings
from market.errors import BacktestInputError, ConfigError
from tests.backtest.made_up import Market, random_market, random_scores

Run = Callable[..., BacktestResult]


@pytest.fixture(scope="module")
def market() -> Market:
    return random_market(20, n_days=40, n_symbols=5)


@pytest.fixture(scope="module")
def table(market: Market) -> pl.DataFrame:
    return market.forecasts(random_scores(market, 21, [10, 15, 20]))


def at(symbol: str, step: int = 2) -> pl.Expr:
    return (pl.col("symbol") == symbol) & (pl.col("step") == step)


def test_a_forecast_that_read_the_future_is_a_leak(
    run: Run, market: Market, table: pl.DataFrame
) -> None:
    later = pl.col("data_through") + pl.when(at("S02")).then(timedelta(days=1)).otherwise(
        timedelta(0)
    )
    with pytest.raises(BacktestInputError, match=r"S02: the forecast of 2020-01-20 read bars up"):
        run(market, table.with_columns(data_through=later))


def test_a_row_that_does_not_say_what_it_read_is_refused(
    run: Run, market: Market, table: pl.DataFrame
) -> None:
    silent = pl.when(~at("S02")).then(pl.col("data_through"))
    with pytest.raises(BacktestInputError, match="data_through <= as_of"):
        run(market, table.with_columns(data_through=silent))


def test_a_row_twice_is_refused(run: Run, market: Market, table: pl.DataFrame) -> None:
    doubled = pl.concat([table, table.filter(at("S01", 3)).head(1)])
    with pytest.raises(BacktestInputError, match=r"S01: the forecast of 2020-01-20 has step 3 twi"):
        run(market, doubled)


def test_symbols_the_store_does_not_know_are_named(
    run: Run, market: Market, table: pl.DataFrame
) -> None:
    renamed = table.with_columns(pl.col("symbol").replace("S03", "GHOST"))
    with pytest.raises(BacktestInputError, match="GHOST, of which the store holds no bar"):
        run(market, renamed)


def test_a_date_the_store_does_not_know_is_named(
    run: Run, market: Market, table: pl.DataFrame
) -> None:
    shift = timedelta(minutes=1)
    moved = table.with_columns(pl.col("as_of") + shift, pl.col("data_through") + shift)
    with pytest.raises(BacktestInputError, match=r"S00: forecast as of 2020-01-20 21:01"):
        run(market, moved)


def test_a_forecast_shorter_than_the_horizon_is_named(
    run: Run, market: Market, table: pl.DataFrame
) -> None:
    with pytest.raises(BacktestInputError, match="horizon 9 asked, but the forecasts end at step"):
        run(market, table, horizon=9)
    with pytest.raises(BacktestInputError, match=r"S04: the forecast of 2020-01-20 has no step 5"):
        run(market, table.filter(~at("S04", 5)))


def test_two_models_ask_for_a_choice(run: Run, market: Market, table: pl.DataFrame) -> None:
    both = pl.concat([table, table.with_columns(model_id=pl.lit("model-b"))])
    with pytest.raises(BacktestInputError, match=r"2 models: model-a, model-b.*--model-id"):
        run(market, both)
    assert run(market, both, model_id="model-b").model_id == "model-b"
    with pytest.raises(BacktestInputError, match=r"no forecast has model_id nano; .* model-a"):
        run(market, table, model_id="nano")


def test_a_stale_forecast_is_named(run: Run, market: Market, table: pl.DataFrame) -> None:
    old = pl.col("data_through") - pl.when(at("S02")).then(timedelta(days=9)).otherwise(
        timedelta(0)
    )
    stale = table.with_columns(data_through=old)
    with pytest.raises(
        BacktestInputError, match=r"S02: the forecast of 2020-01-20 .* max_age_days"
    ):
        run(market, stale)
    assert run(market, stale, max_age_days=9).strategy.orders.height


def test_a_lag_of_zero_is_refused_or_flagged(run: Run, market: Market, table: pl.DataFrame) -> None:
    with pytest.raises(
        ValueError, match=r"rules.lag 0 fills at the very close .* rules.allow_same_bar"
    ):
        run(market, table, lag=0, fill="close")
    with pytest.raises(ValueError, match=r"rules.lag 0 with rules.fill open"):
        run(market, table, lag=0, allow_same_bar=True)
    result = run(market, table, lag=0, fill="close", allow_same_bar=True)
    assert result.caveats[0].startswith("SAME-BAR")
    assert 'id="same-bar-banner"' in render(result)
    assert (result.strategy.orders["as_of"] == result.strategy.orders["close_utc"]).all()


@pytest.mark.parametrize(
    ("weights", "rules", "message"),
    [
        (
            [0.5, float("nan")],
            Rules(),
            r"S01: weight nan on 2020-01-20 \(rule: weights",
        ),
        ([0.5, -0.1], Rules(), "S01: weight -0.1 on 2020-01-20 is a short position"),
        ([0.5, 0.6], Rules(), r"weights of 2020-01-20 add to 1.1, the largest 0.6 on S01"),
        ([1.5, -0.6], Rules(short=True, leverage=2.0), r"add to 2.1, .* 1.5 on S00 .* limit 2\)"),
    ],
)
def test_weights_no_account_could_hold_are_named(
    market: Market, weights: list[float], rules: Rules, message: str
) -> None:
    prices = price_table(market.bars, list(market.symbols), recovery=1.0, max_gap_sessions=5)
    targets = Targets(
        np.array([0, 1]), np.array([10]), np.array([0, 2]), np.array([0, 1]), np.array(weights)
    )
    with pytest.raises(BacktestInputError, match=message):
        simulate(targets, prices, Costs(), rules, cash=1e5, first_row=0, last_row=39)


def test_decisions_out_of_order_and_doubled_names_are_named(market: Market) -> None:
    prices = price_table(market.bars, list(market.symbols), recovery=1.0, max_gap_sessions=5)

    def refused(rows: list[int], columns: list[int], message: str) -> None:
        targets = Targets(
            np.array([0, 2]), np.array(rows), np.array([0, 1, 2]), np.array(columns), np.ones(2)
        )
        if rows[0] == rows[1]:
            targets = Targets(
                np.array([0, 1]), np.array(rows[:1]), np.array([0, 2]), np.array(columns),
                np.full(2, 0.5),
            )  # fmt: skip
        with pytest.raises(BacktestInputError, match=message):
            simulate(targets, prices, Costs(), cash=1e5, first_row=0, last_row=39)

    refused([15, 10], [0, 1], "decision of 2020-01-20 comes after that of 2020-01-27")
    refused([10, 10], [3, 3], "S03: weight 0.5 on 2020-01-20 is the second for that name")


@pytest.mark.parametrize("split", [0.0, float("nan"), -2.0])
def test_an_impossible_corporate_action_is_named(market: Market, split: float) -> None:
    prices = price_table(market.bars, list(market.symbols), recovery=1.0, max_gap_sessions=5)
    action = {"symbol": "S01", "session": market.days[4], "split": split, "dividend": 0.0}
    with pytest.raises(BacktestInputError, match="S01: action of 2020-01-10 has split"):
        kernel_inputs(prices, Costs(), Rules(), actions=pl.DataFrame([action]))


@pytest.mark.parametrize("price", ["open", "high", "low", "close"])
@pytest.mark.parametrize("value", [0.0, -3.0, float("nan"), float("inf")])
def test_impossible_prices_are_named(
    run: Run, market: Market, table: pl.DataFrame, price: str, value: float
) -> None:
    from backtest import BacktestSettings, run_backtest

    bad = market.bars.with_columns(
        pl.when((pl.col("symbol") == "S03") & (pl.col("session") == market.days[7]))
        .then(value)
        .otherwise(pl.col(price))
        .alias(price)
    )
    with pytest.raises(BacktestInputError, match=rf"S03: bar 2020-01-15 00:00:00 has {price}"):
        run_backtest(bad, table, BacktestSettings())


def test_missing_columns_are_named(run: Run, market: Market, table: pl.DataFrame) -> None:
    with pytest.raises(BacktestInputError, match="forecasts lack the columns close_mean"):
        run(market, table.drop("close_mean"))


def test_no_forecast_in_the_window(run: Run, market: Market, table: pl.DataFrame) -> None:
    with pytest.raises(BacktestInputError, match="no forecast to trade from 2020-02-28"):
        run(market, table, start=market.days[39])


def test_no_bar_to_trade_on(run: Run, market: Market) -> None:
    at_the_end = market.forecasts({39: [0.1] * 5})
    with pytest.raises(BacktestInputError, match="no bar after the first forecast date 2020-02-28"):
        run(market, at_the_end)


def test_unknown_fan_symbol(run: Run, market: Market, table: pl.DataFrame) -> None:
    with pytest.raises(BacktestInputError, match="ZZZ: no forecast of 2020-02-03"):
        run(market, table, fan_symbols=["ZZZ"])


def test_forecasts_of_other_bars_are_said(run: Run, market: Market, table: pl.DataFrame) -> None:
    result = run(market, table.with_columns(pl.col("last_close") * 1.1))
    assert any("another last close" in caveat for caveat in result.caveats)
    assert not any("another last close" in c for c in run(market, table).caveats)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"k": 0}, "--k: .*greater than or equal to 1"),
        ({"recovery": 1.5}, "--recovery: .*less than or equal to 1"),
        ({"commission_bps": -1.0}, "--commission-bps"),
        ({"cash": float("nan")}, "--cash"),
        ({"start": "2020-02-30"}, "--start"),
        ({"strategy": "magic"}, "--strategy: .*topk"),
        ({"lag": 0, "fill": "close"}, "lag 0 fills at the very close"),
        ({"momentum": 20}, "one source of scores: .*got --forecasts and --momentum"),
        ({"max_group": 0.2}, "--max-group needs --groups"),
        ({"start": "2020-02-02", "end": "2020-01-01"}, "--start 2020-02-02 is after --end"),
    ],
)
def test_settings_out_of_range_name_the_flag(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(None, BacktestRequest, {"store": "s", "forecasts": "f"} | flags)


def test_the_shipped_config_is_valid_and_equals_the_defaults(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "configs" / "backtest.yaml"
    flags = {"store": "s", "forecasts": "f"}
    assert load_settings(shipped, BacktestRequest, flags) == load_settings(
        None, BacktestRequest, flags
    )
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(shipped.read_text() + "comission_bps: 3\n")
    with pytest.raises(ConfigError, match=r"wrong.yaml: comission_bps: unknown key"):
        load_settings(wrong, BacktestRequest, flags)


def test_importing_backtest_is_light() -> None:
    code = (
        "import sys, time\n"
        "start = time.process_time()\n"
        "import backtest.settings, backtest.pipeline\n"
        "seconds = time.process_time() - start\n"
        "print(sorted({'vectorbt', 'torch', 'ray', 'pandas'} & set(sys.modules)), seconds < 1)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.split() == ["[]", "True"]
