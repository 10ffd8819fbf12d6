"""The same bars in the layouts of many places, which all come out the same."""

from __future__ import annotations

import bz2
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from market import ImportOptions, Label, MarketHistory, import_files

DAYS = [date(2024, 1, 2) + timedelta(days=i) for i in (0, 1, 2, 3, 6, 7, 8, 9, 10, 14, 15, 16)]
NINE_THIRTY = [datetime(2024, 1, 2, 9, 30) + timedelta(minutes=5 * i) for i in range(78)]
HOURS = [datetime(2024, 1, 1) + timedelta(hours=i) for i in range(48)]
NEW_YORK = ZoneInfo("America/New_York")
XNYS, CRYPTO = ImportOptions(venue="XNYS"), ImportOptions(venue="24/7", label=Label.START)
START = ImportOptions(venue="XNYS", label=Label.START)


def bar(i: int, form: str = "{}") -> list[str]:
    return [form.format(value) for value in (1100 + i, 1101 + i, 1099 + i, 1100.5 + i)]


def table(
    head: str, stamps: list[str], separator: str = ",", form: str = "{}", volume: str = "{}"
) -> str:
    rows = [
        separator.join([stamp, *bar(i, form), volume.format(1000 + i)])
        for i, stamp in enumerate(stamps)
    ]
    return "\n".join([*([head.replace(",", separator)] if head else []), *rows]) + "\n"


def european(value: float, group: str) -> str:
    return f"{value:,.2f}".replace(",", group).replace(".", ",")


HEAD = "Date,Open,High,Low,Close,Volume"
ISO = [str(day) for day in DAYS]
ORDERED = "\n".join(
    ";".join([f"{day:%d.%m.%Y}", *(european(float(v), " ") for v in bar(i)), str(1000 + i)])
    for i, day in enumerate(DAYS)
)
WIDE = "\n".join(f"{day},{','.join([*bar(i), str(1000 + i)] * 2)}" for i, day in enumerate(DAYS))
DAILY = {
    "blanks": ("A.txt", table(HEAD, ISO, " ")),
    "columns of one width": (
        "A.txt", "\n".join(line.replace(" ", "   ") for line in table(HEAD, ISO, " ").split("\n")),
    ),
    "pipes, bz2": ("A.csv.bz2", bz2.compress(table(HEAD, ISO, "|").encode())),
    "Excel's sep line": ("A.csv", "sep=;\n" + table(HEAD, ISO, ";")),
    "a footer": ("A.csv", table(HEAD, ISO) + "Source: somebody\n"),
    "groups apart by blanks": ("A.csv", HEAD.replace(",", ";") + "\n" + ORDERED),
    "yyyymmdd as a float": ("A.csv", table(HEAD, [f"{day:%Y%m%d}.0" for day in DAYS])),
    "weekday names": ("A.csv", table(HEAD, [f"{day:%a %d %b %Y}" for day in DAYS])),
    "instants at the close": (
        "A.csv",
        table(HEAD, [str(int(datetime(d.year, d.month, d.day, 16, tzinfo=NEW_YORK).timestamp()))
                     for d in DAYS]),
    ),
    "Alpha Vantage": ("daily_A.csv", table(HEAD, ISO)),
    "dollar signs": ("A.csv", table(HEAD, [f"{day:%m/%d/%Y}" for day in DAYS], form="${}")),
    "Moscow's exchange": (
        "x.csv",
        "BOARDID;TRADEDATE;SHORTNAME;SECID;OPEN;HIGH;LOW;CLOSE;VOLUME\n"
        + "\n".join(f"TQBR;{d};Some Bank;A;{';'.join(bar(i))};{1000 + i}"
                    for i, d in enumerate(DAYS)),
    ),
    "bhavcopy with text in front": (
        "cm.csv",
        "SYMBOL, SERIES, DATE1, OPEN_PRICE, HIGH_PRICE, LOW_PRICE, CLOSE_PRICE, TTL_TRD_QNTY\n"
        + "\n".join(f"A, {series}, {d:%d-%b-%Y}, {', '.join(bar(i))}, {1000 + i}"
                    for i, d in enumerate(DAYS) for series in ("EQ", "N1")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAILY)
def test_daily_bars(name: str, tmp_path: Path) -> None:
    file, content = DAILY[name]
    path = tmp_path / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    import_files(path, tmp_path / "s", XNYS)
    bars = MarketHistory.open(tmp_path / "s").scan().sort("session").collect()
    assert bars["session"].to_list() == DAYS
    assert bars["symbol"].unique().to_list() == ["A"]
    assert bars["close"].to_list() == [1100.5 + i for i in range(12)]
    assert bars["volume"].to_list() == [1000 + i for i in range(12)]


HEADS = "time,open,high,low,close,volume"
INTRADAY = {
    "dots, day first": (
        "EURUSD.csv", table(HEADS, [f"{t:%d.%m.%Y %H:%M:%S}.000 GMT+0000" for t in HOURS]), CRYPTO,
    ),
    "epoch seconds, then nanoseconds": (
        "EURUSD.csv",
        table(HEADS, [str(int(t.replace(tzinfo=UTC).timestamp()) * (10**9 if i > 20 else 1))
                      for i, t in enumerate(HOURS)]),
        CRYPTO,
    ),
    "MetaTrader's file name": (
        "EURUSD_H1_202401010000_202401022300.csv",
        table(HEADS, [f"{t:%Y.%m.%d %H:%M}" for t in HOURS]), CRYPTO,
    ),
    "offset and zone": (
        "EURUSD.csv", table(HEADS, [f"{t:%Y-%m-%dT%H:%M:%S}-05:00[America/New_York]"
                                    for t in NINE_THIRTY]), START,
    ),
    "start of the window in nanoseconds": (
        "EURUSD.csv",
        table("window_start,open,high,low,close,volume",
              [str(int(t.replace(tzinfo=NEW_YORK).timestamp()) * 10**9) for t in NINE_THIRTY]),
        START,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INTRADAY)
def test_intraday_bars(name: str, tmp_path: Path) -> None:
    file, content, options = INTRADAY[name]
    (tmp_path / file).write_text(content)
    import_files(tmp_path / file, tmp_path / "s", options)
    bars = MarketHistory.open(tmp_path / "s").scan().sort("close_utc").collect()
    assert bars["timestamp"].to_list() == (HOURS if options is CRYPTO else NINE_THIRTY)
    assert bars["symbol"].unique().to_list() == ["EURUSD"]
    assert bars["close"].to_list() == [1100.5 + i for i in range(bars.height)]


@pytest.mark.parametrize("tickers", [["A"], ["A", "B"]])
@pytest.mark.parametrize("date_row", [True, False])
def test_symbols_above_the_fields(tmp_path: Path, tickers: list[str], date_row: bool) -> None:
    """As pandas writes columns of two levels whose first is the symbol."""
    width = 5 * len(tickers)
    head = [
        "Ticker," + ",".join(name for name in tickers for _ in range(5)),
        "Price," + ",".join(["Open,High,Low,Close,Volume"] * len(tickers)),
    ]
    rows = [",".join(line.split(",")[: width + 1]) for line in WIDE.split("\n")]
    dates = ["Date" + "," * width] if date_row else []
    (tmp_path / "prices.csv").write_text("\n".join([*head, *dates, *rows]))
    import_files(tmp_path / "prices.csv", tmp_path / "s", XNYS)
    held = MarketHistory.open(tmp_path / "s")
    assert dict(held.symbols().select("symbol", "n_bars").iter_rows()) == dict.fromkeys(tickers, 12)


@pytest.mark.parametrize(
    ("group", "point", "volume"), [(".", ",", "1.234.567"), ("'", ".", "5"), (" ", ",", "5")]
)
@pytest.mark.parametrize("digits", [2, 3])
def test_what_other_columns_show_of_signs(
    tmp_path: Path, group: str, point: str, volume: str, digits: int
) -> None:
    """Three decimals after a comma are plain where another column groups its digits by points."""
    if digits == 3 and group == " ":
        pytest.skip("1 100,500 alone can be two numbers")

    def number(value: str) -> str:
        text = f"{float(value):,.{digits}f}".replace(".", "p").replace(",", group)
        return text.replace("p", point)

    rows = [";".join([day, *map(number, bar(i)), volume]) for i, day in enumerate(ISO)]
    (tmp_path / "A.csv").write_text("\n".join([HEAD.replace(",", ";"), *rows]))
    import_files(tmp_path / "A.csv", tmp_path / "s", XNYS)
    bars = MarketHistory.open(tmp_path / "s").scan().sort("session").collect()
    assert bars["close"].to_list() == [1100.5 + i for i in range(12)]
    assert bars["volume"][0] == float(volume.replace(".", ""))


def test_a_lone_quote_ends_in_one_line(tmp_path: Path) -> None:
    lines = table(HEAD, ISO).split("\n")
    lines[4] = lines[4].replace(",1103,", ',",')
    (tmp_path / "A.csv").write_text("\n".join(lines))
    report = import_files(tmp_path / "A.csv", tmp_path / "s", XNYS)
    assert report.new_bars >= 3
