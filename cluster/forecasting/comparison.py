"""Two runs side by side: what was asked differently, and how their forecasts differ.

Knows the forecast table; prints nothing. Rows that another run replaced are read from the table
version that still shows them.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from market.errors import StoreError
from market.table.forecasts import ForecastTable
from market.table.schema import RunRecord

_INDEX = ["as_of", "symbol", "step"]


def find_run(forecasts: ForecastTable, run: str) -> RunRecord:
    """The run whose id begins so. Raises StoreError where none or several do."""
    found = [record for record in forecasts.runs() if record.run_id.startswith(run)]
    if len(found) != 1:
        known = ", ".join(record.run_id for record in (found or forecasts.runs())[:5]) or "none"
        what = "several runs begin so" if found else "no such run"
        raise StoreError(
            f"{forecasts.folder}: {run}: {what}; 'candlecast runs ls' shows them ({known})"
        )
    return found[0]


def compare_runs(forecasts: ForecastTable, one: RunRecord, other: RunRecord) -> dict[str, Any]:
    """What differs: `identity` by key with both values, and how rows in both differ."""
    asked = {}
    for key in sorted({*one.identity, *other.identity}):
        values = [str(record.identity.get(key, "")) for record in (one, other)]
        if values[0] != values[1]:
            asked[key] = values
    columns = [*_INDEX, "close_q50", "p_up"]
    a, b = (forecasts.rows_of(record).select(columns) for record in (one, other))
    both = a.join(b, on=_INDEX, how="inner", suffix="_other")
    found: dict[str, Any] = {
        "runs": [one.run_id, other.run_id],
        "identity": asked,
        "rows_in_both": both.height,
        "rows_only_in_first": a.height - both.height,
        "rows_only_in_second": b.height - both.height,
    }
    if both.height:
        change = both.select(
            (pl.col("close_q50_other") / pl.col("close_q50") - 1).abs().alias("median"),
            (pl.col("p_up_other") - pl.col("p_up")).abs().alias("p_up"),
        )
        median, p_up = (change[name].to_numpy() for name in ("median", "p_up"))
        equal = both.filter(pl.col("close_q50") == pl.col("close_q50_other")).height
        found |= {
            "median_close_differs_at_most": float(median.max()),
            "median_close_differs_on_average": float(median.mean()),
            "p_up_differs_at_most": float(p_up.max()),
            "equal_medians": equal,
        }
    return found
