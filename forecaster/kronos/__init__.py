"""Kronos: bars as tokens, an autoregressive model over them, and sample paths.

Needs torch, numpy and safetensors; pandas and huggingface_hub only inside the calls that use them.
"""

from forecaster.kronos.pipeline import KronosForecaster, KronosPredictor
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer

__all__ = ["Kronos", "KronosForecaster", "KronosPredictor", "KronosTokenizer"]
