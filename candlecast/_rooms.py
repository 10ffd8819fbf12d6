"""Whether the packages beside this one are ours. Knows the import system and file names alone.

`market`, `forecaster`, `backtest` and `cluster` are names that a user's own files have too, and
Python looks into the folder of the script first. A wrong module must never be taken for ours.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ROOMS = ("market", "forecaster", "backtest", "cluster")
HOME = Path(__file__).resolve().parent.parent


class Clash(NamedTuple):
    """Something else that Python finds under the name of a room."""

    name: str
    place: str
    """File or folder."""

    def __str__(self) -> str:
        return (
            f"{self.place} hides candlecast's own package {self.name!r}: Python finds it first, in "
            "the folder of the script or on PYTHONPATH. Rename it, or run from another folder"
        )


def first_clash() -> Clash | None:
    """The first room that Python would take from elsewhere; None where all are ours.

    Raises ImportError where a room is missing altogether.
    """
    for name in ROOMS:
        loaded = sys.modules.get(name)
        spec = loaded.__spec__ if loaded is not None else find_spec(name)
        if spec is None:
            raise ImportError(f"candlecast's package {name!r} is missing; install candlecast again")
        places = [spec.origin] if spec.has_location else spec.submodule_search_locations or []
        for place in places:
            if place is not None and not Path(place).resolve().is_relative_to(HOME / name):
                return Clash(name, place)
    return None
