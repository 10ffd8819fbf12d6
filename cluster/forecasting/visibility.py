"""Does every node of a joined cluster see the files a run reads and writes? Knows Ray and paths.

Asked before the work begins: a node without the store would fail in the middle of a run, with an
error that speaks of files rather than of mounts.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from market.errors import StoreError
from market.lake.history import MarketHistory
from market.lake.versions import log_entry
from market.storage import Folder, is_url
from market.table.forecasts import ForecastTable

_ANSWER_SECONDS = 30.0


def require_visible(
    history: MarketHistory, table: ForecastTable | None = None, run_id: str = ""
) -> None:
    """Raises StoreError naming the first node that cannot see the history, or the table's folder,
    where a table is given whose record of a run is written.

    A node that joins later, or does not answer, is not waited for: its own reads name what they
    miss.
    """
    places = {"history": log_entry(history.root, history.version)}
    if table is not None:
        places["forecast table"] = table.folder.at(f"runs/{run_id}.json")
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    own = ray.get_runtime_context().get_node_id()
    others = [node for node in nodes if node["Alive"] and node["NodeID"] != own]
    look = ray.remote(num_cpus=0, max_retries=0)(_missing)
    asked = {
        look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(places): node
        for node in others
    }
    until = time.monotonic() + _ANSWER_SECONDS
    left = list(asked)
    while left and time.monotonic() < until:
        done, left = ray.wait(left, timeout=max(0.0, until - time.monotonic()))
        for answer in done:
            try:
                host, missing = ray.get(answer)
            except RayError:
                continue
            if missing:
                raise StoreError(
                    f"node {host} ({asked[answer]['NodeManagerAddress']}) does not see the "
                    f"{missing} {places[missing]}: "
                    + (
                        "give that node credentials and endpoint of the object store"
                        if is_url(places[missing])
                        else "mount that folder there under the same path, or use a URL such as "
                        "s3://"
                    )
                )


def _missing(names: dict[str, str]) -> tuple[str, str | None]:
    """This node's name, and the first place that is not there."""
    missing = next((key for key, name in names.items() if not _visible(name)), None)
    return socket.gethostname(), missing


def _visible(place: str) -> bool:
    folder, _, name = place.rpartition("/")
    try:
        return Folder(folder).exists(name)
    except StoreError:  # of an object store that refuses this node
        return False
