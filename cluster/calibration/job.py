"""Past dates forecast so that today's can be calibrated, and what they say. Prints nothing.

The hindcasts lie beside the forecast table, one table per recipe, and are forecast by the same job
as everything else: exactly once, resumable, each date from what was known then. A later call adds
the dates that are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import polars as pl

from cluster.calibration.past import fits, past_forecasts, recipe_of
from cluster.calibration.settings import CalibrateSettings
from cluster.forecasting.job import ForecastReport, run_forecast
from cluster.settings import ForecastSettings
from forecaster import load_forecaster
from forecaster.calibration import Fitted
from market.errors import ForecastInputError
from market.lake.history import MarketHistory
from market.spec import AsOf
from market.table.forecasts import ForecastTable

LONGEST_STRIDE = 5

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CalibrationReport:
    """What was forecast, and what the past says at each moment."""

    recipe: str
    hindcast: ForecastReport | None
    """None where no date was missing."""
    fitted: dict[AsOf, Fitted]


def run_calibrate(
    settings: CalibrateSettings, report: Report = lambda stage, done, total: None
) -> CalibrationReport:
    """Forecast the past dates that are missing, and fit at every as_of.

    Raises CandlecastError where the history is too short for enough dates.
    """
    history = MarketHistory.open(settings.store, version=settings.store_version)
    table = ForecastTable(settings.out)
    loaded = load_forecaster(
        settings.model, settings.tokenizer, precision=settings.precision,
        overflow=settings.overflow, repair_bars=settings.repair, anchor=settings.anchor,
    )  # fmt: skip
    as_ofs = history.resolve_as_of_range(settings.as_of)
    recipe = recipe_of(history, loaded, settings)
    there = table.hindcasts(recipe).ensembles(recipe)
    have: set[date] = set()
    if there is not None:
        have = set(there.select(pl.col("as_of_date").unique()).collect()["as_of_date"])
    missing = [day for day in past_dates(history, settings, as_ofs) if day not in have]
    made = None
    if missing:
        chosen = {name: getattr(settings, name) for name in ForecastSettings.model_fields}
        hindcast = ForecastSettings(**chosen).model_copy(
            update={
                "source": None,
                "query": None,
                "out": table.hindcasts(recipe).folder.url,
                "as_of": ",".join(map(str, missing)),
                "universe": f"sample:{settings.calibration_symbols}",
                "calibration": "collect",
                "keep_paths": False,
            }
        )
        made = run_forecast(hindcast, report)
    past = past_forecasts(table, history, recipe, settings, as_ofs)
    found = fits(past, as_ofs)
    return CalibrationReport(recipe, made, {each: found[each.close_us] for each in as_ofs})


def past_dates(
    history: MarketHistory, settings: CalibrateSettings, as_ofs: list[AsOf]
) -> list[date]:
    """Sessions to forecast: a grid that later calls share, from `dates` before the first as_of up
    to the last, each with a whole lookback before it.

    Raises ForecastInputError where the history before the first as_of holds too few.
    """
    first, last = (pick(as_ofs, key=lambda a: a.close_utc) for pick in (min, max))
    sessions = history.sessions(end=last.session)
    bars = history.symbols()["n_bars"].max()
    per_session = max(1, round(float(bars or 1) / max(1, len(history.sessions()))))  # type: ignore[arg-type]
    needed = -(-settings.lookback // per_session)
    tail = -(-settings.horizon // per_session)
    before = sum(day < first.session for day in sessions)
    room = before - needed - tail
    if room < settings.dates:
        raise ForecastInputError(
            f"--as-of {first.session}: {max(room, 0)} sessions before it have a lookback of "
            f"{settings.lookback} bars and a horizon of {settings.horizon} that has ended; "
            f"calibration needs --dates {settings.dates}. Choose a later date, a shorter lookback, "
            "or import older bars"
        )
    stride = settings.stride
    if stride == "auto":
        stride = min(LONGEST_STRIDE, room // settings.dates)
    begin = before - tail - settings.dates * int(stride)
    if begin < needed:
        raise ForecastInputError(
            f"--stride {stride}: {settings.dates} dates so far apart reach back beyond the "
            f"history; the largest stride here is {room // settings.dates}"
        )
    return [sessions[i] for i in range(begin, len(sessions) - 1) if i % int(stride) == 0]
