"""How commands end, as numbers that scripts and schedulers read; docs/operations.md lists them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status says."""

    DONE = 0
    """Done, or nothing left to do."""
    BUG = 1
    """An error of ours, with a traceback; the same command may be run again."""
    BAD_INPUT = 2
    """Input or a setting that cannot be used: one line on stderr says which and why."""
    GATE = 3
    """`candlecast nightly` stopped at the quality gate; nothing was forecast."""
    LEAK = 4
    """`candlecast audit` found something that looks ahead."""
    INTERRUPTED = 130
    """Ctrl-C (SIGINT): nothing is left running, and the same command goes on."""
    TERMINATED = 143
    """SIGTERM: the same."""
