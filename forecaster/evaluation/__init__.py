"""How good forecasts were, beside baselines. Knows arrays and frames; no store, no page.

cases        forecasts and outcomes of the same windows
figures      per model and step: CRPS, coverage, P(up), and how sure they are
ranking      information coefficients and quantile portfolios
movement     volatility, range, volume, and the shape of paths
report       all of it for several models
"""

from forecaster.evaluation.cases import Cases, Forecasts
from forecaster.evaluation.report import Evaluation, evaluate

__all__ = ["Cases", "Evaluation", "Forecasts", "evaluate"]
