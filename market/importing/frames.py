"""From a frame in memory to checked bars. Knows the importer's rules; no files and no stores.

A frame is what somebody made, so what looks like a slip in making it (text among prices, rows out
of order) is an error here, where files from elsewhere have such rows quarantined or sorted.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from market.bars import check_bars
from market.errors import SourceError
from market.fields import FEATURES
from market.importing.columns import Columns, find_columns
from market.importing.grid import closed_days, place
from market.importing.inference import with_defaults
from market.importing.job import count_filled, describe_filled, infer_from
from market.importing.options import ImportOptions
from market.importing.rows import rows_of
from market.importing.steps import require_step, steps_of
from market.lake.appending import key_of, with_closes
from market.spec import StoreSpec


@dataclass(frozen=True)
class FrameBars:
    """A frame's bars, and what was found out about them."""

    bars: pl.DataFrame
    """BAR_SCHEMA, sorted by symbol and close."""
    good: pl.DataFrame
    """The same rows as market.bars.check_bars leaves them, for a store to append."""
    quarantine: pl.DataFrame
    """Rows that broke a rule of bars, QUARANTINE_SCHEMA."""
    spec: StoreSpec
    notes: tuple[str, ...]
    """What was inferred or left out, for people."""


def read_frame(
    frame: pl.DataFrame,
    options: ImportOptions | None = None,
    existing: StoreSpec | None = None,
    *,
    source: str = "the frame",
) -> FrameBars:
    """Bars of a frame whose columns have their usual names, in any case and order.

    frame: symbol, time (labels as the exchange gives them, increasing within a symbol), open, high,
    low, close, and volume and amount where there are any. options: what the frame does not say;
    `options.symbol` names the symbol of a frame without such a column. existing: what the store
    the bars go to holds.

    Rows that break a rule of bars go to `quarantine`. Raises SourceError in one line for a missing
    or doubled column, an empty frame, text in a number's column, times out of order, and where no
    row is left; ConfigError and StoreError as `import_files` does.
    """
    told, notes = with_defaults(options or ImportOptions(), existing)
    columns = find_columns(frame.columns, told.columns, source)
    _require_single(frame, columns, source)
    if not frame.height:
        raise SourceError(f"{source} has no rows; expected bars, one per row")
    if "symbol" not in columns.of and told.symbol is None:
        raise SourceError(
            f"{source}: no column for symbol; found {', '.join(frame.columns)}. Name the column "
            "with --map symbol=COLUMN, or the only symbol there is with --symbol"
        )
    _require_numbers(frame, columns, source)
    found = rows_of(frame, source, told, told.symbol)
    rows = found.rows
    _require_order(rows, columns.of["timestamp"], source)
    steps = steps_of(rows)
    spec, spec_notes = existing, list[str]()
    if spec is None:
        spec, spec_notes = infer_from([(found, steps)], told)
    whose = "the store holds" if existing is not None else "most of its bars are"
    require_step(steps, spec, whose, rows)
    checked = check_bars(place(rows, spec, told), key_of(spec)[1])
    if not checked.good.height:
        row = checked.quarantine.row(0, named=True)
        raise SourceError(
            f"{source}: none of {rows.height:,} rows is a bar; row {row['row']}: {row['detail']} "
            f"(rule: {row['rule']})"
        )
    if found.unused:
        notes = [*notes, f"columns not used: {', '.join(found.unused)}"]
    closed = closed_days(checked.good, spec, told)
    notes = [*notes, *found.notes, *(each.removeprefix(f"{source}: ") for each in closed)]
    rules = checked.quarantine.group_by("rule").len().sort("rule")
    filled = describe_filled(count_filled(checked.good), checked.good.height)
    dropped = [f"{n:,} rows left out (rule: {rule})" for rule, n in rules.iter_rows()]
    return FrameBars(
        bars=with_closes(checked.good, spec).sort("symbol", "close_utc"),
        good=checked.good,
        quarantine=checked.quarantine,
        spec=spec,
        notes=(*notes, *spec_notes, *filled, *dropped),
    )


def _require_single(frame: pl.DataFrame, columns: Columns, source: str) -> None:
    """Two columns that differ in case or blanks alone leave open which one is meant."""
    plain = {name: "".join(filter(str.isalnum, name.lower())) for name in frame.columns}
    for field, name in columns.of.items():
        twins = [other for other in frame.columns if plain[other] == plain[name]]
        if len(twins) > 1:
            raise SourceError(
                f"{source}: the columns {' and '.join(map(repr, twins))} both name {field}; drop "
                f"one, or choose with --map {field}=COLUMN"
            )


def _require_numbers(frame: pl.DataFrame, columns: Columns, source: str) -> None:
    for field in FEATURES:
        if field not in columns.of:
            continue
        column = frame[columns.of[field]]
        dtype = column.dtype
        if dtype.is_numeric() or dtype == pl.Null:
            continue
        value = column.cast(pl.Float64, strict=False) if dtype == pl.String else None
        broken = column.is_not_null() if value is None else value.is_null() & column.is_not_null()
        if broken.any():
            at = int(broken.arg_true()[0])
            raise SourceError(
                f"{source}: row {at + 1} of column {column.name!r} holds {column[at]!r}, which is "
                f"not a number ({field} of a bar); convert the column, or leave such rows out"
            )


def _require_order(rows: pl.DataFrame, name: str, source: str) -> None:
    earlier = rows.select(
        before=pl.col("timestamp").shift(1).over("symbol"),
        broken=(pl.col("timestamp") < pl.col("timestamp").shift(1).over("symbol")),
    )
    if not earlier["broken"].any():
        return
    at = int(earlier["broken"].arg_true()[0])
    raise SourceError(
        f"{source}: {rows['symbol'][at]}: {rows['timestamp'][at]} in row {at + 1} comes after "
        f"{earlier['before'][at]} (rule: times increase within a symbol); sort the frame by "
        f"symbol and {name!r} first"
    )
