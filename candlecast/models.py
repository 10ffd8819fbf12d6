"""Kronos with the call signatures of the reference implementation. Says where they live."""

from forecaster.kronos.dataframes import KronosPredictor
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer

__all__ = ["Kronos", "KronosPredictor", "KronosTokenizer"]
