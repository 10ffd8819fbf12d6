"""Round trips: from an empty position to an empty one. Knows orders; no prices and no scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

_NOTHING = 1e-9
"""Share of a trip's largest position below which it counts as closed."""

ROUND_TRIP_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "side": pl.String(),
        "opened": pl.Datetime("us"),
        "closed": pl.Datetime("us"),
        "size": pl.Float64(),
        "entry": pl.Float64(),
        "exit": pl.Float64(),
        "fee": pl.Float64(),
        "pnl": pl.Float64(),
        "return": pl.Float64(),
        "orders": pl.Int64(),
    }
)


@dataclass
class _Trip:
    """A position from its first share on."""

    symbol: str
    sign: float
    """1 long, -1 short."""
    opened: datetime
    position: float = 0.0
    bought: float = 0.0
    """Shares that opened or raised the position."""
    paid: float = 0.0
    """Their value."""
    sold: float = 0.0
    received: float = 0.0
    fee: float = 0.0
    orders: int = 0

    def row(self, closed: datetime | None, mark: float) -> tuple[object, ...]:
        received = self.received + self.position * mark
        pnl = self.sign * (received - self.paid) - self.fee
        return (
            self.symbol,
            "long" if self.sign > 0 else "short",
            self.opened,
            closed,
            self.bought,
            self.paid / self.bought,
            received / self.bought,
            self.fee,
            pnl,
            pnl / self.paid,
            self.orders,
        )


def round_trips(orders: pl.DataFrame, marks: Mapping[str, float]) -> pl.DataFrame:
    """One row per trip, in the order in which they were opened.

    orders: as a Simulation holds them, in execution order. marks: last price of each symbol still
    held, at which open trips are valued; their `closed` is null.

    size: shares that opened or raised the position. entry, exit: mean prices of its two sides.
    fee: commission of all its orders. pnl: net of it, in the currency of the prices. return: pnl
    over the value of the opening side. An order that turns a position around ends one trip and
    opens another; its fee is split by shares. Splits and dividends between orders are not seen.
    """
    rows: list[tuple[object, ...]] = []
    trips: dict[str, _Trip] = {}
    columns = orders.select("symbol", "timestamp", "side", "size", "price", "fee")
    for symbol, when, side, size, price, fee in columns.iter_rows():
        change, left = (size if side == "buy" else -size), size
        while left > 0:
            trip = trips.get(symbol)
            if trip is None:
                trip = trips[symbol] = _Trip(symbol, 1.0 if change > 0 else -1.0, when)
            raises = (change > 0) == (trip.sign > 0)
            part = left if raises else min(left, trip.position)
            trip.fee += fee * part / size
            trip.orders += 1
            if raises:
                trip.position += part
                trip.bought += part
                trip.paid += part * price
            else:
                trip.position -= part
                trip.sold += part
                trip.received += part * price
            left -= part
            if trip.position <= _NOTHING * trip.bought:
                rows.append(trip.row(when, price))
                del trips[symbol]
                if left <= _NOTHING * size:
                    break
    rows += [trip.row(None, marks[symbol]) for symbol, trip in trips.items()]
    return pl.DataFrame(rows, schema=ROUND_TRIP_SCHEMA, orient="row").sort(
        "opened", "symbol", maintain_order=True
    )
