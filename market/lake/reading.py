"""Opening the bar files of one version. Knows paths, buckets and time spans; decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from market.bars import BAR_SCHEMA
from market.lake.manifest import BarFile, bucket_of, verified


def scan_bars(
    root: Path,
    files: Iterable[BarFile],
    *,
    symbols: Iterable[str] | None = None,
    start: date | None = None,
    as_of: datetime | None = None,
) -> pl.LazyFrame:
    """Bars in BAR_SCHEMA, in no promised order; files that cannot match are not opened.

    start: first session to return. as_of: only bars whose close is at or before it; without time
    zone it counts as UTC. Raises StoreError naming the file where one is damaged.
    """
    chosen = list(files)
    moment = None if as_of is None else as_of.replace(tzinfo=as_of.tzinfo or UTC)
    wanted = None if symbols is None else sorted(set(symbols))
    if wanted is not None:
        buckets = {bucket_of(symbol) for symbol in wanted}
        chosen = [each for each in chosen if each.bucket in buckets]
    if moment is not None:
        chosen = [each for each in chosen if datetime.fromisoformat(each.first_close) <= moment]
    if not chosen:
        return pl.LazyFrame(schema=BAR_SCHEMA)
    bars = pl.scan_parquet(verified(root, [each.path for each in chosen]))
    if wanted is not None:
        bars = bars.filter(pl.col("symbol").is_in(wanted))
    if start is not None:
        bars = bars.filter(pl.col("session") >= start)
    if moment is not None:
        bars = bars.filter(pl.col("close_utc") <= moment)
    return bars
