"""Moves that look like a split nobody told of. Knows bars of one symbol after the other.

Each suspicion rests on two neighbouring bars alone: later bars change nothing about it.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from market.actions.factors import SymbolActions
from market.flags import Flag
from market.spec import ALWAYS_OPEN, StoreSpec
from market.storage import writing

SIZE = 0.3
"""Smallest move from one session to the next, as a fraction, that is looked at."""
CLOSENESS = 0.05
"""How near a move must come to a ratio, in log price: a share also trades on the day it splits."""
_WEEKENDS = 0.2
"""From this share of sessions on Saturdays and Sundays a market never closes."""
_RATIOS = np.array(
    [*(3 / 2, 8 / 5, 5 / 3, 7 / 4, 2, 5 / 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)]
)
"""New shares per old one."""
_REVERSE = 1 / np.array([2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100, 150, 200, 250])


class Suspect(NamedTuple):
    """A move that looks like a split."""

    symbol: str
    session: date
    ratio: float
    """New shares per old share it looks like; below 1 for a consolidation."""
    before: float
    """Close before."""
    after: float
    """Close of the session."""
    volume_ratio: float
    """Volume against the bar before; NaN without one."""

    def __str__(self) -> str:
        new, old = as_ratio(self.ratio)
        volume = ""
        if np.isfinite(self.volume_ratio):
            volume = f" at {self.volume_ratio:.1f}x volume"
        verb = "falls" if self.after < self.before else "rises"
        move = abs(self.after / self.before - 1)
        return (
            f"{self.symbol} {verb} {move:.0%} on {self.session}{volume}, looks like a "
            f"{new}:{old} split"
        )


def as_ratio(split: float) -> tuple[int, int]:
    """A split in whole numbers: 1.5 as (3, 2), 0.1 as (1, 10)."""
    from fractions import Fraction

    found = Fraction(split).limit_denominator(250)
    return found.numerator, found.denominator


def split_ratios(
    open_N: npt.NDArray[np.float64],
    close_N: npt.NDArray[np.float64],
    session_N: npt.NDArray[np.datetime64],
) -> npt.NDArray[np.float64]:
    """Per bar, the split that the step from the bar before looks like; 1 where it looks like none.

    open_N, close_N: raw prices of one symbol, oldest first. Only steps between sessions count, and
    only those where both the open and the close lie near the ratio, and the step is at least SIZE.
    """
    found_N = np.ones(len(close_N))
    if len(close_N) < 2:
        return found_N
    overnight = np.log(close_N[:-1] / open_N[1:])
    to_close = np.log(close_N[:-1] / close_N[1:])
    least = np.log(1 / (1 - SIZE))
    rows = np.flatnonzero(
        (np.abs(overnight) >= least) & (session_N[1:] != session_N[:-1])
        & (np.abs(overnight - to_close) <= 4 * CLOSENESS)
    )  # fmt: skip
    candidates = np.log(np.concatenate([_RATIOS, _REVERSE]))
    for row in rows:
        distance = np.abs(overnight[row] - candidates)
        best = int(distance.argmin())
        if distance[best] <= CLOSENESS:
            found_N[row + 1] = np.exp(candidates[best])
    return found_N


def mark_suspects(
    flags_N: npt.NDArray[np.int32],
    values_NF: npt.NDArray[np.float64],
    session_N: npt.NDArray[np.datetime64],
    actions: SymbolActions | None,
    spec: StoreSpec,
) -> npt.NDArray[np.int32]:
    """Flags of one symbol's bars with SUSPECTED_SPLIT on every bar that begins such a move.

    values_NF: bars, oldest first. Moves on an ex-date are explained, where the action was known by
    then: one announced later changes no earlier flag.
    """
    if spec.venue == ALWAYS_OPEN or spec.price_basis == "adjusted":
        return flags_N
    suspect_N = split_ratios(values_NF[:, 0], values_NF[:, 3], session_N) != 1.0
    if actions is not None and suspect_N.any():
        told_A = actions.ex_A[actions.known_A <= actions.ex_A]
        suspect_N &= ~np.isin(session_N.astype("datetime64[D]"), told_A)
    if not suspect_N.any():
        return flags_N
    return np.where(suspect_N, flags_N | np.int32(Flag.SUSPECTED_SPLIT), flags_N).astype(np.int32)


def find_suspects(bars: pl.DataFrame, actions: pl.DataFrame) -> list[Suspect]:
    """Moves of these bars that look like splits and that no action explains, in time order.

    bars: symbol, session, open, close, volume and a time order within each symbol (close_utc).
    actions: ACTION_SCHEMA. Markets that trade on most weekends know no splits: none there.
    """
    if not bars.height or (bars["session"].unique().dt.weekday() >= 6).mean() > _WEEKENDS:  # type: ignore[operator]
        return []
    ordered = bars.select("symbol", "session", "close_utc", "open", "close", "volume")
    before = [pl.col(name).shift().alias(f"{name}_before")
              for name in ("symbol", "session", "close", "volume")]  # fmt: skip
    move = (pl.col("open") / pl.col("close_before")).log().abs()
    same = pl.col("symbol") == pl.col("symbol").shift()
    later = (pl.col("symbol") > pl.col("symbol").shift()) | (
        same & (pl.col("close_utc") > pl.col("close_utc").shift())
    )
    if not ordered.select(later.fill_null(True).all()).item():
        ordered = ordered.sort("symbol", "close_utc")
    jumps = (
        ordered.with_columns(before)
        .filter(
            (pl.col("symbol") == pl.col("symbol_before"))
            & (pl.col("session") != pl.col("session_before"))
            & (move >= float(np.log(1 / (1 - SIZE))))
        )
        .join(
            actions.select("symbol", pl.col("ex_date").alias("session")),
            on=["symbol", "session"], how="anti",
        )
    )  # fmt: skip
    suspects = []
    for row in jumps.sort("session", "symbol").iter_rows(named=True):
        ratio = split_ratios(
            np.array([row["close_before"], row["open"]]),
            np.array([row["close_before"], row["close"]]),
            np.array([row["session_before"], row["session"]], "datetime64[D]"),
        )[1]
        if ratio != 1.0:
            volume = row["volume"] / row["volume_before"] if row["volume_before"] else np.nan
            suspects.append(
                Suspect(row["symbol"], row["session"], float(ratio), row["close_before"],
                        row["close"], float(volume))
            )  # fmt: skip
    return suspects


def write_suspects(suspects: list[Suspect], path: Path) -> None:
    """The suspects as a CSV file that read_actions reads: symbol, ex_date, split as 2:1, and what
    shows it. Raises StoreError where it cannot be written."""
    with writing(path):
        pl.DataFrame(
            {
                "symbol": [each.symbol for each in suspects],
                "ex_date": [each.session for each in suspects],
                "split": ["{}:{}".format(*as_ratio(each.ratio)) for each in suspects],
                "close_before": [each.before for each in suspects],
                "close": [each.after for each in suspects],
            },
            schema={"symbol": pl.String, "ex_date": pl.Date, "split": pl.String,
                    "close_before": pl.Float64, "close": pl.Float64},
        ).write_csv(path)  # fmt: skip


def describe(suspects: list[Suspect], limit: int = 5) -> str | None:
    """One line for a report; None without suspects."""
    if not suspects:
        return None
    shown = "; ".join(str(each) for each in suspects[-limit:])
    more = f" and {len(suspects) - limit} more" if len(suspects) > limit else ""
    noun = "move looks like a split" if len(suspects) == 1 else "moves look like splits"
    return (
        f"{len(suspects):,} {noun} that no corporate action explains: {shown}{more}. Record "
        "them with 'candlecast data actions' (its --suspects writes them to a file to check), or "
        "import adjusted prices"
    )
