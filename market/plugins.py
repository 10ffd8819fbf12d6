"""What installed packages add by entry points: listed without loading, loaded one at a time.

Knows no kind of plug-in. One that is broken costs a line where it is asked for, and nothing
elsewhere: nothing here runs when candlecast is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from market.errors import CandlecastError, ConfigError


@dataclass(frozen=True)
class Plugin:
    """One name that installed packages offer in a group."""

    group: str
    """candlecast.sources, candlecast.strategies, candlecast.models or candlecast.baselines."""
    name: str
    points: tuple[EntryPoint, ...]
    """More than one where packages clash."""

    @property
    def origin(self) -> str:
        """Who offers it: "PACKAGE VERSION", several joined by "and"."""
        dists = [point.dist for point in self.points]
        return " and ".join(sorted(f"{d.name} {d.version}" if d else "?" for d in dists))

    def load(self) -> Any:
        """What the entry point names. Raises ConfigError where that fails, in one line."""
        if len(self.points) > 1:
            raise self.error("is offered by both; uninstall one of them")
        with self.guarded(f"cannot load {self.points[0].value}"):
            return self.points[0].load()

    def require(self, made: object, members: tuple[str, ...]) -> None:
        """Raises ConfigError where one of these attributes is missing."""
        for member in members:
            with self.guarded(f"reading its {member}"):
                there = hasattr(made, member)
            if not there:
                raise self.error(f"has no {member}, which one in this group must have")

    def error(self, text: str) -> ConfigError:
        """An error that names the plug-in and where it comes from."""
        return ConfigError(f"{self.group}: '{self.name}' of package {self.origin}: {text}")

    @contextmanager
    def guarded(self, doing: str) -> Iterator[None]:
        """Turns what other people's code raises into one line; our own errors pass."""
        try:
            yield
        except CandlecastError:
            raise
        except Exception as error:
            raise self.error(f"{doing}: {one_line(error)}") from error


def plugins(group: str) -> dict[str, Plugin]:
    """Every name offered in a group, in order of names. Loads nothing."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return {name: Plugin(group, name, found[name]) for name in sorted(found)}


def one_line(error: Exception) -> str:
    """Type and message of an error, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
