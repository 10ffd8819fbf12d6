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
RULE_SESSION = "one bar per session"
RULE_ROW = "as many fields as the header"
RULE_GRID = "on the time grid"
RULES = (
    RULE_ROW,
    RULE_TIME,
    RULE_GRID,
    RULE_SYMBOL,
    RULE_FINITE,
    RULE_POSITIVE,
    RULE_ORDER,
    RULE_VOLUME,
    RULE_AMOUNT,
    RULE_UNIQUE,
    RULE_SESSION,
)
"""In the order they are checked: a row is filed under the first one it breaks."""

ROUNDING = 1e-6
"""High and low may miss open and close by this fraction: prices adjusted and rounded one by one.
They are widened to fit, and flagged."""
LARGEST = 1e30
"""A price, volume or amount from here on is a slip: single precision could not even square it."""
PLACED = ("session", "close_utc")
FAULTS = ("fault_rule", "fault")
"""Columns of rows whose place in time was looked at before: what is wrong with it, or null."""


@dataclass(frozen=True)
class CheckedBars:
    """The two halves of a batch of rows."""

    good: pl.DataFrame
    """symbol, timestamp, the six values (filled), flags, source, row, and session and close_utc
    where the rows had them; sorted by symbol and time."""
    quarantine: pl.DataFrame
    """QUARANTINE_SCHEMA, in source order."""


def check_bars(frame: pl.DataFrame, key: str = "timestamp") -> CheckedBars:
    """Split rows into bars that keep every rule and rows that do not.

    frame: symbol, timestamp and the four prices; volume and amount where the source has them
    (null = missing: volume becomes 0, amount volume × mean(open, high, low, close), both flagged);
    source and row (1-based) tell where a row came from; `time_text`, where present, is the label as
    read, for rows whose timestamp is null; FAULTS, where present, say what is wrong with a row's
    place in time.
    key: what makes two bars of a symbol the same: timestamp, session (daily bars) or close_utc
    (an hour that clocks show twice). Of several rows with one symbol and key, the first that keeps
    the other rules stays.
    Raises SourceError where a required column is absent.
    """
    missing = [name for name in ("symbol", "timestamp", *PRICES) if name not in frame.columns]
    if missing:
        raise SourceError(f"bars need the columns {', '.join(missing)}; found {frame.columns}")
    rows = _complete(frame)
    conditions = _broken_rules()
    bad = rows.select(pl.any_horizontal(conditions.values())).to_series()
    refused = []
    if bad.any():
        first = [pl.when(condition).then(pl.lit(rule)) for rule, condition in conditions.items()]
        broken = rows.filter(bad).with_columns(pl.coalesce(first).alias("rule"))
        refused.append(_with_detail(broken))
        rows = rows.filter(~bad)
    if not in_order(rows, key):
        rows = rows.sort("symbol", key, maintain_order=True)
    repeats = rows.select(
        pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in ("symbol", key))
        .fill_null(False)
    ).to_series()  # fmt: skip
    if repeats.any():
        repeated = rows.filter(repeats)
        rows = rows.filter(~repeats)
        refused.append(_describe_repeats(repeated, rows, key))
    quarantine = pl.DataFrame(schema=QUARANTINE_SCHEMA)
    if refused:
        quarantine = pl.concat(refused, how="diagonal").sort("source", "row", maintain_order=True)
        quarantine = quarantine.select(
            pl.col(name).cast(dtype) for name, dtype in QUARANTINE_SCHEMA.items()
        )
    return CheckedBars(_fill(rows), quarantine)


def in_order(rows: pl.DataFrame, key: str) -> bool:
    """Whether rows lie by symbol and, within one, by key."""
    same = pl.col("symbol") == pl.col("symbol").shift()
    later = pl.col("symbol") > pl.col("symbol").shift()
    fits = later | (same & (pl.col(key) >= pl.col(key).shift()))
    return bool(rows.select(fits.fill_null(True).all()).item())


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
        for name, default in (("source", ""), ("time_text", None), *((f, None) for f in FAULTS))
    }
    placed = [pl.col(name) for name in PLACED if name in present]
    return frame.select(
        text["source"],
        pl.col("row").cast(pl.Int64),
        pl.col("symbol").cast(pl.String),
        pl.col("timestamp").cast(pl.Datetime("us")),
        *(text[name] for name in ("time_text", *FAULTS)),
        *placed,
        *values,
    )


def _broken_rules() -> dict[str, pl.Expr]:
    """What breaks each rule, never null, in the order the rules are checked."""
    prices = [pl.col(name) for name in PRICES]
    open_, high, low, close = prices
    optional = [pl.col("volume"), pl.col("amount")]
    not_finite = pl.any_horizontal(
        *(p.is_null() | ~p.is_finite() for p in prices),
        *((v.is_not_null() & ~v.is_finite()) for v in optional),
        *((p.abs() >= LARGEST).fill_null(False) for p in (*prices, *optional)),
        (_estimated_amount() >= LARGEST).fill_null(False),
    )
    slack = pl.max_horizontal(open_, close) * ROUNDING
    out_of_order = (low > pl.min_horizontal(open_, close) + slack) | (
        high < pl.max_horizontal(open_, close) - slack
    )
    fault = pl.col("fault_rule")
    broken = {
        RULE_ROW: fault == RULE_ROW,
        RULE_TIME: pl.col("timestamp").is_null() | (fault == RULE_TIME),
        RULE_GRID: fault == RULE_GRID,
        RULE_SYMBOL: pl.col("symbol").is_null() | (pl.col("symbol").str.strip_chars() == ""),
        RULE_FINITE: not_finite.fill_null(True),
        RULE_POSITIVE: pl.any_horizontal(*(p <= 0 for p in prices)),
        RULE_ORDER: out_of_order | (high < low - slack),
        RULE_VOLUME: pl.col("volume") < 0,
        RULE_AMOUNT: pl.col("amount") < 0,
    }
    return {rule: condition.fill_null(False) for rule, condition in broken.items()}


def _estimated_amount() -> pl.Expr:
    """Traded amount of a bar that has none: volume × mean(open, high, low, close)."""
    return pl.col("volume") * (
        (pl.col("open") + pl.col("high") + pl.col("low") + pl.col("close")) / 4
    )


def _words(pattern: str, *columns: pl.Expr) -> pl.Expr:
    """The pattern with columns in the place of {}; null where one of them is.

    Unlike pl.format, which in polars 2.1 panics on some columns of floats that hold NaN.
    """
    texts = pattern.split("{}")
    pieces: list[pl.Expr] = [pl.lit(texts[0])]
    for column, text in zip(columns, texts[1:], strict=True):
        pieces += [column.cast(pl.String), pl.lit(text)]
    return pl.concat_str(pieces)


def _with_detail(broken: pl.DataFrame) -> pl.DataFrame:
    """Rows with `detail`, one readable reason each, from the rule they broke."""
    not_finite = pl.concat_str(
        [
            pl.when(pl.col(name).is_null())
            .then(pl.lit(f"{name} is missing" if name in PRICES else None, dtype=pl.String))
            .when(~pl.col(name).is_finite() | (pl.col(name).abs() >= LARGEST))
            .then(_words(f"{name} is {{}}", pl.col(name)))
            for name in FEATURES
        ],
        separator=", ",
        ignore_nulls=True,
    )
    not_positive = pl.concat_str(
        [
            pl.when(pl.col(name) <= 0).then(_words(f"{name} is {{}}", pl.col(name)))
            for name in PRICES
        ],
        separator=", ",
        ignore_nulls=True,
    )
    inner = [pl.col("open"), pl.col("close")]
    out_of_order = pl.concat_str(
        [
            pl.when(pl.col("high") < pl.col("low")).then(
                _words("high {} < low {}", pl.col("high"), pl.col("low"))
            ),
            pl.when(pl.col("low") > pl.min_horizontal(inner)).then(
                _words("low {} > min(open, close) {}", pl.col("low"), pl.min_horizontal(inner))
            ),
            pl.when(pl.col("high") < pl.max_horizontal(inner)).then(
                _words("high {} < max(open, close) {}", pl.col("high"), pl.max_horizontal(inner))
            ),
        ],
        separator=", ",
        ignore_nulls=True,
    )
    reasons = broken.with_columns(
        not_finite=not_finite,
        not_positive=not_positive,
        out_of_order=out_of_order,
        no_time=_words("'{}' is not a time", pl.col("time_text").fill_null("")),
        too_large=_words("volume {} × price is too large", pl.col("volume")),
        no_volume=_words("volume is {}", pl.col("volume")),
        no_amount=_words("amount is {}", pl.col("amount")),
    )
    reasons = reasons.with_columns(empty=pl.col("not_finite").str.len_bytes() == 0)
    rule = pl.col("rule")
    detail = (
        pl.when(pl.col("fault").is_not_null() & rule.is_in((RULE_ROW, RULE_TIME, RULE_GRID)))
        .then("fault")
        .when(rule == RULE_TIME)
        .then("no_time")
        .when(rule == RULE_SYMBOL)
        .then(pl.lit("the row names no symbol"))
        .when((rule == RULE_FINITE) & pl.col("empty"))
        .then("too_large")
        .when(rule == RULE_FINITE)
        .then("not_finite")
        .when(rule == RULE_POSITIVE)
        .then("not_positive")
        .when(rule == RULE_ORDER)
        .then("out_of_order")
        .when(rule == RULE_VOLUME)
        .then("no_volume")
        .otherwise("no_amount")
        .alias("detail")
    )
    return reasons.select(*broken.columns, detail)


def _describe_repeats(repeated: pl.DataFrame, kept: pl.DataFrame, key: str) -> pl.DataFrame:
    """Say whether each repeated bar equals the one that was kept."""
    joined = repeated.join(
        kept.select("symbol", key, pl.col("timestamp").alias("timestamp_kept"), *FEATURES).join(
            repeated, on=["symbol", key], how="semi"
        ),
        on=["symbol", key],
        how="left",
        suffix="_kept",
        maintain_order="left",
    )
    differs = pl.concat_str(
        [
            pl.when(pl.col(name).ne_missing(pl.col(f"{name}_kept"))).then(
                _words(
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
        pl.when(pl.col("timestamp") == pl.col("timestamp_kept"))
        .then(pl.lit(RULE_UNIQUE))
        .otherwise(pl.lit(RULE_SESSION if key == "session" else RULE_UNIQUE))
        .alias("rule"),
        pl.when(differs == "").then(pl.lit("equal to the bar kept")).otherwise(differs)
        .alias("detail"),
    ).select(*repeated.columns, "rule", "detail")  # fmt: skip


def _fill(kept: pl.DataFrame) -> pl.DataFrame:
    """Store a number for every missing volume and amount, and a flag that says so."""
    inner = [pl.col("open"), pl.col("close")]
    low = pl.min_horizontal("low", *inner)
    high = pl.max_horizontal("high", *inner)
    rounded = (pl.col("low") != low) | (pl.col("high") != high)
    flags = (
        pl.when(pl.col("volume").is_null()).then(int(Flag.VOLUME_MISSING)).otherwise(0)
        + pl.when(pl.col("amount").is_null()).then(int(Flag.AMOUNT_MISSING)).otherwise(0)
        + pl.when(rounded).then(int(Flag.ROUNDED)).otherwise(0)
    ).cast(pl.Int32)
    placed = [name for name in PLACED if name in kept.columns]
    return (
        kept.with_columns(
            flags.alias("flags"),
            low.alias("low"),
            high.alias("high"),
            pl.col("volume").fill_null(0.0),
        )
        .with_columns(pl.col("amount").fill_null(_estimated_amount()))
        .select("symbol", "timestamp", *placed, *FEATURES, "flags", "source", "row")
    )
