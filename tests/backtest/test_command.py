"""`candlecast backtest` on a real store and a real forecast table."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from backtest import run_backtest
from backtest.fills.terms import Terms
from backtest.settings import BacktestRequest
from cluster.cli import app
from cluster.commands.backtest import load
from cluster.commands.backtest_venue import with_venue
from market.actions.table import ACTION_SCHEMA
from market.errors import BacktestInputError, ConfigError, StoreError
from market.flags import Flag
from market.importing.files import import_frame
from market.lake.history import Label, MarketHistory, StoreSpec
from market.table.forecasts import ForecastTable
from market.table.schema import PATH_STATS_SCHEMA, STEPS_SCHEMA
from tests.backtest.made_up import MODEL, random_market, random_scores


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store, and a table with two models' forecasts, one of them partly in-sample."""
    root = tmp_path_factory.mktemp("backtest")
    store, table = root / "store", root / "table"
    market = random_market(40, n_days=60, n_symbols=6)
    spec = StoreSpec(venue="XNYS", freq="1d", tz="America/New_York", label=Label.SESSION)
    bars = market.bars.drop("session", "close_utc", "flags")
    import_frame(bars, store, spec)
    closes = dict(
        MarketHistory.open(store).scan().select("session", "close_utc").unique().collect().rows()
    )
    flags = {20: int(Flag.IN_SAMPLE)}
    for model in (MODEL, "model-b"):
        rows = market.forecasts(
            random_scores(market, 41, [20, 25, 30, 35, 40]),
            flags=flags if model == MODEL else None,
            model_id=model,
        ).with_columns(
            pl.col("as_of_date")
            .replace_strict(closes, return_dtype=pl.Datetime("us", "UTC"))
            .alias("as_of")
        )
        rows = rows.with_columns(pl.col("as_of").alias("data_through"))
        absent = [pl.lit(None, STEPS_SCHEMA[c]).alias(c) for c in STEPS_SCHEMA if c not in rows]
        rows = rows.with_columns(absent)
        for (day,), part in rows.partition_by("as_of_date", as_dict=True).items():
            frames = {"steps": part, "path_stats": pl.DataFrame(schema=PATH_STATS_SCHEMA)}
            ForecastTable(table).commit("run-1", model, day, frames)
    return store, table


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["backtest", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_it_prints_results_and_writes_the_sheet(folders: tuple[Path, Path], tmp_path: Path) -> None:
    store, table = folders
    report = tmp_path / "new" / "sheet.html"
    said = invoke(
        "--store", store, "--forecasts", table, "--k", 2, "--model-id", MODEL, "--report", report
    )
    for text in ("Total return", "Sharpe ratio", "Top-k", "Equal weight", "Buy & hold", "rank IC"):
        assert text in said
    assert "IN-SAMPLE: 1 of 5 forecast dates" in said
    assert f"tear sheet: {report.resolve()}" in said
    page = report.read_text(encoding="utf-8")
    assert MarketHistory.open(store).version in page
    assert 'id="in-sample-banner"' in page


def test_a_benchmark_and_rates_from_outside(folders: tuple[Path, Path], tmp_path: Path) -> None:
    store, table = folders
    bars = MarketHistory.open(store).scan().filter(pl.col("symbol") == "S00").collect()
    index, rates = tmp_path / "index.csv", tmp_path / "bills.csv"
    bars.select(pl.col("session").alias("Date"), pl.col("close").alias("Close")).write_csv(index)
    rates.write_text(f"date;rate\n{bars['session'][0]};4,5%\n")
    given = ("--store", store, "--forecasts", table, "--k", 2, "--model-id", MODEL)
    pages = []
    for named in (index, "S00"):
        report = tmp_path / "sheet.html"
        outside = ("--benchmark", named, "--risk-free-rates", rates)
        tables = ("--export", tmp_path / "tables")
        assert "risk-free" not in invoke(*given, *outside, *tables, "--report", report)
        pages.append(report.read_text(encoding="utf-8"))
        assert "risk-free as in bills.csv, 4.50% on average" in pages[-1]
    assert re.search(r'class="book-4">index<', pages[0])
    assert re.search(r'class="book-4">S00<', pages[1])
    assert "s00" in pl.read_parquet(tmp_path / "tables" / "equity.parquet").columns
    assert pl.read_parquet(tmp_path / "tables" / "profits_by_month.parquet").height > 1
    with pytest.raises(ConfigError, match="not both"):
        invoke(*given, "--risk-free", 0.01, "--risk-free-rates", rates)
    with pytest.raises(BacktestInputError, match="neither a file nor a symbol"):
        invoke(*given, "--benchmark", "SPX")


def test_flags_win_over_the_config(folders: tuple[Path, Path], tmp_path: Path) -> None:
    store, table = folders
    config = tmp_path / "config.yaml"
    config.write_text(
        f"store: {store}\nforecasts: {table}\nmodel_id: model-b\nk: 3\ntitle: From the file\n"
        f"report: {tmp_path / 'sheet.html'}\n"
    )
    said = invoke("--config", config, "--k", 1)
    assert "IN-SAMPLE" not in said
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert "From the file" in page
    assert re.search(r"Top 1 of 6 symbols", page)


def test_bad_input_is_a_clear_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    store, table = folders
    with pytest.raises(BacktestInputError, match="Choose one with --model-id"):
        invoke("--store", store, "--forecasts", table)
    with pytest.raises(StoreError, match="no forecasts here"):
        invoke("--store", store, "--forecasts", tmp_path / "nowhere")
    with pytest.raises(StoreError, match="no history store here"):
        invoke("--store", tmp_path / "nowhere", "--forecasts", table)
    with pytest.raises(ConfigError, match="--store is missing"):
        invoke("--forecasts", table)
    with pytest.raises(ConfigError, match="--k: "):
        invoke("--store", store, "--forecasts", table, "--k", 0)


def test_the_program_says_it_in_one_line_and_exits_with_2(folders: tuple[Path, Path]) -> None:
    store, table = folders
    code = "import sys; from cluster.cli import main; sys.argv[0] = 'candlecast'; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "backtest", "--store", store, "--forecasts", table],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: the table holds forecasts of 2 models")
    assert run.stderr.count("\n") == 1


def test_what_the_store_says_of_trading_is_used_and_said(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(folders[0], store)
    history = MarketHistory.open(store)
    names, day = history.symbols()["symbol"].to_list(), history.sessions()[25]
    action = {"ex_date": day, "split": 1.0, "dividend": 0.5, "announced": None}
    rows = [{"symbol": name, **action} for name in names]
    history.record_actions(pl.DataFrame(rows, schema=ACTION_SCHEMA))
    asked = {"store": store, "momentum": 5, "k": 2}
    plain = load(BacktestRequest(**asked))
    assert plain["actions"].row(0) == (names[0], day, 1.0, 0.5)
    assert "6 of the store" in plain["provenance"]["corporate actions"]
    assert load(BacktestRequest(**asked, store_actions=False)).get("actions") is None
    with_actions, without = (
        run_backtest(**load(BacktestRequest(**asked, store_actions=each))).strategy.daily
        for each in (True, False)
    )
    before = pl.col("timestamp").dt.date() < day
    assert with_actions.filter(before).equals(without.filter(before))
    assert not with_actions.equals(without)
    own = load(BacktestRequest(**asked, venue_costs=True, min_fee=2.0))
    costs, rules = own["settings"].costs, own["settings"].rules
    assert (costs.commission_per_share, costs.commission_bps, costs.min_fee) == (0.0035, 0.0, 2.0)
    assert rules.lot == 1.0
    words = own["provenance"]["venue"]
    assert "XNYS: USD" in words
    assert "given instead: min_fee" in words
    assert plain["settings"].costs.commission_per_share == 0.0


def test_limits_of_a_venue_are_those_of_each_board(tmp_path: Path) -> None:
    request = BacktestRequest(store=tmp_path, momentum=5, venue_costs=True)
    span = (date(2020, 1, 2), date(2021, 1, 4))
    given = Terms(pl.DataFrame({"symbol": ["688981"], "limit": [0.5], "borrow_bps": [10.0]}))
    names = ["600519", "300750", "688981"]
    made = with_venue(request, given, "XSHG", names, span)
    assert made.terms is not None
    assert made.terms.column("limit", names).tolist() == [0.10, 0.10, 0.5]
    assert made.terms.column("borrow_bps", names)[2] == 10.0
    assert made.settings.rules.t_plus_one
    assert (made.settings.rules.lot, made.settings.rules.tick) == (100.0, 0.01)
    assert made.settings.costs.sell_tax_bps == 10.0
    assert "narrowest of these years" in made.words
    with pytest.raises(ConfigError, match="no usual costs are known"):
        with_venue(request, None, "XKAR", names, span)
