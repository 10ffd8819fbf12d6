"""Training of tokenizers and predictors: plain torch, one process or several. Knows no Ray."""

from market.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
