"""What a user says about sources of bars. Knows names and ranges; reads nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from market.errors import ConfigError
from market.lake.files import require_buckets
from market.spec import Label

EARLIEST = date(1900, 1, 1)
"""Before it there are no bars, only sentinels and misread years."""
_SEPARATORS = {",", ".", " ", "'", ""}


@dataclass(frozen=True)
class ImportOptions:
    """What the user says about the sources; None is inferred where that is honest."""

    venue: str | None = None
    """Calendar code or another name of the venue, "24/7", or None for unknown."""
    freq: str | None = None
    tz: str | None = None
    label: Label | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """Field to column name, for columns without a usual name."""
    positions: tuple[str, ...] = ()
    """What the columns of a file without a header hold, by position; "_" is left out."""
    symbol: str | None = None
    """Symbol of files that have no symbol column; otherwise the file's name."""
    price_basis: str | None = None
    day_first: bool | None = None
    """Whether 03/04/2024 is the third of April; None: as most dates of the file show."""
    decimal: str | None = None
    """Decimal sign of numbers, "." or ","; None: as the file shows."""
    thousands: str | None = None
    """Sign between groups of digits; None: as the file shows."""
    earliest: date = EARLIEST
    """Labels before it are quarantined."""
    latest: date | None = None
    """Labels after it are quarantined; None: tomorrow."""
    max_closed: float = 0.35
    """Share of a source's bars that may lie on days its venue is closed."""
    buckets: int | None = None
    """How many files a new store's symbols are spread over; None: by the symbols of this import."""

    def __post_init__(self) -> None:
        if self.label is not None:
            object.__setattr__(self, "label", Label(self.label))
        if self.decimal not in (None, ".", ","):
            raise ConfigError(f"decimal={self.decimal!r}: must be a point or a comma")
        if self.thousands is not None and self.thousands not in _SEPARATORS:
            raise ConfigError(
                f"thousands={self.thousands!r}: must be a comma, a point, a blank, ' or nothing"
            )
        if self.decimal is not None and self.decimal == self.thousands:
            raise ConfigError(f"decimal and thousands are both {self.decimal!r}: name two signs")
        if self.buckets is not None:
            require_buckets(self.buckets)
        if not 0 <= self.max_closed <= 1:
            raise ConfigError(f"max_closed={self.max_closed}: must be from 0 to 1")

    @property
    def last_day(self) -> date:
        """The last day a label may name."""
        return self.latest or datetime.now(UTC).date() + timedelta(days=1)
