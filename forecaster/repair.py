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

    Prices are raised to FLOOR × last close, then high = max and low = min of the four prices;
    volume and amount are raised to 0. Bars that keep the rules are returned bit for bit.
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
