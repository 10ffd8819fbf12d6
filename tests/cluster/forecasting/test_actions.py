"""Corporate actions and suspected splits on their way from the lake to a replica."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import candlecast as cc
from cluster.forecasting.identity import bars_digest, bars_read
from cluster.forecasting.shards import Shard, ShardSymbol
from cluster.forecasting.stream import jobs_of_block, read_shard
from market import ImportOptions, MarketHistory, eligibility, import_files, window_at
from market.actions.table import ACTION_SCHEMA
from market.flags import Flag
from market.windows import adjusted_view

CASE = Path(__file__).resolve().parents[2] / "field" / "data" / "raw_split" / "AAAA.csv"
EX = date(2024, 2, 7)
SPLIT = pl.DataFrame(
    [{"symbol": "AAAA", "ex_date": EX, "split": 4.0, "dividend": 0.0, "announced": None}],
    schema=ACTION_SCHEMA,
)


@pytest.fixture
def history(tmp_path: Path) -> MarketHistory:
    import_files([CASE], tmp_path / "store", ImportOptions(venue="XNYS", price_basis="raw"))
    return MarketHistory.open(tmp_path / "store")


@pytest.mark.parametrize("recorded", [False, True])
def test_a_replica_gets_what_the_plan_saw(history: MarketHistory, recorded: bool) -> None:
    if recorded:
        history = MarketHistory.open(history.root, version=history.record_actions(SPLIT))
    as_of = history.resolve_as_of("2024-02-20")
    member = ShardSymbol("AAAA", (as_of,))
    shard = Shard("key", (member,), history.sessions()[0], as_of)
    (job,) = jobs_of_block(read_shard(history, shard))
    (planned,) = history.series(as_of=as_of.close_utc)
    window = window_at(planned, as_of, 30)
    got = adjusted_view(job.series, window_at(job.series, as_of, 30))
    assert got.tobytes() == adjusted_view(planned, window).tobytes()
    assert job.series.flags_N.tolist() == planned.flags_N.tolist()
    suspected = (job.series.flags_N & int(Flag.SUSPECTED_SPLIT) != 0).any()
    assert suspected != recorded
    closes = got[:, 3]
    fall = float(np.min(closes[1:] / closes[:-1]))
    assert (fall > 0.9) == recorded


@pytest.mark.parametrize("announced", [date(2024, 2, 21), date(2024, 2, 27)])
def test_an_action_announced_after_as_of_changes_nothing_at_it(
    history: MarketHistory, announced: date
) -> None:
    """Neither who is forecast, nor from what, nor the id of the run."""
    as_of = history.resolve_as_of("2024-02-20")
    late = MarketHistory.open(
        history.root,
        version=history.record_actions(SPLIT.with_columns(announced=pl.lit(announced))),
    )
    sessions = np.array(history.sessions(), "datetime64[D]")
    found = []
    for each in (history, late):
        (series,) = each.series()
        window = window_at(series, as_of, 30)
        reason = eligibility(series, as_of, 30, sessions=sessions, allow_suspected_splits=False)
        digest = bars_digest(series, bars_read(series, [as_of], 30), [as_of], 30)
        flags = series.flags_N[window.first : window.last].tolist()
        found.append((reason, adjusted_view(series, window).tobytes(), digest, flags))
    assert found[0] == found[1]
    assert found[0][0] is not None
    assert found[0][0].startswith("suspected split")
    known = late.resolve_as_of(announced)
    (series,) = late.series()
    assert eligibility(series, known, 20, sessions=sessions, allow_suspected_splits=False) is None


def test_a_frame_with_an_unexplained_split_is_not_forecast() -> None:
    bars = pl.read_csv(CASE, try_parse_dates=True).with_columns(symbol=pl.lit("AAAA"))
    told = {"venue": "XNYS", "as_of": "2024-02-20", "lookback": 30, "paths": 4, "horizon": 2,
            "model": "random-walk"}  # fmt: skip
    with pytest.raises(cc.CandlecastError, match=r"suspected split: close 491\.72 to 121\.805"):
        cc.forecast(bars, **told)
    made = cc.forecast(bars, **told, allow_suspected_splits=True)
    assert made.to_frame().height == 2
