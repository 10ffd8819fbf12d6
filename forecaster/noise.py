"""Random numbers by name: each a pure function of (seed, symbol, as_of, path, step, which token).

There is no generator state, so that retries, order and batch size cannot change a forecast. Needs
NumPy alone: baselines and readers draw without loading a model's libraries.

Legend: B series, S paths, H steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forecaster.interface import TimeArray

ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
LOW = np.uint64(0xFFFFFFFF)


def philox4x32(
    counter: Sequence[npt.ArrayLike], key: Sequence[npt.ArrayLike]
) -> tuple[npt.NDArray[np.uint32], ...]:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    counter: four, key: two arrays of 32-bit words that broadcast together. Returns four words.
    """
    words = np.broadcast_arrays(*[np.asarray(c, dtype=np.uint32) for c in counter])
    c0, c1, c2, c3 = (w.astype(np.uint32) for w in words)
    k0, k1 = (np.asarray(k, dtype=np.uint32) for k in key)
    with np.errstate(over="ignore"):
        for _ in range(ROUNDS):
            p0 = MULTIPLIERS[0] * c0.astype(np.uint64)
            p1 = MULTIPLIERS[1] * c2.astype(np.uint64)
            hi0, lo0 = (p0 >> np.uint64(32)).astype(np.uint32), (p0 & LOW).astype(np.uint32)
            hi1, lo1 = (p1 >> np.uint64(32)).astype(np.uint32), (p1 & LOW).astype(np.uint32)
            c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
            k0, k1 = k0 + WEYL[0], k1 + WEYL[1]
    return c0, c1, c2, c3


def noise_key(seed: int, symbol: str, as_of: np.datetime64) -> tuple[int, int]:
    """The two key words of a series: blake2b, 8 bytes, little-endian, of seed, symbol and as_of.

    as_of enters in ISO format with microseconds (UTC, without offset); the parts are joined by
    the unit separator U+001F, which no symbol contains.
    """
    moment = np.datetime_as_string(as_of.astype("datetime64[us]"), unit="us")
    text = f"{seed}\x1f{symbol}\x1f{moment}"
    word = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return word & 0xFFFFFFFF, word >> 32


def uniforms(
    seed: int, symbols: Sequence[str], as_of_B: TimeArray, n_paths: int, horizon: int
) -> npt.NDArray[np.float64]:
    """Numbers in (0, 1), shape (B, S, H, 2); the last axis is s1, s2.

    Counter = (path, step, 0 for s1 or 1 for s2, 0); u = ((first word >> 8) + 0.5) · 2⁻²⁴.
    """
    keys = np.array(
        [noise_key(seed, s, t) for s, t in zip(symbols, as_of_B, strict=True)], dtype=np.uint32
    ).reshape(-1, 2)
    path = np.arange(n_paths)[None, :, None, None]
    step = np.arange(horizon)[None, None, :, None]
    half = np.arange(2)[None, None, None, :]
    key = (keys[:, 0, None, None, None], keys[:, 1, None, None, None])
    word, *_ = philox4x32((path, step, half, np.uint32(0)), key)
    return ((word >> np.uint32(8)).astype(np.float64) + 0.5) * 2.0**-24
