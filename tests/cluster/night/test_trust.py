"""What the night's page says of earlier nights, and when it warns."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from cluster.night.page import night_page
from cluster.night.report import NightReport
from cluster.night.settings import NightlySettings
from cluster.night.trust import StepTrust, Trust, drift_alarm
from market.lake.quality import Quality
from market.spec import AsOf


def step(coverage: float, t: float, at: int = 5) -> StepTrust:
    return StepTrust(step=at, nights=40, coverage=coverage, coverage_t=t, crps_ratio=1.031)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([step(0.78, -0.9), step(0.83, 1.4)], None),
        ([step(0.5, float("nan"))], None),
        ([step(0.78, -0.9), step(0.55, -6.1, at=20)], "too narrow: at bar 20 the 80% interval"),
        ([step(0.97, 4.0)], "too wide: at bar 5 the 80% interval held 97% over 40 nights"),
    ],
)
def test_an_alarm_is_raised_where_coverage_is_far_off(
    steps: list[StepTrust], told: str | None
) -> None:
    alarm = drift_alarm(steps)
    assert (alarm is None) == (told is None)
    assert told is None or told in str(alarm)


def test_the_page_shows_figures_and_the_alarm(tmp_path: Path) -> None:
    narrow = step(0.55, -6.1)
    night = NightReport(
        status="done",
        started_at=datetime(2016, 6, 30, 22, tzinfo=UTC),
        seconds=1.0,
        quality=Quality(
            as_of=AsOf(date(2016, 6, 30), datetime(2016, 6, 30, 20, tzinfo=UTC)), present=5,
            expected=5, missing=(), rows=5, quarantined=0,
            now=datetime(2016, 6, 30, 22, tzinfo=UTC),
        ),
        trust=Trust(40, (narrow,), drift_alarm([narrow])),
    )  # fmt: skip
    settings = NightlySettings(drop=tmp_path, store=tmp_path, out=tmp_path, reports=tmp_path)
    page = night_page(settings, night)
    assert "<b>DRIFT.</b> intervals have become too narrow" in page
    table = page.split("How earlier nights did")[1].split("</table>")[0]
    for figure in ("55.00%", "-6.1", "1.031"):
        assert figure in table
    assert night.summary()["drift_alarm"] == night.trust.alarm  # type: ignore[union-attr]
