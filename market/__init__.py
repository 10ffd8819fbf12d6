"""What happened and when: bars, the history lake, calendars, windows, forecasts. No torch, no ray.

Names are imported on first use, so that importing one of them does not load the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from market.bars import BAR_SCHEMA, CheckedBars, check_bars
    from market.calendars import future_timestamps, sessions_and_closes
    from market.errors import CandlecastError
    from market.flags import Flag
    from market.importing.files import ImportOptions, import_files, import_frame
    from market.lake.appending import ImportReport, OnConflict
    from market.lake.history import MarketHistory
    from market.lake.universe import Universe, parse_universe
    from market.spec import AsOf, Label, StoreSpec
    from market.windows import (
        SymbolSeries,
        Window,
        eligibility,
        rolling_windows,
        stack_windows,
        time_features,
        view,
        window_at,
    )

_HOME = {
    "BAR_SCHEMA": "bars",
    "CheckedBars": "bars",
    "check_bars": "bars",
    "future_timestamps": "calendars",
    "sessions_and_closes": "calendars",
    "CandlecastError": "errors",
    "Flag": "flags",
    "ImportReport": "lake.appending",
    "MarketHistory": "lake.history",
    "OnConflict": "lake.appending",
    "ImportOptions": "importing.files",
    "import_files": "importing.files",
    "import_frame": "importing.files",
    "AsOf": "spec",
    "Label": "spec",
    "StoreSpec": "spec",
    "Universe": "lake.universe",
    "parse_universe": "lake.universe",
    "SymbolSeries": "windows",
    "Window": "windows",
    "eligibility": "windows",
    "rolling_windows": "windows",
    "stack_windows": "windows",
    "time_features": "windows",
    "view": "windows",
    "window_at": "windows",
}

__all__ = [
    "BAR_SCHEMA",
    "AsOf",
    "CandlecastError",
    "CheckedBars",
    "Flag",
    "ImportOptions",
    "ImportReport",
    "Label",
    "MarketHistory",
    "OnConflict",
    "StoreSpec",
    "SymbolSeries",
    "Universe",
    "Window",
    "check_bars",
    "eligibility",
    "future_timestamps",
    "import_files",
    "import_frame",
    "parse_universe",
    "rolling_windows",
    "sessions_and_closes",
    "stack_windows",
    "time_features",
    "view",
    "window_at",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'market' has no attribute {name!r}")
    return getattr(import_module(f"market.{_HOME[name]}"), name)
