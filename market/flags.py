"""Bits that say what was done to a bar or a forecast on its way. Knows nothing else.

One numbering serves bars and forecasts, so that a flag keeps its meaning from the lake to the
forecast table: a forecast carries the flags of the bars in its window.
"""

from enum import IntFlag


class Flag(IntFlag):
    """What a reader should know before trusting a number."""

    VOLUME_MISSING = 1
    """The source had no volume; 0 was stored."""
    AMOUNT_MISSING = 2
    """The source had no traded amount; volume × mean(open, high, low, close) was stored."""
    REPAIRED = 4
    """At least one sampled bar broke low ≤ open, close ≤ high (or a floor) and was repaired."""
    LOOKBACK_TRIMMED = 8
    """The lookback was shortened so that lookback + horizon fits the model's context."""
    IN_SAMPLE = 16
    """The as_of date is not after the model's training cut-off."""
    CONTEXT_SLID = 32
    """Lookback + horizon exceed the model's context, which slid along: early bars fell out."""
    CUTOFF_UNKNOWN = 64
    """Nobody states up to which date the model was trained: any date may be in-sample."""
    ROUNDED = 128
    """High or low missed open or close by a rounding error, and was widened to hold them."""
    SUSPECTED_SPLIT = 256
    """The price moved by a ratio such as 2:1 overnight, and no corporate action explains it."""
