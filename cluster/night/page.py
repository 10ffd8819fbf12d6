"""The page a night leaves behind: one self-contained HTML file. Draws; computes no forecast."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from backtest.report.page import template
from cluster.forecasting.reasons import kinds
from cluster.night.report import NightReport
from cluster.night.settings import NightlySettings
from market.flags import Flag
from market.table.forecasts import ForecastTable
from market.table.schema import RunRecord

HERE = Path(__file__).parent
_SHOWN = 10
_BINS = 20


class _Bar(NamedTuple):
    """One symbol's outlook: returns to the last step, as fractions."""

    symbol: str
    last_close: float
    low: float
    median: float
    high: float
    p_up: float


def night_page(settings: NightlySettings, night: NightReport) -> str:
    """The night as HTML: what came in, what was forecast, what was left out, how long it took."""
    record = night.forecast.record if night.forecast else None
    outlook = _outlook(settings, record) if record else []
    reach = max((abs(v) for bar in outlook for v in (bar.low, bar.high)), default=1.0)
    shown = outlook if len(outlook) <= 2 * _SHOWN else [*outlook[:_SHOWN], *outlook[-_SHOWN:]]
    return template("page.html.j2", HERE).render(
        night=night,
        summary=night.summary(),
        quality=night.quality,
        gate=settings.gate,
        record=record,
        excluded=_reasons(record),
        outlook=shown,
        n_outlook=len(outlook),
        position=lambda value: 50 + 50 * value / reach,
        reach=reach,
        histogram=_histogram([bar.p_up for bar in outlook]),
        horizon=record.settings["horizon"] if record else 0,
        paths=record.settings["paths"] if record else 0,
        in_sample=bool(record and any(each.in_sample for each in record.dates)),
        suspected=_suspected(settings, record),
    )


def _outlook(settings: NightlySettings, record: RunRecord) -> list[_Bar]:
    """Every symbol's last step, the largest median return first."""
    night = max(record.dates, key=lambda each: each.as_of)
    if "steps" not in night.versions:
        return []
    rows = (
        ForecastTable(settings.out, night.versions)
        .scan(record.model_id, record.run_id)
        .filter(pl.col("as_of") == night.as_of)
        .filter(pl.col("step") == pl.col("step").max())
        .select(
            "symbol",
            "last_close",
            *(
                (pl.col(f"close_{q}") / pl.col("last_close") - 1).alias(q)
                for q in ("q10", "q50", "q90")
            ),
            "p_up",
        )
        .sort(["q50", "symbol"], descending=[True, False])
        .collect()
    )
    return [_Bar(*row) for row in rows.iter_rows()]


def _suspected(settings: NightlySettings, record: RunRecord | None) -> str | None:
    """How many symbols moved as if by a split that no action explains, in words."""
    if record is None:
        return None
    night = max(record.dates, key=lambda each: each.as_of)
    left = sum(each.count for each in kinds(record.skipped) if each.words == "suspected split")
    taken: list[str] = []
    if "steps" in night.versions:
        flagged = pl.col("flags") & int(Flag.SUSPECTED_SPLIT) != 0
        rows = ForecastTable(settings.out, night.versions).scan(record.model_id, record.run_id)
        rows = rows.filter((pl.col("as_of") == night.as_of) & flagged)
        taken = rows.select("symbol").unique().sort("symbol").collect()["symbol"].to_list()
    if not left and not taken:
        return None
    said = [f"{left} left out for it" if left else ""]
    if taken:
        more = f" and {len(taken) - 5} more" if len(taken) > 5 else ""
        said.append(f"forecast all the same: {', '.join(taken[:5])}{more}")
    return ", ".join(each for each in said if each)


def _reasons(record: RunRecord | None) -> list[tuple[str, int, str]]:
    """Kinds of reason with how many symbols, and an example."""
    if record is None:
        return []
    found = [(each.words, each.count, each.example) for each in kinds(record.skipped)]
    found += [(f"failed: {each.words}", each.count, each.example) for each in kinds(record.failed)]
    return sorted(found, key=lambda row: -row[1])


def _histogram(values: list[float]) -> list[dict[str, Any]]:
    """Bars of the share of symbols per probability, heights relative to the largest."""
    counts = Counter(min(int(value * _BINS), _BINS - 1) for value in values)
    most = max(counts.values(), default=1)
    return [
        {"x": i * 100 / _BINS, "height": 100 * counts[i] / most, "count": counts[i]}
        for i in range(_BINS)
    ]
