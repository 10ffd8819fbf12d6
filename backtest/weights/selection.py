"""Choosing names by score, compiled. Knows score matrices alone.

Legend: D decisions, N symbols, M chosen (decision, symbol) entries, best first within a decision.
"""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def best_nb(score_DN: Any, most_D: Any) -> tuple[Any, Any]:
    """The most_D[d] highest scores of each row, best first; ties go to the lower column.

    NaN is never chosen. Returns (start_D1, column_M). Walks a row once, keeping a heap of the best
    so far whose root is the worst of them, then sorts what is kept.
    """
    n_rows, n = score_DN.shape
    start_D1 = np.zeros(n_rows + 1, np.int64)
    column_M = np.empty(max(int(np.minimum(most_D, n).sum()), 1), np.int64)
    heap_N = np.empty(n, np.int64)
    at = 0
    for d in range(n_rows):
        score_N, k, size = score_DN[d], min(most_D[d], n), 0
        for c in range(n):
            if isnan(score_N[c]) or k == 0:
                continue
            if size < k:
                i = size
                size += 1
                while i > 0:
                    parent = (i - 1) // 2
                    if not _worse(score_N, c, heap_N[parent]):
                        break
                    heap_N[i] = heap_N[parent]
                    i = parent
                heap_N[i] = c
            elif score_N[c] > score_N[heap_N[0]]:
                _sift(score_N, heap_N, size, c)
        for i in range(size - 1, -1, -1):
            column_M[at + i] = heap_N[0]
            last = heap_N[i]
            _sift(score_N, heap_N, i, last)
        at += size
        start_D1[d + 1] = at
    return start_D1, column_M[:at]


@njit(cache=True, nogil=True, error_model="numpy")
def _worse(score_N: Any, a: int, b: int) -> bool:
    return score_N[a] < score_N[b] or (score_N[a] == score_N[b] and a > b)


@njit(cache=True, nogil=True, error_model="numpy")
def _sift(score_N: Any, heap_N: Any, size: int, c: int) -> None:
    """Put c at the root of a heap of `size` and restore its order."""
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and _worse(score_N, heap_N[child + 1], heap_N[child]):
            child += 1
        if not _worse(score_N, heap_N[child], c):
            break
        heap_N[i] = heap_N[child]
        i = child
    if size > 0:
        heap_N[i] = c


@njit(cache=True, nogil=True, error_model="numpy")
def dropout_nb(score_DN: Any, k: int, n_drop: int) -> tuple[Any, Any]:
    """Top-k dropout by our rules: of the names held, at most the n_drop worst make way.

    Each decision ranks the names held together with the best ones not held. A held name is sold if
    it is among the n_drop last of that ranking (NaN ranks last); never more than n_drop, and with
    n_drop = 0 none. Then the best names not held are bought until k are held. Returns
    (start_D1, column_M), names kept and bought together, best first, NaN last.
    """
    n_rows, n = score_DN.shape
    held_N = np.zeros(n, np.bool_)
    start_D1 = np.zeros(n_rows + 1, np.int64)
    column_M = np.empty(max(n_rows * min(k, n), 1), np.int64)
    at = 0
    for d in range(n_rows):
        score_N = score_DN[d]
        order_N = np.argsort(-score_N, kind="mergesort")
        n_held = held_N.sum()
        n_new = 0
        candidate_N = np.zeros(n, np.bool_)
        for c in order_N:
            if n_new >= n_drop + k - n_held or isnan(score_N[c]):
                break
            if not held_N[c]:
                candidate_N[c] = True
                n_new += 1
        seen = 0
        for i in range(n - 1, -1, -1):
            c = order_N[i]
            if seen >= n_drop:
                break
            if held_N[c] or candidate_N[c]:
                seen += 1
                # A name nobody would replace stays: selling it would only raise cash.
                if held_N[c] and n_new > k - n_held:
                    held_N[c] = False
                    n_held -= 1
        for c in order_N:
            if n_held >= k or isnan(score_N[c]):
                break
            if candidate_N[c] and not held_N[c]:
                held_N[c] = True
                n_held += 1
        for c in order_N:
            if held_N[c]:
                column_M[at] = c
                at += 1
        start_D1[d + 1] = at
    return start_D1, column_M[:at]


@njit(cache=True, nogil=True, error_model="numpy")
def hysteresis_nb(score_DN: Any, enter: float, leave: float) -> Any:
    """Which names are held, (D, N): bought above `enter`, kept until at or below `leave`.

    A NaN score neither buys nor sells.
    """
    n_rows, n = score_DN.shape
    held_DN = np.zeros((n_rows, n), np.bool_)
    for d in range(n_rows):
        for c in range(n):
            score, held = score_DN[d, c], d > 0 and held_DN[d - 1, c]
            if not isnan(score):
                held = score > leave if held else score > enter
            held_DN[d, c] = held
    return held_DN
