"""Why symbols were left out, grouped for people. Knows the notes of a run record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from market.table.schema import SymbolNote


@dataclass(frozen=True)
class Kind:
    """Reasons that begin alike, up to their colon."""

    words: str
    count: int
    """Pairs of symbol and date."""
    example: str
    """One symbol, and the rest of its reason."""

    def __str__(self) -> str:
        return f"{self.count:,} {self.words} (e.g. {self.example})"


def kinds(notes: Iterable[SymbolNote]) -> list[Kind]:
    """The kinds of reason, the commonest first."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for note in notes:
        words, _, detail = note.reason.partition(":")
        counts[words] += len(note.symbols)
        examples.setdefault(words, f"{note.symbols[0]}: {detail.strip()}")
    return [Kind(words, n, examples[words]) for words, n in counts.most_common()]
