"""Sources as people have them: odd names, odd times, broken files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from market import ImportOptions, Label, MarketHistory, check_bars, import_files
from market.errors import CandlecastError, ConfigError, SourceError, StoreError
from market.importing.files import find_files, import_query, read_source, symbol_from_name

DAILY = "Date,Open,High,Low,Close,Volume\n2024-01-02,10,11,9,10.5,100\n2024-01-03,10,11,9,10,200\n"


def read(path: Path, **options: object) -> pl.DataFrame:
    return check_bars(read_source(path, ImportOptions(**options)).rows).good  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("timestamps,open,high,low,close,volume,amount", "2024-01-02,10,11,9,10.5,100,1000"),
        ("DATE;O;H;L;C;VOL;Turnover", "2024/01/02;10;11;9;10.5;100;1000"),
        ("code\tdatetime\topen\thigh\tlow\tclose\tvol\tamount",
         "AAPL\t2024-01-02 00:00:00\t10\t11\t9\t10.5\t100\t1000"),
        ("Ticker,time,Open,High,Low,Close,Vol,Quote_Volume", "AAPL,20240102,10,11,9,10.5,100,1000"),
        ("Name,date,open,high,low,close,volume,value", "AAPL,Jan 02 2024,10,11,9,10.5,100,1000"),
        ("Date,Close/Last,Volume,Open,High,Low,Amount", '01/02/2024,$10.5,100,$10,$11,$9,"1,000"'),
        ("open_time,open,high,low,close,volume,quote asset volume",
         "1704153600000,10,11,9,10.5,100,1000"),
        ("<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<AMOUNT>",
         "2024.01.02,00:00,10,11,9,10.5,100,1000"),
        ("Date,Open,High,Low,Close,Vol,Amount", "2024-01-02 00:00:00-05:00,10,11,9,10.5,100,1000"),
        (",open,high,low,close,volume,amount", "2024-01-02,10,11,9,10.5,100,1000"),
        ("Date,Price,Open,High,Low,Vol.,Value", "2024-01-02,10.5,10,11,9,0.1K,1K"),
        ("Date,Open,High,Low,Close,Volume,Amount", "02-Jan-2024,10,11,9,10.5,100,1000"),
    ],
)  # fmt: skip
def test_usual_spellings_of_one_bar(tmp_path: Path, header: str, row: str) -> None:
    path = tmp_path / "AAPL_data.csv"
    second = row.replace("01/02/2024", "01/13/2024")  # beyond the twelfth month and day differ
    path.write_text(f"{header}\n{row}\n{second}\n".replace("Jan 02 2024", '"Jan 02, 2024"'))
    bar = read(path, tz="America/New_York").row(0, named=True)
    assert bar["symbol"] == "AAPL"
    assert bar["timestamp"] == datetime(2024, 1, 2)
    assert [bar[name] for name in ("open", "high", "low", "close")] == [10.0, 11.0, 9.0, 10.5]
    assert (bar["volume"], bar["amount"], bar["flags"]) == (100.0, 1000.0, 0)


@pytest.mark.parametrize(
    ("text", "wall"),
    [
        ("2023-07-03 09:15:00+05:30", datetime(2023, 7, 3, 9, 15)),
        ("2023-07-03T03:45:00Z", datetime(2023, 7, 3, 9, 15)),
        ("1688355900", datetime(2023, 7, 3, 9, 15)),
        ("1688355900000000", datetime(2023, 7, 3, 9, 15)),
        ("1688355900123456789", datetime(2023, 7, 3, 9, 15, 0, 123456)),
        ("2023-07-03 09:15", datetime(2023, 7, 3, 9, 15)),
        ("2023-07-03 09:15:00.5", datetime(2023, 7, 3, 9, 15, 0, 500000)),
        ("20230703 09:15", datetime(2023, 7, 3, 9, 15)),
        ("13/07/2023 09:15", datetime(2023, 7, 13, 9, 15)),
        ("07/13/2023 09:15:00 AM", datetime(2023, 7, 13, 9, 15)),
    ],
)
def test_instants_become_wall_time_and_wall_time_stays(
    tmp_path: Path, text: str, wall: datetime
) -> None:
    path = tmp_path / "A.csv"
    path.write_text(f"time,open,high,low,close\n{text},10,11,9,10\n")
    assert read(path, tz="Asia/Kolkata")["timestamp"].to_list() == [wall]


def test_parquet_with_time_zones_and_numbers_as_symbols(tmp_path: Path) -> None:
    bars = pl.DataFrame({"code": [600519], "date": [datetime(2024, 1, 2, 1, 35)],
                         "open": [10], "high": [11.0], "low": [9.0], "close": [10.0],
                         "volume": [float("nan")]})  # fmt: skip
    path = tmp_path / "x.parquet"
    bars.with_columns(pl.col("date").dt.replace_time_zone("UTC")).write_parquet(path)
    row = read(path, tz="Asia/Shanghai").row(0, named=True)
    assert row["symbol"] == "600519"
    assert row["timestamp"] == datetime(2024, 1, 2, 9, 35)
    assert row["volume"] == 0.0


def test_leading_zeros_of_symbols_survive_csv(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("code,date,open,high,low,close\n000001,2024-01-02,10,11,9,10\n")
    assert read(path)["symbol"].to_list() == ["000001"]


def test_a_banner_above_the_header_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_text("https://www.example.com\n" + DAILY)
    assert read(path).height == 2


def test_rows_with_bad_times_or_numbers_go_to_quarantine(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_text(DAILY + "2024-13-45,10,11,9,10,1\n2024-01-04,ten,11,9,10,1\n"
                    "2024-01-05,10,11,9,10,many\n2024-01-08,10,11,9,10,-\n")  # fmt: skip
    checked = check_bars(read_source(path, ImportOptions()).rows)
    assert checked.good.height == 3
    found = checked.quarantine.select("row", "rule", "detail").rows()
    assert found == [
        (3, "parsable time", "'2024-13-45' is not a time"),
        (4, "finite", "open is NaN"),
        (5, "finite", "volume is NaN"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv", DAILY.splitlines()[0].encode(), "header but no rows"),
        ("a.csv", DAILY.replace("Low", "Lo").encode(), "no column for low; found Date, Open"),
        ("a.csv", DAILY.replace("Date", "When").encode(), "no column for time; found When"),
        ("a.csv", DAILY.replace("2024-01-0", "soon").encode(), "no readable time, for example 'so"),
        ("a.csv", DAILY.replace("2024-01-02", "03/04/2024").replace("2024-01-03", "04/05/2024")
         .encode(), "month/day or day/month"),
        ("a.csv", DAILY.replace(",", ";").replace("10.5", "10,500").encode(), "say --decimal ,"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "a.csv"),
        ("a.parquet", b"", "the file is empty"),
        ("a.parquet", DAILY.encode(), "not a Parquet file"),
        ("a.parquet", b"PAR1 and nothing else", "cannot be read as parquet"),
        ("a.xlsx", b"PK", "neither .csv nor .parquet"),
    ],
)  # fmt: skip
def test_files_that_are_not_bars(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    good = tmp_path / "good.csv"
    good.write_text(DAILY)
    bad = tmp_path / name
    bad.write_bytes(content)
    store = tmp_path / "store"
    with pytest.raises(SourceError) as caught:
        import_files([good, bad], store)
    assert says in str(caught.value)
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not store.exists()


def test_no_file_matches(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        import_files([str(tmp_path / "*.csv")], tmp_path / "store")
    with pytest.raises(SourceError, match=r"holds no \.csv"):
        import_files([tmp_path], tmp_path / "store")


def test_globs_and_folders_name_files_once(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "note.md"):
        (tmp_path / name).write_text(DAILY)
    both = [tmp_path / "a.csv", tmp_path / "b.csv"]
    assert find_files([tmp_path, str(tmp_path / "*.csv"), both[0]]) == both


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("AAPL_data.csv", "AAPL"), ("BRK.B.csv", "BRK.B"), ("BTCUSDT_5m.csv.gz", "BTCUSDT"),
     ("ETH-1h.parquet", "ETH"), ("data.csv", "data"), ("ADA_BTC-5m.csv", "ADA_BTC"),
     ("600519.SH.csv", "600519.SH")],
)  # fmt: skip
def test_symbols_from_file_names(name: str, symbol: str) -> None:
    assert symbol_from_name(Path(name)) == symbol


def test_mapped_columns(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_text(DAILY.replace("Close", "Px").replace("Volume", "Adj Close"))
    assert read(path, columns={"close": "Px"})["close"].to_list() == [10.5, 10.0]
    with pytest.raises(SourceError, match="--map names the column 'PX'; found Date"):
        read(path, columns={"close": "PX"})
    with pytest.raises(ConfigError, match="fields are symbol, timestamp"):
        read(path, columns={"price": "Px"})


def intraday(first: str, step_minutes: int, n: int, days: int = 3) -> str:
    start = datetime.fromisoformat(first)
    lines = ["time,open,high,low,close"]
    for day in range(days):
        for i in range(n):
            minutes = start.hour * 60 + start.minute + i * step_minutes
            label = f"2024-01-{start.day + day:02d} {minutes // 60:02d}:{minutes % 60:02d}"
            lines.append(f"{label},10,11,9,10")
    return "\n".join(lines) + "\n"


def test_what_labels_show_is_inferred_and_said(tmp_path: Path) -> None:
    path = tmp_path / "TCS_5min.csv"
    path.write_text(intraday("2024-01-02T09:15", 5, 75))
    report = import_files([path], tmp_path / "start", ImportOptions(venue="XBOM"))
    spec = MarketHistory.open(tmp_path / "start").spec
    assert (spec.freq, spec.label, spec.tz) == ("5min", Label.START, "Asia/Kolkata")
    assert any("TCS_5min.csv is TCS" in note for note in report.notes)
    assert any("labels name the bar's start" in note for note in report.notes)

    path.write_text(intraday("2024-01-02T09:20", 5, 75))
    import_files([path], tmp_path / "end", ImportOptions(venue="XBOM"))
    assert MarketHistory.open(tmp_path / "end").spec.label is Label.END


def test_what_labels_do_not_show_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "BTC.csv"
    path.write_text(intraday("2024-01-02T00:00", 60, 24))
    with pytest.raises(SourceError, match="--venue 24/7 for crypto in UTC"):
        import_files([path], tmp_path / "store")
    with pytest.raises(SourceError, match="--label start"):
        import_files([path], tmp_path / "store", ImportOptions(venue="24/7"))
    import_files([path], tmp_path / "store", ImportOptions(venue="24/7", label=Label.START))
    assert MarketHistory.open(tmp_path / "store").spec.tz == "UTC"

    path.write_text(DAILY[: DAILY.index("2024-01-03")])
    with pytest.raises(SourceError, match="--freq 1d"):
        import_files([path], tmp_path / "single")


def test_bars_of_another_kind_are_refused(tmp_path: Path) -> None:
    daily, hourly = tmp_path / "A.csv", tmp_path / "B.csv"
    daily.write_text(DAILY)
    hourly.write_text(intraday("2024-01-02T00:00", 60, 24))
    store = tmp_path / "store"
    import_files([daily], store, ImportOptions(venue="XNYS"))
    with pytest.raises(SourceError, match="bars of B are 1h apart, the store holds 1d"):
        import_files([hourly], store)
    for options in (ImportOptions(venue="XLON"), ImportOptions(freq="1h"), ImportOptions(tz="UTC")):
        with pytest.raises(StoreError, match="choose another --store"):
            import_files([daily], store, options)
    weekly = tmp_path / "C.csv"
    weekly.write_text(DAILY.replace("2024-01-03", "2024-01-09"))
    with pytest.raises(CandlecastError, match="longer than a day"):
        import_files([weekly], tmp_path / "weekly")


def test_symbol_option(tmp_path: Path) -> None:
    path = tmp_path / "2024.csv"
    path.write_text(DAILY)
    assert read(path, symbol="BTC/USDT")["symbol"].unique().to_list() == ["BTC/USDT"]
    path.write_text(DAILY.replace("Volume", "Ticker"))
    with pytest.raises(SourceError, match="it has a symbol column, 'Ticker'"):
        read(path, symbol="A")


def test_bars_from_a_database_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bars.db"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "create table daily as select 'BRK.B' as ticker, date '2024-01-02' + i::int as day, "
            "10.5::decimal(9, 2) as open, 11.0 as high, 10.0 as low, 10.75 as close, "
            "1000 + i as volume, 'x' as note from range(60) t(i)"
        )
    source = f"duckdb:///{path}"
    query = "select * from daily where day >= date '2024-01-12'"
    options = ImportOptions(venue="24/7", freq="1d")
    report = import_query(source, query, tmp_path / "store", options)
    assert report.new_bars == 50
    assert any("note" in note for note in report.notes)
    history = MarketHistory.open(tmp_path / "store")
    assert history.contents.sources == (source,)
    assert history.symbols().row(0)[:2] == ("BRK.B", 50)
    assert import_query(source, query, tmp_path / "store").nothing_new


@pytest.mark.parametrize(
    ("source", "query", "says"),
    [
        ("postgres://x", "select 1", "write a database as duckdb:///relative/file.db"),
        ("duckdb:///nowhere.db", "select 1", "no such file"),
        ("duckdb:///{db}", "select * from nothing", "the query failed: .*nothing"),
        ("duckdb:///{db}", "select 1 as close where false", "found no rows"),
        ("duckdb:///{db}", "create table t (x int)", "the query failed"),
        ("duckdb:///{db}", "select 1.0 as open, 2.0 as high, 1.0 as low, 1.5 as close, 1 as date",
         "no symbol column"),
    ],
)  # fmt: skip
def test_a_bad_query_is_one_clear_error(source: str, query: str, says: str, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "empty.db")):
        pass
    with pytest.raises(SourceError, match=says):
        import_query(source.format(db=tmp_path / "empty.db"), query, tmp_path / "store")
    assert not (tmp_path / "store").exists()
