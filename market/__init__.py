"""What happened and when: bars, the history lake, calendars, windows, forecasts.

Never imports torch or ray.
"""

from market.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
