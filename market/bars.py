"""The bar: its columns and the rules it keeps. Knows polars; no files, no calendars.

Rows that keep every rule are good; the others go to quarantine with the first rule they broke.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from market.errors import SourceError
from market.fields import FEATURES, PRICES
from market.flags import Flag

BAR_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "timestamp": pl.Datetime("us"),
        "session": pl.Date(),
        "close_utc": pl.Datetime("us", "UTC"),
        **{name: pl.Float64() for name in FEATURES},
        "flags": pl.Int32(),
    }
)
"""Columns of the lake. timestamp is the exchange-local label as given; nothing is null."""

QUARANTINE_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "row": pl.Int64(),
        "symbol": pl.String(),
        "timestamp": pl.Datetime("us"),
        "rule": pl.String(),
        "detail": pl.String(),
        **{name: pl.Float64() for name in FEATURES},
    }
)
"""Columns of the quarantine: where the row came from, what it broke, and its values as read."""

RULE_TIME = "parsable time"
RULE_SYMBOL = "symbol present"
RULE_FINITE = "finite"
RULE_POSITIVE = "price > 0"
RULE_ORDER = "low <= open, close <= high"
RULE_VOLUME = "volume >= 0"
RULE_AMOUNT = "amount >= 0"
RULE_UNIQUE = "unique timestamp"
RULES = (
    RULE_TIME,
    RULE_SYMBOL,
    RULE_FINITE,
    RULE_POSITIVE,
    RULE_ORDER,
    RULE_VOLUME,
    RULE_AMOUNT,
    RULE_UNIQUE,
)
"""In the order they are checked: a row is filed under the first one it breaks."""


@dataclass(frozen=True)
class CheckedBars:
    """The two halves of a batch of rows."""

    good: pl.DataFrame
    """symbol, timestamp, the six values (filled), flags, source, row; sorted by symbol and time."""
    quarantine: pl.DataFrame
    """QUARANTINE_SCHEMA, in source order."""


def check_bars(frame: pl.DataFrame) -> CheckedBars:
    """Split rows into bars that keep every rule and rows that do not.

    frame: symbol, timestamp and the four prices; volume and amount where the source has them
    (null = missing: volume becomes 0, amount volume × mean(open, high, low, close), both flagged);
    source and row (1-based) tell where a row came from; `time_text`, where present, is the label as
    read, for rows whose timestamp is null.
    Of several rows with one symbol and timestamp, the first that keeps the other rules stays.
    Raises SourceError where a required column is absent.
    """
    missing = [name for name in ("symbol", "timestamp", *PRICES) if name not in frame.columns]
    if missing:
        raise SourceError(f"bars need the columns {', '.join(missing)}; found {frame.columns}")
    rows = _complete(frame)
    rules = rows.select(_first_broken_rule().alias("rule")).to_series()
    broken = rows.filter(rules.is_not_null()).with_columns(rules.drop_nulls())
    rows = rows.filter(rules.is_null()).sort("symbol", "timestamp", maintain_order=True)
    repeats = rows.select(
        pl.all_horizontal(
            pl.col(name) == pl.col(name).shift() for name in ("symbol", "timestamp")
        ).fill_null(False)
    ).to_series()
    kept = rows.filter(~repeats) if repeats.any() else rows
    repeated = rows.filter(repeats)
    quarantine = pl.concat(
        [broken.with_columns(_detail()), _describe_repeats(repeated, kept)], how="diagonal"
    )
    return CheckedBars(
        good=_fill(kept),
        quarantine=quarantine.sort("source", "row", maintain_order=True).select(
            pl.col(name).cast(dtype) for name, dtype in QUARANTINE_SCHEMA.items()
        ),
    )


def _complete(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with every column the rules look at, in order and of the right type."""
    present = set(frame.columns)
    if "row" not in present:
        frame = frame.with_row_index("row", offset=1)
    values = [
        (pl.col(name) if name in present else pl.lit(None)).cast(pl.Float64).alias(name)
        for name in FEATURES
    ]
    text = {
        name: (pl.col(name) if name in present else pl.lit(default)).cast(pl.String).alias(name)
        for name, default in (("source", ""), ("time_text", None))
    }
    return frame.select(
        text["source"],
        pl.col("row").cast(pl.Int64),
        pl.col("symbol").cast(pl.String),
        pl.col("timestamp").cast(pl.Datetime("us")),
        text["time_text"],
        *values,
    )


def _first_broken_rule() -> pl.Expr:
    prices = [pl.col(name) for name in PRICES]
    open_, high, low, close = prices
    optional = [pl.col("volume"), pl.col("amount")]
    not_finite = pl.any_horizontal(
        *(p.is_null() | ~p.is_finite() for p in prices),
        *((v.is_not_null() & ~v.is_finite()) for v in optional),
    )
    out_of_order = (low > pl.min_horizontal(open_, close)) | (
        high < pl.max_horizontal(open_, close)
    )
    broken = {
        RULE_TIME: pl.col("timestamp").is_null(),
        RULE_SYMBOL: pl.col("symbol").is_null() | (pl.col("symbol").str.strip_chars() == ""),
        RULE_FINITE: not_finite.fill_null(True),
        RULE_POSITIVE: pl.any_horizontal(*(p <= 0 for p in prices)),
        RULE_ORDER: out_of_order | (high < low),
        RULE_VOLUME: (pl.col("volume") < 0).fill_null(False),
        RULE_AMOUNT: (pl.col("amount") < 0).fill_null(False),
    }
    return pl.coalesce(pl.when(condition).then(pl.lit(rule)) for rule, condition in broken.items())


def _detail() -> pl.Expr:
    """One readable reason per row, from the rule it broke."""
    not_finite = pl.concat_str(
        [
            pl.when(pl.col(name).is_null())
            .then(pl.lit(f"{name} is missing" if name in PRICES else None, dtype=pl.String))
            .when(~pl.col(name).is_finite())
            .then(pl.format(f"{name} is {{}}", pl.col(name)))
            for name in FEATURES
        ],
        separator=", ",
        ignore_nulls=True,
    )
    not_positive = pl.concat_str(
        [
            pl.when(pl.col(name) <= 0).then(pl.format(f"{name} is {{}}", pl.col(name)))
            for name in PRICES
        ],
        separator=", ",
        ignore_nulls=True,
    )
    inner = [pl.col("open"), pl.col("close")]
    out_of_order = pl.concat_str(
        [
            pl.when(pl.col("high") < pl.col("low")).then(
                pl.format("high {} < low {}", pl.col("high"), pl.col("low"))
            ),
            pl.when(pl.col("low") > pl.min_horizontal(inner)).then(
                pl.format("low {} > min(open, close) {}", pl.col("low"), pl.min_horizontal(inner))
            ),
            pl.when(pl.col("high") < pl.max_horizontal(inner)).then(
                pl.format("high {} < max(open, close) {}", pl.col("high"), pl.max_horizontal(inner))
            ),
        ],
        separator=", ",
        ignore_nulls=True,
    )
    rule = pl.col("rule")
    return (
        pl.when(rule == RULE_TIME)
        .then(pl.format("'{}' is not a time", pl.col("time_text").fill_null("")))
        .when(rule == RULE_SYMBOL)
        .then(pl.lit("the row names no symbol"))
        .when(rule == RULE_FINITE)
        .then(not_finite)
        .when(rule == RULE_POSITIVE)
        .then(not_positive)
        .when(rule == RULE_ORDER)
        .then(out_of_order)
        .when(rule == RULE_VOLUME)
        .then(pl.format("volume is {}", pl.col("volume")))
        .otherwise(pl.format("amount is {}", pl.col("amount")))
        .alias("detail")
    )


def _describe_repeats(repeated: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """Say whether each repeated bar equals the one that was kept."""
    joined = repeated.join(
        kept.select("symbol", "timestamp", *FEATURES).join(
            repeated, on=["symbol", "timestamp"], how="semi"
        ),
        on=["symbol", "timestamp"],
        how="left",
        suffix="_kept",
        maintain_order="left",
    )
    differs = pl.concat_str(
        [
            pl.when(pl.col(name).ne_missing(pl.col(f"{name}_kept"))).then(
                pl.format(
                    f"{name} {{}} against {{}} in the bar kept",
                    pl.col(name).cast(pl.String).fill_null("missing"),
                    pl.col(f"{name}_kept").cast(pl.String).fill_null("missing"),
                )
            )
            for name in FEATURES
        ],
        separator=", ",
        ignore_nulls=True,
    )
    return joined.with_columns(
        pl.lit(RULE_UNIQUE).alias("rule"),
        pl.when(differs == "").then(pl.lit("equal to the bar kept")).otherwise(differs)
        .alias("detail"),
    ).select(*repeated.columns, "rule", "detail")  # fmt: skip


def _fill(kept: pl.DataFrame) -> pl.DataFrame:
    """Store a number for every missing volume and amount, and a flag that says so."""
    volume = pl.col("volume").fill_null(0.0)
    flags = (
        pl.when(pl.col("volume").is_null()).then(int(Flag.VOLUME_MISSING)).otherwise(0)
        + pl.when(pl.col("amount").is_null()).then(int(Flag.AMOUNT_MISSING)).otherwise(0)
    ).cast(pl.Int32)
    mean_price = (pl.col("open") + pl.col("high") + pl.col("low") + pl.col("close")) / 4
    return kept.with_columns(
        flags.alias("flags"), volume, pl.col("amount").fill_null(volume * mean_price)
    ).select("symbol", "timestamp", *FEATURES, "flags", "source", "row")
