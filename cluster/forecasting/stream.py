"""Bars from the history lake to the replicas, one block per shard. Knows Ray Data and columns.

A block holds one row per symbol: its whole series as lists, and the moments to forecast from.
Windows are cut inside the replica: as tensors they would be some 67 times the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from ray.data import Dataset, TaskPoolStrategy, read_datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from cluster.forecasting.shards import Shard
from cluster.session import READER_CLAIM
from market.actions.adjust import actions_by_symbol
from market.actions.factors import NO_ACTIONS, SymbolActions
from market.actions.suspects import mark_suspects
from market.fields import FEATURES, PRICES
from market.lake.history import MarketHistory
from market.windows import SymbolSeries

_SERIES_COLUMNS = ("timestamp", "session", "close_utc", *FEATURES, "flags")
_ACTIONS = {"ex": pl.Date, "known": pl.Date, "split": pl.Float64, "dividend": pl.Float64}


@dataclass(frozen=True)
class SymbolJob:
    """One symbol's series and the moments (UTC) to forecast it from."""

    series: SymbolSeries
    as_of_D: np.ndarray[tuple[int], np.dtype[np.datetime64]]


def shard_dataset(history: MarketHistory, shards: Sequence[Shard], readers: int) -> Dataset:
    """A Ray dataset with one block per shard, read lazily by that many tasks at a time."""
    dataset: Dataset = read_datasource(
        _ShardSource(history, shards),
        override_num_blocks=len(shards),
        num_cpus=READER_CLAIM,
        compute=TaskPoolStrategy(size=readers),
    )
    return dataset


def read_shard(history: MarketHistory, shard: Shard) -> pa.Table:
    """The shard's block: only its symbols, and of their bars only those its windows may need."""
    moments = pl.DataFrame(
        {
            "symbol": [member.symbol for member in shard.members],
            "as_of": [[a.close_utc for a in member.as_ofs] for member in shard.members],
        },
        schema_overrides={"as_of": pl.List(pl.Datetime("us", "UTC"))},
    )
    bars = (
        history.scan(
            symbols=[member.symbol for member in shard.members],
            start=shard.start,
            as_of=shard.as_of.close_utc,
        )
        .select("symbol", *_SERIES_COLUMNS)
        .collect()
    )
    block = _marked(history, _by_symbol(bars))
    block = block.join(moments, on="symbol", how="inner", maintain_order="left")
    block = block.with_columns(shard=pl.lit(shard.key))
    return block.to_arrow(compat_level=pl.CompatLevel.oldest())


def _by_symbol(bars: pl.DataFrame) -> pl.DataFrame:
    """One row per symbol, its bars as lists in time order.

    Files hold their bars in this order and mostly follow each other in time, so grouping alone
    usually gives it: sorting every row again would be most of a read.
    """
    series = bars.group_by("symbol", maintain_order=True).agg(
        *_SERIES_COLUMNS,
        in_order=(pl.col("close_utc").diff() > pl.duration(microseconds=0)).all(),
    )
    if not series["in_order"].all():
        return _by_symbol(bars.sort("symbol", "close_utc"))
    return series.drop("in_order").sort("symbol")


def _marked(history: MarketHistory, series: pl.DataFrame) -> pl.DataFrame:
    """Series with their corporate actions, and flags on bars that begin a suspected split."""
    found = actions_by_symbol(history.actions(series["symbol"].to_list()))
    flags, actions = [], []
    for row in range(series.height):
        own = found.get(series["symbol"][row], NO_ACTIONS)
        prices_N4 = np.column_stack([series[name][row].to_numpy() for name in PRICES])
        sessions_N = series["session"][row].to_numpy()
        marked_N = mark_suspects(
            series["flags"][row].to_numpy(), prices_N4, sessions_N, own, history.spec
        )
        flags.append(pl.Series(marked_N, dtype=pl.Int32))
        actions.append([own.ex_A.tolist(), own.known_A.tolist(), own.split_A.tolist(),
                        own.dividend_A.tolist()])  # fmt: skip
    columns = {
        name: pl.Series(name, [each[i] for each in actions], pl.List(dtype))
        for i, (name, dtype) in enumerate(_ACTIONS.items())
    }
    return series.with_columns(pl.Series("flags", flags, pl.List(pl.Int32)), **columns)


def jobs_of_block(block: pa.Table) -> Iterator[SymbolJob]:
    """The series of a block, as arrays that windows are cut from."""
    frame = pl.DataFrame(block)
    for row in range(frame.height):

        def column(name: str, row: int = row) -> np.ndarray[Any, Any]:
            return frame[name][row].to_numpy()  # type: ignore[no-any-return]

        yield SymbolJob(
            SymbolSeries(
                symbol=frame["symbol"][row],
                timestamps_N=column("timestamp"),
                sessions_N=column("session").astype("datetime64[D]"),
                close_utc_N=column("close_utc").astype("datetime64[us]"),
                values_NF=np.column_stack([column(feature) for feature in FEATURES]),
                flags_N=column("flags"),
                actions=SymbolActions(
                    column("ex").astype("datetime64[D]"),
                    column("known").astype("datetime64[D]"),
                    column("split"),
                    column("dividend"),
                ),
            ),
            column("as_of").astype("datetime64[us]"),
        )


class _ShardSource(Datasource):
    """One read task per shard."""

    def __init__(self, history: MarketHistory, shards: Sequence[Shard]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._history = history
        self._shards = list(shards)

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: Any = None,
    ) -> list[ReadTask]:
        return [_read_task(self._history, shard) for shard in self._shards]


def _read_task(history: MarketHistory, shard: Shard) -> ReadTask:
    def read() -> Iterable[pa.Table]:
        yield read_shard(history, shard)

    metadata = BlockMetadata(
        num_rows=len(shard.members), size_bytes=None, input_files=None, exec_stats=None
    )
    return ReadTask(read, metadata)
