"""How many forecasts are done, told by replicas while they work. Knows Ray's key-value store.

Every cluster has that store, in its head: a count needs no process of its own, and it survives
whoever wrote it. Ray calls the interface internal, and its own libraries stand on it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from ray.exceptions import RayError
from ray.experimental import internal_kv

_NAMESPACE = "candlecast"


@dataclass(frozen=True)
class Counts:
    """Counts of the replicas of one driver."""

    driver: str
    """A name that no other driver has."""

    def tell(self, replica: str, done: int) -> None:
        """Of a replica that has its model: how many forecasts it has made so far."""
        with suppress(RayError):  # the next count says it, too
            internal_kv._internal_kv_put(self._prefix + replica, str(done), namespace=_NAMESPACE)

    def read(self) -> dict[str, int]:
        """Key of a replica to its forecasts. Raises RayError where the head does not answer."""
        names = internal_kv._internal_kv_list(self._prefix, namespace=_NAMESPACE)
        told = {n: internal_kv._internal_kv_get(n, namespace=_NAMESPACE) for n in names}
        return {name.decode(): int(done) for name, done in told.items() if done is not None}

    def forget(self) -> None:
        internal_kv._internal_kv_del(self._prefix, del_by_prefix=True, namespace=_NAMESPACE)

    @property
    def _prefix(self) -> str:
        return f"{self.driver}/"
