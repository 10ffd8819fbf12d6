"""What pages give away: names that are markup, paths, stored reports, and what is not there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from cluster.console.settings import ServeSettings
from cluster.console.state import Console
from tests.cluster.console.made_up import HOST, HOSTILE, TOKEN, console_at

LOCAL = f"http://{HOST}"


TRAVERSALS = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "....//etc/passwd",
              "file:///etc/passwd", "s3://bucket/x", "http://169.254.169.254/latest", "a\\..\\b",
              "%c0%ae%c0%ae/etc/passwd", "..;/..;/etc/passwd", "%2e%2e/%2e%2e/etc/passwd",
              "%00", "latest.json\x00.html", "plotly-cartesian.min.js/../../server.py"]  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSALS)
def test_no_path_of_a_request_reaches_a_file(client: TestClient, name: str) -> None:
    encoded = quote(name, safe="")
    for path in (f"/static/{encoded}", f"/static/{name.replace(chr(0), '%00')}", f"/{encoded}",
                 f"/report?id={encoded}", f"/run?id={encoded}", f"/api/run?id={encoded}",
                 f"/trust?model={encoded}", f"/universe?model={encoded}",
                 f"/symbol?name={encoded}", f"/symbol?name=SIM001&as_of={encoded}",
                 f"/backtests/compare?report={encoded}&report={encoded}"):  # fmt: skip
        answer = client.get(path)
        there = name in HOSTILE and path.startswith("/symbol")  # a symbol is called so
        assert answer.status_code in ((200,) if there and "as_of" not in path else (404, 422)), path
        assert "root:" not in answer.text
        assert "import " not in answer.text


def test_names_are_text_everywhere(client: TestClient) -> None:
    pages = ["/", "/universe", "/universe?search=%3Cscript", "/runs", "/models", "/backtests",
             "/data", "/trust?model=random-walk", "/symbol?name=%3Cscript%3Enope",
             *(f"/symbol?name={quote(name, safe='')}" for name in HOSTILE)]  # fmt: skip
    run = client.get("/api/runs").json()["runs"][0]["run_id"]
    pages.append(f"/run?id={run}")
    reports = re.findall(r'name="report" value="(\w+)"', client.get("/backtests").text)
    pages.append("/backtests/compare?report=" + "&report=".join(reports))
    for page in pages:
        html = client.get(page).text
        scripts = re.findall(r"<script\b[^>]*>", html)
        assert all(re.search(r' src="/static/', each) for each in scripts), page
        for broken in ("<script>alert", "<i>YOUNG", "<b>3 bars", "onerror=", ">49</a>"):
            assert broken not in html, (page, broken)
        assert not re.search(r"<[^>]+\s(?:style|on\w+)=", html), page
        assert "javascript:" not in html
    hostile = client.get(f"/symbol?name={quote(HOSTILE[0], safe='')}").text
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;</h1>" in hostile
    dropped = client.get("/universe", params={"search": HOSTILE[2]}).text
    assert "1 of 12 symbols" in dropped
    assert client.get("/universe").text.count("<tr><th>") == 12, "the table is still there"


def test_stored_reports_run_apart(client: TestClient, place: Path) -> None:
    listed = re.findall(r"/report\?id=(\w+)", client.get("/backtests").text)
    answer = client.get(f"/report?id={listed[0]}")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy
    assert "default-src 'none'" in policy
    (place / "reports" / "link.html").symlink_to("/etc/hostname")
    (place / "reports" / "deep").mkdir()
    (place / "reports" / "deep" / "out").symlink_to("/etc")
    after = client.get("/backtests").text
    assert "link.html" not in after
    assert len(re.findall(r"/report\?id=", after)) == len(listed)


def test_a_page_allows_no_scripts_of_others(client: TestClient) -> None:
    for path in ("/", "/login", "/api/health", "/nope", "/static/console.js"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "private" in headers["cache-control"]
        assert "server" not in headers


def test_tags_follow_what_was_read(client: TestClient) -> None:
    first = client.get("/universe?sort=p_up")
    tag = {"if-none-match": first.headers["etag"]}
    assert client.get("/universe?sort=p_up", headers=tag).status_code == 304
    assert client.get("/universe?sort=symbol", headers=tag).status_code == 200
    assert (
        client.get("/universe?sort=p_up", headers={**tag, "hx-request": "true"}).status_code == 200
    )


def test_reading_changes_nothing(client: TestClient, place: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {
            str(p.relative_to(place)): (p.stat().st_size, p.stat().st_mtime_ns)
            for part in ("store", "forecasts")
            for p in sorted((place / part).rglob("*"))
            if p.is_file()
        }

    before = state()
    for path in ("/", "/universe", "/runs", "/models", "/data", "/api/health",
                 "/symbol?name=SIM001"):  # fmt: skip
        assert client.get(path).status_code == 200
    asked = {"symbol": "SIM001", "lookback": 48, "horizon": 2}
    assert client.post("/forecast", json=asked).status_code == 200
    assert state() == before
    assert json.loads(client.get("/api/health").text)["status"] == "ok"


def test_a_console_without_a_night_or_a_store_says_so(tmp_path: Path) -> None:
    settings = ServeSettings(store=tmp_path / "no", forecasts=tmp_path / "none", model="none")
    console, app = console_at(settings)
    assert isinstance(console, Console)
    with TestClient(app, base_url=LOCAL, headers={"authorization": f"Bearer {TOKEN}"}) as client:  # type: ignore[arg-type]
        assert "No night was published yet" in client.get("/").text
        for path in ("/universe", "/data", "/symbol?name=A"):
            answer = client.get(path)
            assert answer.status_code == 404
            assert "Traceback" not in answer.text
        assert client.get("/runs").status_code == 200
        assert client.get("/api/health").json()["status"] == "incomplete"
        assert client.get("/backtests").status_code == 200
