"""The real server in a real browser: what a user does in a morning."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from cluster.console.access import Access
from cluster.console.settings import ServeSettings
from market.table.forecasts import ForecastTable
from tests.cluster.console.conftest import serving
from tests.cluster.console.made_up import HOSTILE, TOKEN, many_rows, publish
from tests.driver import Browser

ROWS = "document.querySelectorAll('table.universe tbody tr').length"
FIRST = "document.querySelector('table.universe tbody th').innerText"


@pytest.fixture(scope="module")
def large(
    place: Path, tmp_path_factory: pytest.TempPathFactory, settings: ServeSettings
) -> Iterator[str]:
    """A console over ten thousand symbols."""
    table = tmp_path_factory.mktemp("large")
    publish(ForecastTable(table), many_rows(10_000, date(2014, 6, 17)), "made-up")
    with serving(settings.model_copy(update={"forecasts": table})) as address:
        yield address


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


def log_in(window: Browser, address: str) -> None:
    window.go(f"{address}/login#{TOKEN}")
    window.until("location.pathname === '/' && document.readyState === 'complete'")
    assert TOKEN not in window.run("location.href")
    window.complaints.clear()


def test_the_token_opens_the_door_and_others_do_not(window: Browser, served: str) -> None:
    window.call("Network.clearBrowserCookies")
    window.go(f"{served}/universe")
    assert window.run("location.pathname + location.search") == "/login?next=%2Funiverse"
    window.type("input[name=token]", "wrong")
    window.click("button")
    window.until("document.body.innerText.includes('That token is wrong')")
    window.type("input[name=token]", TOKEN)
    window.click("button")
    window.until("location.pathname === '/universe'")
    assert window.run("document.cookie") == "", "no script can read the session"


def test_a_token_whose_time_is_over(window: Browser, settings: ServeSettings) -> None:
    with serving(settings, Access(1e-9, 1, TOKEN)) as address:
        window.go(f"{address}/login")
        window.type("input[name=token]", TOKEN)
        window.click("button")
        window.until("document.body.innerText.includes('its time is over')")


def test_ten_thousand_symbols_are_sorted_and_searched(window: Browser, large: str) -> None:
    log_in(window, large)
    window.go(f"{large}/universe")
    assert window.run(ROWS) == 100
    window.click("thead a[href*='sort=p_up']")
    window.until("document.querySelector('[aria-sort=descending]')?.innerText.startsWith('P(up)')")
    shown = "[...document.querySelectorAll('table.universe tbody td:nth-child(7)')].map(e => parseFloat(e.innerText))"  # noqa: E501
    values = window.run(shown)
    assert values == sorted(values, reverse=True)
    assert values[0] > 99
    assert "sort=p_up" in window.run("location.search")
    window.key("n")
    window.until("document.body.innerText.includes('page 2 of 100')")
    window.key("/")
    window.type("#search", "S0423")
    window.until("document.body.innerText.includes('10 of 10,000 symbols')")
    assert window.run(ROWS) == 10
    window.go(f"{large}/runs")
    window.key("/")
    window.until("document.activeElement.matches('.jump input')")
    window.call("Input.insertText", text="S0423")
    window.until("document.activeElement.value === 'S0423'")
    window.run("document.querySelector('.jump').requestSubmit()")
    window.until("location.pathname === '/universe' && document.readyState === 'complete'")
    assert window.run(ROWS) == 10, "from any page"
    window.type("#search", "nobody")
    window.until("document.body.innerText.includes('No symbol is called so')")
    assert not window.complaints


def test_a_fan_chart_and_a_forecast_on_demand(window: Browser, served: str) -> None:
    log_in(window, served)
    window.go(f"{served}/universe")
    window.key("j")
    window.key("j")
    assert window.run("document.activeElement.innerText") == window.run(
        "document.querySelectorAll('table.universe tbody th')[1].innerText"
    )
    window.go(f"{served}/symbol?name=SIM002")
    window.until("document.querySelectorAll('.plot .main-svg').length >= 2")
    assert window.run("document.querySelectorAll('.plot .trace.bars .point').length") > 60
    assert window.run("document.querySelectorAll('.plot .scatterlayer .trace').length") >= 6
    older = window.run("document.querySelector('select[name=as_of] option:last-child').innerText")
    window.run("window.__old = true")
    window.run(
        "(s => { s.selectedIndex = s.length - 1; "
        "s.dispatchEvent(new Event('change', {bubbles: true})); })"
        "(document.querySelector('select[name=as_of]'))"
    )
    window.until("!window.__old && document.readyState === 'complete'")
    assert f"from {older}" in window.text()
    window.run("window.__old = true")
    window.key("]")
    window.until("!window.__old && document.readyState === 'complete'")
    assert f"from {older}" not in window.text(), "a later one"
    window.type("#ondemand input[name=lookback]", "48")
    window.click("#ondemand button")
    window.until("document.querySelector('#now .main-svg')")
    assert "the numbers of a nightly run" in window.text()
    assert not window.complaints
    window.type("#ondemand input[name=lookback]", "4000")
    window.click("#ondemand button")
    window.until("document.querySelector('#now [role=alert]')?.innerText.includes('too short')")
    assert all("422" in each for each in window.complaints)
    window.complaints.clear()


def test_two_backtests_are_compared(window: Browser, served: str) -> None:
    log_in(window, served)
    window.go(f"{served}/backtests")
    window.run("window.__old = true")
    window.run("document.querySelectorAll('input[name=report]').forEach(e => e.checked = true)")
    window.click("form[action='/backtests/compare'] button")
    window.until("!window.__old && document.querySelector('.plot .main-svg')")
    text = window.text()
    assert "Settings that differ" in text
    assert "commission_bps" in text
    assert window.run("document.querySelectorAll('.plot .scatterlayer .trace').length") == 6
    assert not window.complaints


def test_hostile_names_run_nothing(window: Browser, served: str) -> None:
    log_in(window, served)
    for path in ("/", "/universe", "/runs", "/models", "/backtests", "/data"):
        window.go(served + path)
        assert not window.run("document.querySelector('script:not([src])')")
    window.go(f"{served}/universe")
    assert HOSTILE[0] in window.text()
    window.run("window.__old = true")
    window.run(
        "[...document.querySelectorAll('table a')]"
        f".find(e => e.innerText === {HOSTILE[0]!r}).click()"
    )
    window.until("!window.__old && document.querySelector('.plot .main-svg')")
    assert window.run("document.querySelector('h1').innerText") == HOSTILE[0]
    assert not window.complaints


def test_a_stored_report_cannot_reach_the_console(window: Browser, served: str) -> None:
    log_in(window, served)
    window.go(f"{served}/backtests")
    address = window.run("document.querySelector(\"a[href^='/report']\").href")
    window.go(address)
    window.until("document.querySelector('.js-plotly-plot .main-svg')")
    asked = f"fetch('{served}/api/health').then(() => 'reached', () => 'refused')"
    assert window.run(asked) == "refused"
    assert window.run("self.origin") == "null"
    window.complaints.clear()


@pytest.mark.parametrize("wide", [1400, 400])
def test_no_page_is_wider_than_the_window(
    window: Browser, served: str, wide: int, tmp_path: Path
) -> None:
    log_in(window, served)
    found = {}
    for kind in ("run", "report"):
        window.go(f"{served}/{kind}s" if kind == "run" else f"{served}/backtests")
        found[kind] = window.run(
            f"[...document.querySelectorAll('input[name={kind}]')].map(e => e.value)"
        )[:2]
    reports = "&report=".join(found["report"])
    for path in (
        *("/", "/universe", "/symbol?name=SIM001", "/runs", "/models", "/backtests", "/data"),
        *("/api", f"/run?id={found['run'][0]}", f"/backtests/compare?report={reports}"),
        f"/runs/diff?run={'&run='.join(found['run'])}",
    ):
        window.go(served + path)
        window.look(tmp_path / "page.png", wide, dark=True, whole=False)
        assert window.run("document.documentElement.scrollWidth - innerWidth") <= 0, path
