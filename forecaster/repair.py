"""Makes sampled bars obey the rules of a bar, and counts what it changed. Knows numpy alone.

Legend: B series, S paths, H horizon, F features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from market.fields import FEATURES

FLOOR = 1e-4
"""Lowest price a path may reach, as a share of the last known close."""
HIGH, LOW, VOLUME = (FEATURES.index(name) for name in ("high", "low", "volume"))


def repair(
    values_BSHF: npt.NDArray[np.float32], last_close_B: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Repaired copy, and the number of bars changed per series (B,).

    Prices are raised to FLOOR × last close, a log return of -9.2 that `at_floor` finds again, then
    high = max and low = min of the four prices; volume and amount are raised to 0. Bars that keep
    the rules are returned bit for bit.
    """
    repaired = values_BSHF.copy()
    floor = (last_close_B * FLOOR).astype(np.float32)[:, None, None, None]
    prices = np.maximum(repaired[..., :VOLUME], floor)
    repaired[..., :VOLUME] = prices
    repaired[..., HIGH] = prices.max(axis=-1)
    repaired[..., LOW] = prices.min(axis=-1)
    repaired[..., VOLUME:] = np.maximum(repaired[..., VOLUME:], 0.0)
    changed = (repaired != values_BSHF).any(axis=-1)
    return repaired, changed.sum(axis=(1, 2), dtype=np.int64)


def at_floor(
    price: npt.NDArray[np.floating], last_close: float | npt.NDArray[np.floating]
) -> npt.NDArray[np.bool_]:
    """Where a price is at the floor or below: no market's, and its log return means nothing."""
    found: npt.NDArray[np.bool_] = price <= last_close * (FLOOR * (1 + 1e-6))
    return found


def anchor_factor(
    decoded_B: npt.NDArray[np.floating], last_close_B: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What the prices of paths are multiplied by so that they start at the last known close.

    decoded_B: what a model makes of the last known close, price units. Its error is known when the
    forecast is made and would shift every path; in logs it is subtracted. Where the decoded close
    is missing or at the floor there is not an error to speak of: 1.
    """
    usable = np.isfinite(decoded_B) & ~at_floor(np.nan_to_num(decoded_B), last_close_B)
    factor: npt.NDArray[np.float64] = last_close_B / np.where(usable, decoded_B, last_close_B)
    return factor
