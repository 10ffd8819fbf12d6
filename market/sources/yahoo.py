"""Yahoo's bars through yfinance, an optional dependency. Knows yfinance's call, not Yahoo's HTTP.

Its prices are divided by later splits, whatever is asked for; dividends are kept beside them, found
from the adjusted close.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from market.errors import ConfigError, SourceError
from market.importing.options import ImportOptions
from market.sources.protocol import Fetched, Request
from market.spec import DAILY

_INTERVALS = {"1d": "1d", "1h": "60m", "30min": "30m", "15min": "15m", "5min": "5m", "1min": "1m"}


class YahooSource:
    """Bars of shares, funds, indices and pairs by Yahoo's tickers."""

    @property
    def defaults(self) -> ImportOptions:
        return ImportOptions()

    def fetch(self, request: Request) -> Iterator[Fetched]:
        """All symbols in one frame, as yfinance.download gives it."""
        try:
            import yfinance
        except ImportError:
            raise ConfigError("yfinance is not installed: pip install yfinance") from None
        interval = _INTERVALS.get(request.freq)
        if interval is None:
            raise ConfigError(f"freq={request.freq}: Yahoo has {', '.join(_INTERVALS)}")
        end = None if request.end is None else str(request.end + timedelta(days=1))
        try:
            frame = yfinance.download(
                list(request.symbols), start=str(request.start), end=end, interval=interval,
                auto_adjust=False, actions=request.freq == DAILY, progress=False, threads=False,
            )  # fmt: skip
        except Exception as error:  # whatever its HTTP library raises
            raise SourceError(f"yfinance: {type(error).__name__}: {str(error)[:200]}") from None
        if frame is None or not len(frame):
            raise SourceError(
                f"yfinance: no bars of {', '.join(request.symbols[:5])} since {request.start}"
            )
        yield Fetched("yfinance", frame, None)
