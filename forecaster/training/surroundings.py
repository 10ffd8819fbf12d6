"""What a run is told from outside: its processes, who listens, and who may stop it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from forecaster.training.process_group import Peers


@dataclass(frozen=True)
class Surroundings:
    """What a run is given by its caller."""

    peers: Peers = field(default_factory=Peers)
    report: Callable[[str], None] = lambda line: None
    """Told every logged step, on the first rank."""
    reached: Callable[[int], None] = lambda step: None
    """Called on every rank after a checkpoint."""
    require: Callable[[], None] = lambda: None
    """Called before anything is written; raises where another driver took over."""
