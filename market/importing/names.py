"""What columns are usually called, in the files and languages bars come in. Knows words alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from market.fields import FEATURES

FIELDS = ("symbol", "timestamp", *FEATURES)
"""What a source's columns can stand for."""

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "symbol": (
        *("symbol", "ticker", "code", "tscode", "tsymbol", "instrument", "secid", "stock", "tic"),
        *("tckrsymb", "orderbookid", "股票代码", "证券代码", "代码", "종목코드"),
        *("symbolname", "name"),
    ),
    "timestamp": (
        *("timestamp", "timestamps", "datetime", "opentime", "date", "tradedate", "day"),
        *("dtyyyymmdd", "time"),
        *("begin", "startdate", "unix", "date1", "traddt", "tradingday", "timekey", "bartime"),
        *("gmttime", "utctime", "timeutc", "dateutc", "datetimeutc", "timestamputc", "opentimeutc"),
        *("localtime", "tsevent", "日期", "时间", "交易日期", "日付", "日時", "날짜"),
        *("일자", "datum", "zeit", "fecha", "data", "jour"),
        *("windowstart", "starttime", "barstart", "periodstart", "bardate", "pricedate"),
        *("index", "indexlevel0", "ts", "t", ""),
    ),
    "open": (
        *("open", "o", "openprice", "openingprice", "1open", "opnpric", "pxopen", "mido"),
        *("开盘", "开盘价", "开盘价元", "始値", "시가", "eröffnung", "erster", "eröffnungskurs"),
        *("ouverture", "ouv", "apertura", "abertura", "otwarcie", "openingskoers"),
    ),
    "high": (
        *("high", "h", "highprice", "max", "2high", "hghpric", "pxhigh", "midh"),
        *("最高", "最高价", "最高价元", "高値", "고가", "hoch", "tageshoch", "höchst", "plushaut"),
        *("haut", "máximo", "maximo", "massimo", "máxima", "maxima", "najwyzszy", "najwyższy"),
        "hoog",
    ),
    "low": (
        *("low", "l", "lowprice", "min", "3low", "lwpric", "pxlow", "midl"),
        *("最低", "最低价", "最低价元", "安値", "저가", "tief", "tagestief", "tiefst", "plusbas"),
        *("bas", "mínimo", "minimo", "mínima", "minima", "najnizszy", "najniższy", "laag"),
    ),
    "close": (
        *("close", "c", "closeprice", "closingprice", "clspric", "pxlast", "midc"),
        *("收盘", "收盘价", "收盘价元", "終値", "종가", "closeclosepriceadjustedforsplits"),
        *("last", "closelast", "4close", "price", "schluss", "schlusskurs", "ltp", "clôture"),
        *("cloture", "clot", "dernier", "último", "ultimo", "cierre", "chiusura", "fechamento"),
        *("zamkniecie", "zamknięcie", "slot", "slotkoers"),
    ),
    "volume": (
        *("volume", "vol", "v", "qty", "basevolume", "5volume", "shares", "tottrdqty", "成交量"),
        *("totaltradedquantity", "ttltrdqnty", "ttltradgvol", "noofshares", "tradedquantity"),
        *("totalvolume", "numberofshares", "pxvolume", "volumeshares", "成交量股"),
        *("出来高", "거래량"),
        *("stücke", "stuecke", "umsatz", "volumen", "turnovershares", "volumebase", "wolumen"),
        *("tickvol", "tickvolume"),
    ),
    "amount": (
        *("amount", "turnover", "quotevolume", "quoteassetvolume", "amt", "value", "tottrdval"),
        *("tradedvalue", "tradevalue", "money", "dollarvolume", "ttltrfval", "成交额", "成交金额"),
        *("totalturnover", "turnoverrs", "volumequote", "成交金额元", "거래대금"),
        "totalturnoverrs",
    ),
    "series": ("series", "sctysrs"),
    "dividends": ("dividends", "dividend", "divcash"),
    "splits": ("stocksplits", "stocksplit", "splitfactor", "splits"),
    "adjusted_close": (
        *("adjclose", "adjustedclose", "adjclosesplitsdividends", "closeadj"),
        "adjcloseadjustedclosepriceadjustedforsplitsanddividendandorcapitalgaindistributions",
    ),
}  # fmt: skip
"""Names in lower case without blanks and punctuation, the preferred first."""

DAY_NAMES = frozenset(
    (
        "date",
        "day",
        "tradedate",
        "dtyyyymmdd",
        "日期",
        "日付",
        "날짜",
        "일자",
        "datum",
        "fecha",
        "data",
    )
)
"""Columns of days that a column of times of day may stand beside."""

UTC_NAMES = frozenset(
    ("gmttime", "utctime", "timeutc", "dateutc", "datetimeutc", "timestamputc", "opentimeutc")
)
"""Columns of times whose name says that they are UTC."""

_QUOTES = (
    *("USDT", "USDC", "USD", "BUSD", "FDUSD", "TUSD", "EUR", "GBP", "JPY", "KRW", "INR", "TRY"),
    *("BTC", "ETH", "BNB"),
)
"""What pairs are quoted in, the likeliest first."""
_ANY = frozenset(name for names in USUAL_NAMES.values() for name in names if len(name) > 1)
_NUMBERS = frozenset(name for field in FEATURES for name in USUAL_NAMES[field]) - {"value"}


def plain(name: str) -> str:
    """A column's name as it is compared: lower case, letters and digits alone."""
    return re.sub(r"[\W_]", "", name.lower())


def known_fields(row: Sequence[str], wanted: frozenset[str]) -> int:
    """How many cells of a row are names of columns, usual ones or those the user speaks of."""
    return sum(
        field.strip() in wanted
        or plain(field) in _ANY
        or plain(field) in ("o", "h", "l", "c", "v")
        or bool(re.fullmatch(r"(?i)volume [a-z0-9]{2,6}", field.strip()))
        for field in row
    )


def is_number_name(name: str) -> bool:
    """Whether a column of this name holds prices, volumes or amounts."""
    return plain(name) in _NUMBERS or bool(re.fullmatch(r"(?i)volume [a-z0-9]{2,6}", name.strip()))


def pair_volumes(names: Sequence[str]) -> tuple[str | None, str | None]:
    """Columns "Volume ETH" and "Volume USDT" as volume (of the base coin) and amount."""
    found = {
        each[1].upper(): name
        for name in names
        if (each := re.fullmatch(r"(?i)volume[ _(]+([a-z0-9]{2,6})\)?", name.strip()))
        and each[1].lower() not in ("base", "quote", "ma", "ma20", "traded")
    }
    if not found:
        return None, None
    rank = {coin: _QUOTES.index(coin) if coin in _QUOTES else len(_QUOTES) for coin in found}
    base = max(found, key=lambda coin: rank[coin])
    quote = min(found, key=lambda coin: rank[coin])
    if len(found) == 1 and base in _QUOTES[:12]:
        return None, found[base]
    return found[base], found[quote] if len(found) > 1 else None
