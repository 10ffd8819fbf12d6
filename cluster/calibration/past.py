"""Past forecasts of one recipe with their outcomes, out of the tables and the history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl

from cluster.outcomes import outcomes
from cluster.settings import ForecastSettings
from forecaster import LoadedModel
from forecaster.baselines import load_baseline
from forecaster.calibration import MODEL, Fitted, PastForecasts, calibrate
from forecaster.calibration.past import ALWAYS
from market.lake.history import MarketHistory
from market.spec import AsOf
from market.table.forecasts import ForecastTable

RECENT_DATES = 250
"""Past dates that are looked at, the newest ones."""
_ANYWHERE = frozenset({"device", "tile", "precision"})
"""Numerics that change last bits alone: forecasts made elsewhere still say how good these are."""


def recipe_of(history: MarketHistory, loaded: LoadedModel, settings: ForecastSettings) -> str:
    """Names forecasts that can calibrate each other: same model, baselines, lookback, sampling and
    market. Raises ConfigError for an unknown baseline."""
    spec = history.spec
    numerics = loaded.forecaster.numerics(settings.paths, settings.device)
    parts: list[Any] = [
        loaded.forecaster.model_id, settings.lookback, settings.horizon, settings.paths,
        settings.temperature, settings.top_k, settings.top_p, settings.repair,
        sorted(load_baseline(name).model_id for name in {*ALWAYS, *settings.calibration_baselines}),
        {k: v for k, v in numerics.items() if k not in _ANYWHERE},
        [spec.venue, spec.freq, spec.tz, str(spec.label), spec.price_basis],
    ]  # fmt: skip
    return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def past_forecasts(
    table: ForecastTable, history: MarketHistory, recipe: str, settings: ForecastSettings,
    as_ofs: Sequence[AsOf],
) -> PastForecasts | None:  # fmt: skip
    """Raw closes of earlier nights and of hindcasts, with what is known at the last of the moments;
    None without.

    The table's own rows of these very moments do not count: they are this run's, or are to be
    replaced by it, and a rerun must find the past it found before. A date of which both tables hold
    forecasts counts once per symbol: the night's.
    """
    moments = [as_of.close_utc for as_of in as_ofs]
    known_by = max(moments)
    frames = []
    for rank, each in enumerate((table, table.hindcasts(recipe))):
        scan = each.ensembles(recipe)
        if scan is not None:
            own = scan.filter(pl.col("as_of") < known_by)
            if rank == 0:
                own = own.filter(~pl.col("as_of").is_in(moments))
            frames.append(own.drop("run_id", "as_of_date").with_columns(rank=pl.lit(rank)))
    if not frames:
        return None
    rows = pl.concat(frames).collect()
    dates = rows["as_of"].unique().sort().tail(RECENT_DATES)
    rows = rows.filter(pl.col("as_of").is_in(dates.implode())).with_columns(
        first=pl.col("rank").min().over("as_of", "symbol")
    )
    rows = rows.filter(pl.col("rank") == pl.col("first")).sort("as_of", "symbol", "source")
    model = rows.filter(pl.col("source") == MODEL)
    if not model.height:
        return None
    n_paths, horizon = model["n_paths"][0], model["horizon"][0]
    symbols = model["symbol"].to_list()
    as_of_N = model["as_of"].dt.replace_time_zone(None).to_numpy()
    made = outcomes(
        history, symbols, as_of_N, horizon, known_by=known_by,
        max_gap_sessions=settings.max_gap_sessions,
    )  # fmt: skip
    members = {}
    for (source,), part in rows.group_by("source"):
        if part.height == model.height:
            flat = part.sort("as_of", "symbol")["log_close"].explode().to_numpy()
            members[str(source)] = flat.reshape(-1, n_paths, horizon)
    # The close forecast from, not the store's of today: bars may have been corrected since.
    last_N = model["last_close"].to_numpy()
    with np.errstate(invalid="ignore"):
        same = np.abs(made.base_N / last_N - 1) < 1e-6
    return PastForecasts(
        symbols=tuple(symbols),
        as_of_N=as_of_N,
        members={name: members[name] for name in sorted(members)},
        sigma_N=model["sigma"].to_numpy(),
        actual_NH=np.where(same[:, None], made.log_return_NH, np.nan),
        ended_NH=np.where(same[:, None], made.ended_NH, np.datetime64("NaT", "us")),
    )


def fits(past: PastForecasts | None, as_ofs: Sequence[AsOf]) -> dict[np.datetime64, Fitted]:
    """What the past says at each moment, each from what was known by then alone."""
    out = {}
    for as_of in as_ofs:
        if past is None:
            out[as_of.close_us] = nothing_known()
        else:
            out[as_of.close_us] = calibrate(past.known_by(as_of.close_us))
    return out


def nothing_known() -> Fitted:
    """Of a first night."""
    from forecaster.calibration.gate import RAW, UNCALIBRATED
    from forecaster.calibration.past import MIN_DATES

    status = f"{UNCALIBRATED}: 0 of {MIN_DATES} past dates whose horizon has ended"
    return Fitted(RAW, status, 0, None, None, "", {}, None)
