"""Better paths from what became of earlier ones. Knows arrays and baselines; no store, no model.

    past         earlier forecasts with what happened, and what of it was known when
    location     the mean: shrunk, its bias removed                         (b)
    spread       the spread: blended with a baseline's, scaled; memory      (c)
    pool         a linear pool with two baselines                           (d)
    conformal    residuals mapped to the past's, and followed day by day    (e)
    direction    P(up) drawn towards the past's share                       (f)
    parameters   all of it as numbers, to be stored with a run
    fit          the parameters from the past
    paths        the parameters on sampled paths, bar by bar
    gate         which of raw, calibrated and baselines did best so far

(a), the anchor, belongs to the model. Everything is applied to the paths, so that bars, quantiles,
P(up) and statistics of paths agree.
"""

from forecaster.calibration.fit import fit
from forecaster.calibration.gate import Fitted, calibrate
from forecaster.calibration.parameters import Calibration
from forecaster.calibration.past import MIN_DATES, MODEL, PastForecasts
from forecaster.calibration.paths import calibrated_paths

__all__ = [
    "MIN_DATES",
    "MODEL",
    "Calibration",
    "Fitted",
    "PastForecasts",
    "calibrate",
    "calibrated_paths",
    "fit",
]
