"""What a run id is made of: the one answer. Knows what rows depend on, nothing of Ray.

A run's id is a hash of everything that changes its rows: the model, the settings, the numeric tile,
and the bars actually read (those up to each as_of; later ones change nothing).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.settings import HowToForecast
from forecaster.calibration.gate import Fitted
from forecaster.registry import LoadedModel
from market.flags import Flag
from market.spec import AsOf, StoreSpec
from market.windows import SymbolSeries, window_at


def digest(content: bytes) -> str:
    """16 hexadecimal digits that name a content."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def bars_read(
    series: SymbolSeries, eligible: Sequence[AsOf], lookback: int
) -> npt.NDArray[np.bool_]:
    """Which bars of a series the windows of these moments read, shape (bars,)."""
    read_N = np.zeros(len(series), dtype=np.bool_)
    for as_of in eligible:
        window = window_at(series, as_of, lookback)
        read_N[window.first : window.last] = True
    return read_N


def bars_digest(
    series: SymbolSeries, read_N: npt.NDArray[np.bool_], eligible: list[AsOf], lookback: int
) -> bytes:
    """Hash of what a symbol's forecasts depend on: its moments, every bar of its windows, and the
    corporate actions in them as known at each moment."""
    hashed = hashlib.blake2b(digest_size=16)
    hashed.update(json.dumps([series.symbol, [str(a.close_us) for a in eligible]]).encode())
    for column in (
        series.timestamps_N,
        series.close_utc_N,
        series.values_NF,
        # Suspected splits follow from the bars and the actions.
        series.flags_N & ~np.int32(Flag.SUSPECTED_SPLIT),
    ):
        hashed.update(np.ascontiguousarray(column[read_N]).tobytes())
    if len(series.actions):
        splits = []
        for as_of in eligible:
            known = series.actions.known(np.datetime64(as_of.session, "D"))
            splits.append(known.after(series.sessions_N[window_at(series, as_of, lookback).first]))
        if any(splits):  # those announced later leave no trace
            for own in splits:
                hashed.update(json.dumps(own).encode())
    return hashed.digest()


def identity_of(
    spec: StoreSpec,
    loaded: LoadedModel,
    settings: HowToForecast,
    as_ofs: Sequence[AsOf],
    bars: str,
    fitted: Mapping[np.datetime64, Fitted] | None = None,
) -> dict[str, Any]:
    """What the run id is the hash of; `bars` is the hash of the bars read, `fitted` what each
    moment's past says, where the run is to be calibrated."""
    return {
        "model_id": loaded.forecaster.model_id,
        "as_of": [as_of.close_utc.isoformat() for as_of in as_ofs],
        "lookback": settings.lookback,
        "horizon": settings.horizon,
        "paths": settings.paths,
        "sampling": {
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
        },
        "seed": settings.seed,
        "repair": settings.repair,
        "keep_paths": settings.keep_paths,
        # The driver, which may have no GPU, loads the model on its CPU.
        "numerics": dict(loaded.forecaster.numerics(settings.paths, settings.device)),
        "spec": [spec.venue, spec.freq, spec.tz, str(spec.label), spec.price_basis],
        "trained_through": None if loaded.trained_through is None else str(loaded.trained_through),
        "bars": bars,
        "calibration": {
            "kept": settings.calibration_symbols,
            "baselines": list(settings.calibration_baselines),
            "fits": {
                str(moment): each.as_dict() for moment, each in sorted((fitted or {}).items())
            },
        }
        if settings.calibration != "off"
        else None,
    }
