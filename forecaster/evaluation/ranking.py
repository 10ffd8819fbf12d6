"""Does the forecast rank symbols? Information coefficients and quantile portfolios.

Legend: N windows, H horizon, D dates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from forecaster.evaluation.cases import Cases, Forecasts
from forecaster.hac import date_mean
from forecaster.scores import rank_correlation

Array = npt.NDArray[np.float64]

FEWEST = 5
"""Symbols of a date below which a ranking says nothing."""
PORTFOLIOS = 5


def ranking_figures(cases: Cases, forecasts: Forecasts, h: int) -> dict[str, Any]:
    """IC and rank IC per date with HAC t, and mean return per fifth of the forecasts.

    The score is the mean log return of the members. NaN where fewer than FEWEST symbols are known
    or the score does not vary.
    """
    score_N = np.asarray(forecasts.members_NSH[..., h], np.float64).mean(axis=1)
    actual_N = cases.actual_NH[:, h]
    lags = int(cases.overlap_H[h])
    n_dates = len(cases.as_of_D)
    ic_D, rank_ic_D = np.full(n_dates, np.nan), np.full(n_dates, np.nan)
    fifth_DQ = np.full((n_dates, PORTFOLIOS), np.nan)
    for d in range(n_dates):
        own = (cases.date_N == d) & np.isfinite(actual_N)
        score, actual = score_N[own], actual_N[own]
        if len(score) < FEWEST or np.ptp(score) < 1e-12 or np.ptp(actual) == 0:
            continue
        ic_D[d] = np.corrcoef(score, actual)[0, 1]
        rank_ic_D[d] = rank_correlation(score, actual)
        order = np.argsort(score, kind="stable")
        fifth_DQ[d] = [float(actual[part].mean()) for part in np.array_split(order, PORTFOLIOS)]
    ic, rank_ic = date_mean(ic_D, lags), date_mean(rank_ic_D, lags)
    spread = date_mean(fifth_DQ[:, -1] - fifth_DQ[:, 0], lags)
    known = np.isfinite(fifth_DQ).all(axis=1)
    return {
        "ic": ic.mean,
        "ic_t": ic.t,
        "rank_ic": rank_ic.mean,
        "rank_ic_t": rank_ic.t,
        "fifths": fifth_DQ[known].mean(axis=0).tolist() if known.any() else [],
        "top_minus_bottom": spread.mean,
        "top_minus_bottom_t": spread.t,
    }
