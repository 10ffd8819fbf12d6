"""From forecast tables to portfolios and what they earned. Knows bars, forecasts and costs.

Never imports torch or ray; vectorbt is imported by `vectorbt_bridge` alone, inside its functions.
"""

from market.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
