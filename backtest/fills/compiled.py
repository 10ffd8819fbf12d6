"""How the functions of a walk are compiled: two decorators for Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])
BORROWING: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
"""Options of functions that allocate nothing and only borrow the arrays they are handed. Numba then
counts no references to them: at forty arrays a call, counting takes most of the time."""


def borrowing(function: Function) -> Function:
    """Compile a function that allocates no arrays."""
    compiled: Function = njit(**BORROWING)(function)
    return compiled


def inlined(function: Function) -> Function:
    """The same, copied into its callers: called, each would have to be handed all those arrays."""
    compiled: Function = njit(forceinline=True, **BORROWING)(function)
    return compiled
