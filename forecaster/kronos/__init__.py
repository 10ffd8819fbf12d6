"""Kronos: bars as tokens, an autoregressive model over them, and sample paths.

Needs torch, numpy and safetensors; pandas and huggingface_hub only inside the calls that use them.
"""

from forecaster.kronos.dataframes import KronosPredictor
from forecaster.kronos.pipeline import KronosForecaster
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer

__all__ = ["Kronos", "KronosForecaster", "KronosPredictor", "KronosTokenizer"]
