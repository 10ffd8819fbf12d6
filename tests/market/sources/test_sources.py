"""Sources over the network, against answers of the recorded shape on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from market import ImportOptions, Label, MarketHistory
from market.errors import ConfigError, SourceError
from market.sources.exchange import CcxtSource
from market.sources.protocol import Fetched, Request, find_source, import_source
from market.sources.yahoo import YahooSource

HOUR = 3_600_000
FIRST = int(datetime(2024, 1, 2, tzinfo=UTC).timestamp() * 1000)


class Answers(BaseHTTPRequestHandler):
    """Kraken's public interface and Yahoo's charts, as far as they are asked here."""

    def do_GET(self) -> None:
        url = urlparse(self.path)
        asked = parse_qs(url.query)
        content = json.dumps(answer(url.path, asked)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Nothing: a test's output is its own."""


def answer(path: str, asked: dict[str, list[str]]) -> Any:
    if path.endswith("/OHLC"):
        since = int(asked.get("since", ["0"])[0])
        starts = [FIRST // 1000 + i * 3600 for i in range(48)]
        starts.append(int(datetime.now(UTC).timestamp()) // 3600 * 3600)  # not over yet
        rows = [
            [t, "100.0", "101.5", "99.5", "100.5", "100.2", "12.5", 42] for t in starts if t > since
        ]
        return {"error": [], "result": {"XXBTZUSD": rows, "last": starts[-1]}}
    if path.endswith("/AssetPairs"):
        pair = {
            "altname": "XBTUSD", "wsname": "XBT/USD", "aclass_base": "currency", "base": "XXBT",
            "aclass_quote": "currency", "quote": "ZUSD", "lot": "unit", "cost_decimals": 5,
            "pair_decimals": 1, "lot_decimals": 8, "lot_multiplier": 1, "leverage_buy": [],
            "leverage_sell": [], "fees": [[0, 0.4]], "fees_maker": [[0, 0.25]],
            "fee_volume_currency": "ZUSD", "margin_call": 80, "margin_stop": 40,
            "ordermin": "0.0001", "costmin": "0.5", "tick_size": "0.1", "status": "online",
        }  # fmt: skip
        return {"error": [], "result": {"XXBTZUSD": pair}}
    if path.endswith("/Assets"):
        names = {"XXBT": "XBT", "ZUSD": "USD"}
        return {"error": [], "result": {
            key: {"aclass": "currency", "altname": name, "decimals": 10, "display_decimals": 5,
                  "status": "enabled"} for key, name in names.items()
        }}  # fmt: skip
    return {"chart": {"result": [chart(path.rsplit("/", 1)[-1])], "error": None}}


def chart(symbol: str) -> dict[str, Any]:
    """A split-adjusted daily chart of ten sessions with a dividend on the sixth."""
    days = [date(2024, 1, d) for d in (2, 3, 4, 5, 8, 9, 10, 11, 12, 16)]
    opens = [int(datetime(d.year, d.month, d.day, 14, 30, tzinfo=UTC).timestamp()) for d in days]
    close = [100.0 + i for i in range(10)]
    factor = 1 - 0.5 / close[4]
    hours = {"timezone": "EST", "start": opens[-1], "end": opens[-1] + 23400, "gmtoffset": -18000}
    return {
        "meta": {
            "currency": "USD", "symbol": symbol, "exchangeName": "NMS", "instrumentType": "EQUITY",
            "firstTradeDate": 345479400, "regularMarketTime": opens[-1] + 23400,
            "gmtoffset": -18000, "timezone": "EST", "exchangeTimezoneName": "America/New_York",
            "regularMarketPrice": close[-1], "chartPreviousClose": 99.0, "priceHint": 2,
            "currentTradingPeriod": {"pre": hours, "regular": hours, "post": hours},
            "dataGranularity": "1d", "range": "", "validRanges": ["1d", "max"],
        },
        "timestamp": opens,
        "events": {"dividends": {str(opens[5]): {"amount": 0.5, "date": opens[5]}}},
        "indicators": {
            "quote": [{"open": close, "high": [c + 1 for c in close],
                       "low": [c - 1 for c in close], "close": close,
                       "volume": [1000 + i for i in range(10)]}],
            "adjclose": [{"adjclose": [c * factor if i < 5 else c for i, c in enumerate(close)]}],
        },
    }  # fmt: skip


@pytest.fixture
def loopback() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ccxt_pages_and_leaves_the_open_candle_out(loopback: str, tmp_path: Path) -> None:
    pytest.importorskip("ccxt", reason="the extra 'sources' is not installed")
    places = {"public": loopback, "private": loopback, "zendesk": loopback}
    source = CcxtSource("kraken", {"urls": {"api": places}, "enableRateLimit": False})
    request = Request(("BTC/USD",), date(2024, 1, 2), freq="1h")
    report = import_source(source, request, tmp_path / "store")
    assert (report.new_bars, report.quarantined) == (48, {})
    history = MarketHistory.open(tmp_path / "store")
    assert history.spec.label is Label.START
    bars = history.scan().sort("close_utc").collect()
    assert bars["symbol"].unique().to_list() == ["BTC/USD"]
    assert bars["close_utc"][-1] == datetime(2024, 1, 4, tzinfo=UTC)
    assert bars["volume"][0] == 12.5
    again = import_source(source, request, tmp_path / "store")
    assert again.nothing_new


@pytest.mark.filterwarnings("ignore")
def test_yfinance_frames_with_their_dividends(
    loopback: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("yfinance", reason="the extra 'sources' is not installed")
    import yfinance.base
    import yfinance.data
    import yfinance.scrapers.history

    for module in (yfinance.base, yfinance.scrapers.history):
        monkeypatch.setattr(module, "_BASE_URL_", loopback)
    # The handshake for cookies goes to another host, which is not there.
    monkeypatch.setattr(
        yfinance.data.YfData, "_get_cookie_and_crumb", lambda *a, **k: ("", "basic")
    )
    request = Request(("AAPL", "MSFT"), date(2024, 1, 2), date(2024, 1, 16))
    report = import_source(YahooSource(), request, tmp_path / "store", ImportOptions(venue="XNYS"))
    assert (report.new_bars, report.quarantined) == (20, {})
    history = MarketHistory.open(tmp_path / "store")
    assert history.scan(symbols=["AAPL"]).sort("close_utc").collect()["close"][0] == 100.0
    actions = history.actions()
    assert actions["ex_date"].unique().to_list() == [date(2024, 1, 9)]
    assert actions["dividend"][0] == pytest.approx(0.5, abs=1e-3)


class Hourly:
    """A source of somebody else's package."""

    def __init__(self, argument: str = "none") -> None:
        self.argument = argument

    @property
    def defaults(self) -> ImportOptions:
        return ImportOptions(venue="24/7", label=Label.START)

    def fetch(self, request: Request) -> Iterator[Fetched]:
        for symbol in request.symbols:
            rows = [[FIRST + i * HOUR, 10.0, 11.0, 9.0, 10.0, 1.0] for i in range(24)]
            yield Fetched(f"mine {symbol}", rows, symbol)
        if "bad" in request.symbols:
            raise SourceError("mine bad: refused")


def test_a_source_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[candlecast.sources]\nmine = {__name__}:Hourly\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = find_source("mine:there")
    assert isinstance(found, Hourly)
    assert found.argument == "there"
    request = Request(("A", "B"), date(2024, 1, 2), freq="60min")
    report = import_source("mine", request, tmp_path / "store")
    assert report.new_bars == 48
    history = MarketHistory.open(tmp_path / "store")
    assert (history.spec.freq, history.spec.venue) == ("1h", "24/7")
    assert history.contents.sources == ("mine A", "mine B")
    with pytest.raises(SourceError, match="mine bad: refused"):
        import_source("mine", Request(("A", "bad"), date(2024, 1, 2)), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(ConfigError, match="no such source; installed are ccxt, mine, yfinance"):
        find_source("nobody")
