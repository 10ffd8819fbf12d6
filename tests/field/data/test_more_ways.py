"""The same bars as more programs, countries and habits write them, and slips among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from market import ImportOptions, import_files
from market.errors import SourceError
from market.importing.files import read_source
from tests.market.importing.test_variants import (
    DAYS,
    HEAD,
    HEADS,
    HOURS,
    ISO,
    NEW_YORK,
    NINE_THIRTY,
    XNYS,
    bar,
    table,
)


def lines(head: str, row: Callable[[int, date], str], stamps: list[date] = DAYS) -> str:
    return "\n".join([*([head] if head else []), *(row(i, at) for i, at in enumerate(stamps))])


def dotted(value: str) -> str:
    """1100.5 as 1.100,50."""
    return f"{float(value):,.2f}".translate(str.maketrans(",.", ".,"))


def cells(i: int, separator: str = ",", form: Callable[[str], str] = str) -> str:
    return separator.join(map(form, bar(i)))


def stamped(form: str) -> str:
    return table(HEAD, [f"{day:{form}}" for day in DAYS])


def utc(at: datetime) -> datetime:
    return at.replace(tzinfo=NEW_YORK).astimezone(UTC)


def ochl(i: int, form: Callable[[str], str] = str) -> str:
    """Close before the others, as in tables whose first price is the last one."""
    o, h, low, c = bar(i)
    return ",".join(map(form, (c, o, h, low)))


DAILY: dict[str, tuple[str, str | bytes]] = {
    "year, month and day in Chinese": (
        "A.csv", lines(HEAD, lambda i, d: f"{d.year}年{d.month}月{d.day}日,{cells(i)},{1000 + i}"),
    ),
    "dots and blanks": (
        "A.csv", lines(HEAD, lambda i, d: f"{d.year}. {d.month}. {d.day}.,{cells(i)},{1000 + i}"),
    ),
    "German months": (
        "A.csv", lines(HEAD, lambda i, d: f"{d.day}. Januar {d.year},{cells(i)},{1000 + i}"),
    ),
    "six digits": ("A.csv", stamped("%y%m%d")),
    "day and month before the year, no signs": ("A.csv", stamped("%d%m%Y")),
    "a spreadsheet's days": (
        "A.csv", table(HEAD, [str((day - date(1899, 12, 30)).days) for day in DAYS]),
    ),
    "Finam": (
        "A_240102_240116.txt",
        lines("<TICKER>;<PER>;<DATE>;<TIME>;<OPEN>;<HIGH>;<LOW>;<CLOSE>;<VOL>",
              lambda i, d: f"A;D;{d:%y%m%d};000000;{cells(i, ';')};{1000 + i}"),
    ),
    "Bloomberg": (
        "A.csv", table("Date,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME", ISO),
    ),
    "Databento": (
        "x.csv",
        lines("ts_event,rtype,instrument_id,open,high,low,close,volume,symbol",
              lambda i, d: f"{d}T00:00:00.000000000Z,35,5,{cells(i)},{1000 + i},A"),
    ),
    "order book ids": (
        "x.csv", lines("order_book_id,date,open,high,low,close,volume",
                       lambda i, d: f"A,{d},{cells(i)},{1000 + i}"),
    ),
    "units behind the names, GBK": (
        "A.csv",
        lines("代码,日期,开盘价(元),最高价(元),最低价(元),收盘价(元),成交量(股)",
              lambda i, d: f"A,{d},{cells(i)},{1000 + i}").encode("gbk"),
    ),
    "Japanese": (
        "A.csv", table("日付,始値,高値,安値,終値,出来高", ISO).encode("cp932"),
    ),
    "Korean": ("A.csv", table("날짜,시가,고가,저가,종가,거래량", ISO).encode("cp949")),
    "Polish": (
        "A.csv", table("Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen", ISO),
    ),
    "pieces beside money": (
        "A.csv", lines("Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke;Volumen",
                       lambda i, d: f"{d};{cells(i, ';', dotted)};{1000 + i};5"),
    ),
    "Spanish, close first": (
        "A.csv", lines('"Fecha","Último","Apertura","Máximo","Mínimo","Volumen"',
                       lambda i, d: f'"{d:%d.%m.%Y}",'
                       f'{ochl(i, lambda v: chr(34) + dotted(v) + chr(34))},"{1000 + i}"'),
    ),
    "French": (
        "A.csv", lines("Date;Ouverture;Plus Haut;Plus Bas;Clôture;Volume",
                       lambda i, d: f"{d:%d/%m/%Y};"
                       f"{cells(i, ';', lambda v: dotted(v).replace('.', ' '))};{1000 + i}"
                       ).encode("cp1252"),
    ),
    "an exchange's total volume": (
        "A.csv", "sep=;\n" + lines(
            "Date;Bid;Ask;Opening price;High price;Low price;Closing price;Total volume;Turnover;",
            lambda i, d: f"{d};1;2;{cells(i, ';', dotted)};{1000 + i};5,00;"),
    ),
    "currency codes": (
        "A.csv", lines(HEAD.replace(",", ";"),
                       lambda i, d: f"{d};{cells(i, ';', lambda v: v + ' USD')};{1000 + i}"),
    ),
    "US dollars": (
        "A.csv", lines(HEAD, lambda i, d: f"{d},{cells(i, form='US${}'.format)},{1000 + i}"),
    ),
    "rupees": (
        "A.csv", lines(HEAD, lambda i, d: f"{d},{cells(i, form='Rs. {}'.format)},{1000 + i}"),
    ),
    "apostrophes for a spreadsheet": (
        "A.csv", lines(HEAD, lambda i, d: f"'{d},{cells(i, form=chr(39).__add__)},'{1000 + i}"),
    ),
    "formulas": (
        "x.csv", lines("Symbol," + HEAD, lambda i, d: f'="A",="{d}",'
                       f'{cells(i, form=chr(61).__add__)},="{1000 + i}"').replace("=1", "1"),
    ),
    "quotes apart by blanks": (
        "A.csv", lines('"Date" , "Open" , "High" , "Low" , "Close" , "Volume"',
                       lambda i, d: f'"{d}" , {cells(i, " , ", chr(34).__add__)}" , "{1000 + i}"'
                       .replace(' , "', '" , "').replace('""', '"')),
    ),
    "a row of units": (
        "A.csv", HEAD + "\n-,USD,USD,USD,USD,shares\n" + table("", ISO),
    ),
    "an adjusted close, no header": (
        "A.csv", lines("", lambda i, d: f"{d},{cells(i)},{990.5 + i},{1000 + i}"),
    ),
    "the date in a column of its own under two headers": (
        "A.csv", "Price,Date,Close,High,Low,Open,Volume\nTicker,,A,A,A,A,A\n" + lines(
            "", lambda i, d: f"{i},{d},{','.join(bar(i)[::-1][:1] + bar(i)[1:3] + bar(i)[:1])},"
            f"{1000 + i}"),
    ),
    "symbols in brackets": (
        "x.csv", table("Date,Open (A),High (A),Low (A),Close (A),Volume (A)", ISO),
    ),
    "symbols before a dash": ("x.csv", table("Date,A-Open,A-High,A-Low,A-Close,A-Volume", ISO)),
    "a chart's file name": ("BATS_A, 1D_5a3e1.csv", table("time,open,high,low,close,Volume", ISO)),
    "a quote page's file name": (
        "A_daily_historical-data-01-20-2024.csv", table("Time,Open,High,Low,Last,Volume", ISO),
    ),
    "a second download": ("A (1).csv", table(HEAD, ISO)),
}  # fmt: skip


def written(place: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = place / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return place / "in"


def read(place: Path, name: str, content: str | bytes) -> pl.DataFrame:
    """Rows of one file as an import at New York's exchange reads them."""
    folder = written(place, {name: content})
    return read_source(folder / name, ImportOptions(venue="XNYS", tz=str(NEW_YORK))).rows


@pytest.mark.parametrize("name", DAILY)
def test_daily_bars(name: str, tmp_path: Path) -> None:
    file, content = DAILY[name]
    bars = read(tmp_path, file, content)
    assert bars["symbol"].unique().to_list() == ["A"]
    assert bars["timestamp"].dt.date().to_list() == DAYS
    assert bars["close"].to_list() == [1100.5 + i for i in range(12)]
    assert bars["volume"].to_list() == [1000 + i for i in range(12)]


AFTER = {
    name: table(HEADS, [f"{at:%Y-%m-%d %H:%M:%S}{name}" for at in NINE_THIRTY])
    for name in (" America/New_York", " EST5EDT", " ET", " (EST)", " Eastern Standard Time")
}
INTRADAY = {
    **AFTER,
    "as browsers write it": table(
        HEADS, [f"{at:%a %b %d %Y %H:%M:%S} GMT-0500 (Eastern Standard Time)" for at in NINE_THIRTY]
    ),
    "as C writes it": table(HEADS, [f"{at:%a %b %d %H:%M:%S %Y}" for at in NINE_THIRTY]),
    "UTC in brackets": table(HEADS, [f"{utc(at):%Y-%m-%d %H:%M:%S} (UTC)" for at in NINE_THIRTY]),
    "dashes in the clock": table(HEADS, [f"{at:%Y-%m-%d %H-%M-%S}" for at in NINE_THIRTY]),
    "a dot in the clock": table(HEADS, [f"{at:%d.%m.%Y %H.%M}" for at in NINE_THIRTY]),
    "a narrow blank before PM": table(
        HEADS, [f"{at:%d-%b-%Y %I:%M}\u202f{at:%p}" for at in NINE_THIRTY]
    ),
    "MetaStock": "<TICKER>,<PER>,<DTYYYYMMDD>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>\n"
    + "\n".join(
        f"A,5,{at:%Y%m%d},{at:%H%M%S},{cells(i)},{1000 + i}" for i, at in enumerate(NINE_THIRTY)
    ),
}


@pytest.mark.parametrize("name", INTRADAY)
def test_intraday_bars(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, "A.csv", INTRADAY[name])["timestamp"].to_list() == NINE_THIRTY


NAMED = {
    "EURUSD60.csv": "EURUSD",
    "EURUSD_Candlestick_1_Hour_BID_01.01.2024-03.01.2024.csv": "EURUSD",
    "eurusd-h1-bid-2024-01-01-2024-01-03.csv": "eurusd",
    "DAT_MT_EURUSD_H1_202401.csv": "EURUSD",
    "BINANCE_BTCUSDT, 60_a1b2c.csv": "BTCUSDT",
    "symbol=BRK%2FB/part-0.csv": "BRK/B",
    "stock=A/x.csv": "A",
}


@pytest.mark.parametrize("name", NAMED)
def test_the_symbol_of_a_path(name: str, tmp_path: Path) -> None:
    hours = table(HEADS, [str(at) for at in HOURS[:6]])
    assert read(tmp_path, name, hours)["symbol"].unique().to_list() == [NAMED[name]]


def test_a_spreadsheet_s_days_with_a_fraction(tmp_path: Path) -> None:
    zero = datetime(1899, 12, 30)
    stamps = [f"{(at - zero) / timedelta(days=1):.6f}" for at in HOURS]
    assert read(tmp_path, "A.csv", table(HEADS, stamps))["timestamp"].to_list() == HOURS


@pytest.mark.parametrize("first", [date(1965, 1, 4), date(1972, 12, 11)])
def test_seconds_before_and_around_1973(first: date, tmp_path: Path) -> None:
    days = [first + timedelta(days=7 * week + day) for week in range(24) for day in range(5)]
    midnight = [datetime(d.year, d.month, d.day, tzinfo=UTC) for d in days]
    stamps = [str(int(at.timestamp())) for at in midnight]
    bars = read(tmp_path, "A.csv", table(HEADS, stamps))
    assert bars["timestamp"].dt.date().to_list() == days


@pytest.mark.parametrize(
    "word", ["(null)", "n.v.", "#NAME?", "unch", "no data", "…", "#N/A Requesting Data..."]
)
def test_a_word_for_no_volume_costs_no_bar(word: str, tmp_path: Path) -> None:
    rows = lines(HEAD, lambda i, d: f"{d},{cells(i)},{1000 + i if i % 2 else word}")
    bars = read(tmp_path, "A.csv", rows)
    assert bars["volume"].to_list() == [1000 + i if i % 2 else None for i in range(12)]


@pytest.mark.parametrize("slip", ["1100,5a", "1.100.5", "10O0", "½", "+-5", "Infinity"])
def test_one_slip_moves_no_other(slip: str, tmp_path: Path) -> None:
    rows = lines(
        HEAD.replace(",", ";"),
        lambda i, d: f"{d};{slip if i == 4 else bar(i)[0]};{';'.join(bar(i)[1:])};{1000 + i}",
    )
    opens = read(tmp_path, "A.csv", rows)["open"].to_list()
    assert [each for i, each in enumerate(opens) if i != 4] == [
        1100 + i for i in range(12) if i != 4
    ]
    assert not math.isfinite(opens[4])


@pytest.mark.parametrize("clock", ["", " 00:00:00"])
@pytest.mark.parametrize("at", [0, 4])
@pytest.mark.parametrize("year", ["-12024", "+12024", "262143", "-0001", "0000"])
def test_a_year_beyond_the_calendar_costs_its_row(
    year: str, at: int, clock: str, tmp_path: Path
) -> None:
    rows = lines(
        HEAD,
        lambda i, d: f"{f'{year}-01-05' if i == at else d}{clock},{','.join(bar(i))},{1000 + i}",
    )
    files = written(tmp_path, {"A.csv": rows})
    report = import_files(files, tmp_path / "s", XNYS)
    assert report.new_bars == len(DAYS) - 1
    assert sum(report.quarantined.values()) == 1


def test_years_in_folders_of_symbols_are_no_symbol(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{name}/2024.csv": table(HEAD, ISO) for name in ("A", "B")}
    with pytest.raises(SourceError, match="would both become the symbol '2024'"):
        import_files(written(tmp_path, files), tmp_path / "s", XNYS)
