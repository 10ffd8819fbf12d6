"""A strategy: hold what rose, more of what moves less. A function of what is known at one close."""

from __future__ import annotations

import numpy as np

from backtest.weights.view import View

BARS = 40


def trend(view: View) -> dict[str, float]:
    """Target weights by symbol; what is not named is sold, and what is left over stays cash.

    Of the names that rose over the last BARS closes, each gets a share by its inverse volatility.
    """
    close_LN = view.closes(BARS + 1)  # (bars, symbols), the decision's own close last
    if len(close_LN) <= BARS:
        return {}
    returns_LN = np.diff(np.log(close_LN), axis=0)
    volatility_N = returns_LN.std(axis=0)  # NaN where a bar is missing: such names are left out
    chosen = np.flatnonzero((returns_LN.sum(axis=0) > 0) & (volatility_N > 0))
    share = 1 / volatility_N[chosen]
    weight = share / share.sum() if len(share) else share
    return {view.symbols[i]: float(w) for i, w in zip(chosen, weight, strict=True)}
