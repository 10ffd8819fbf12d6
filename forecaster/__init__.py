"""From windows of bars to sample paths of tomorrow's. Knows models; nothing of storage or Ray."""

from market.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
