"""Crypto exchanges through ccxt, an optional dependency. Knows ccxt's fetch_ohlcv alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from market.errors import ConfigError, SourceError
from market.importing.options import ImportOptions
from market.sources.protocol import Fetched, Request
from market.spec import ALWAYS_OPEN, Label, StoreSpec

_PAGE = 1000


class CcxtSource:
    """Spot bars of one exchange; labels are bar starts in UTC."""

    def __init__(self, exchange: str = "binance", config: Mapping[str, Any] | None = None) -> None:
        self._name = exchange
        self._config = dict(config or {})

    @property
    def defaults(self) -> ImportOptions:
        return ImportOptions(venue=ALWAYS_OPEN, tz="UTC", label=Label.START)

    def fetch(self, request: Request) -> Iterator[Fetched]:
        """One frame per symbol, page by page, without the candle that is not over yet."""
        try:
            import ccxt
        except ImportError:
            raise ConfigError("ccxt is not installed: pip install ccxt") from None
        if self._name not in ccxt.exchanges:
            raise ConfigError(f"ccxt:{self._name}: ccxt knows no such exchange")
        exchange = getattr(ccxt, self._name)({"enableRateLimit": True, **self._config})
        step = StoreSpec(ALWAYS_OPEN, request.freq, "UTC", Label.START).step
        step_ms = int(step.astype("timedelta64[ms]").astype(int))
        first = _millis(datetime(*request.start.timetuple()[:3], tzinfo=UTC))
        end = datetime.now(UTC)
        if request.end is not None:
            day = datetime(*request.end.timetuple()[:3], tzinfo=UTC) + timedelta(days=1)
            end = min(end, day)
        last = _millis(end) - step_ms  # a later start is not over by then
        for symbol in request.symbols:
            name = f"ccxt:{self._name} {symbol}"
            rows: list[list[float]] = []
            since = first
            while since <= last:
                try:
                    page = exchange.fetch_ohlcv(
                        symbol, request.freq.replace("min", "m"), since=since, limit=_PAGE
                    )
                except ccxt.BaseError as error:
                    text = str(error).splitlines()[0][:200]
                    raise SourceError(f"{name}: {type(error).__name__}: {text}") from None
                fresh = [row for row in page if since <= row[0] <= last]
                rows += fresh
                if not fresh or fresh[-1][0] + step_ms <= since:
                    break
                since = int(fresh[-1][0]) + step_ms
            if rows:
                yield Fetched(name, rows, symbol)


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
