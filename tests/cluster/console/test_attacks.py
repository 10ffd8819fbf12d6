"""What must be refused: everything that comes without the token, from elsewhere, or to break in."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from cluster.console.access import Access
from cluster.console.guard import OPEN, next_page
from cluster.console.settings import ServeSettings
from cluster.console.state import Console
from market.errors import ConfigError
from tests.cluster.console.made_up import HOST, HOSTILE, TOKEN, console_at

LOCAL = f"http://{HOST}"
PARAMETERS = {
    "/symbol": "?name=SIM001", "/trust": "?model=x", "/run": "?id=abcd", "/report": "?id=ab",
    "/runs/diff": "?run=aaaa&run=bbbb", "/backtests/compare": "?report=a&report=b",
    "/api/run": "?id=abcd", "/api/runs/diff": "?first=aaaa&second=bbbb",
    "/api/forecasts": "?symbol=SIM001",
}  # fmt: skip


@pytest.fixture
def stranger(settings: ServeSettings) -> Iterator[TestClient]:
    """Somebody without the token."""
    _, app = console_at(settings)
    with TestClient(app, base_url=LOCAL, follow_redirects=False) as made:  # type: ignore[arg-type]
        yield made


def routes(client: TestClient) -> list[tuple[str, str]]:
    """Every method and path the application answers."""
    app = client.app.app  # type: ignore[attr-defined]
    found = []

    def walk(some: list[object]) -> None:
        for each in some:
            if isinstance(each, Route):
                path = each.path.replace("{name}", "plotly-cartesian.min.js").replace("{form}", "arrow")
                found.extend((method, path) for method in each.methods or ())
            else:
                inner = getattr(each, "routes", None) or getattr(
                    getattr(each, "original_router", None), "routes", []
                )
                walk(inner)

    walk(app.routes)
    return found


def test_nothing_is_answered_without_the_token(stranger: TestClient) -> None:
    seen = routes(stranger)
    assert {("GET", "/universe"), ("POST", "/forecast"), ("GET", "/api/openapi.json")} <= set(seen)
    for method, path in seen:
        if path in OPEN:
            continue
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"cookie": "candlecast=1.2.3"},
            {"authorization": f"Basic {TOKEN}"},
            {"cookie": f"candlecast={TOKEN}"},
        ):
            answer = stranger.request(method, path + PARAMETERS.get(path, ""),
                                      headers={"origin": LOCAL, **headers})  # fmt: skip
            assert answer.status_code == 401, (method, path, headers)
            assert "SIM001" not in answer.text


def test_a_browser_is_led_to_the_login_and_back(stranger: TestClient) -> None:
    asked = stranger.get("/symbol?name=SIM001", headers={"accept": "text/html"})
    assert (asked.status_code, asked.headers["location"]) == (
        303, "/login?next=%2Fsymbol%3Fname%3DSIM001",
    )  # fmt: skip
    form = {"token": TOKEN}
    done = stranger.post(asked.headers["location"], data=form, headers={"origin": LOCAL})
    assert (done.status_code, done.headers["location"]) == (303, "/symbol?name=SIM001")
    kept = done.headers["set-cookie"]
    assert "HttpOnly" in kept
    assert "SameSite=strict" in kept
    assert stranger.get("/symbol?name=SIM001").status_code == 200
    assert stranger.post("/logout", headers={"origin": LOCAL}).status_code == 303
    assert stranger.get("/universe").status_code == 401


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)",
     "/%2f/evil.example", "/login?next=/", "/\tevil", "%2F%2Fevil.example"],
)  # fmt: skip
def test_the_login_leads_nowhere_else(elsewhere: str) -> None:
    assert next_page(f"next={quote(elsewhere, safe='')}".encode()) == "/"


def test_a_wrong_token_and_one_whose_time_is_over(settings: ServeSettings) -> None:
    now = [1000.0]
    _, app = console_at(settings, clock=lambda: now[0])
    with TestClient(app, base_url=LOCAL, follow_redirects=False) as client:  # type: ignore[arg-type]
        for token in ("", "x", TOKEN[:-1], TOKEN + "0", "\udcff"):
            body = {"token": token.encode("utf-8", "surrogateescape")}
            wrong = client.post("/login", data=body, headers={"origin": LOCAL})
            assert wrong.status_code == 401
        client.post("/login", data={"token": TOKEN}, headers={"origin": LOCAL})
        assert client.get("/runs").status_code == 200
        now[0] += 3600 * settings.session_hours + 1
        assert client.get("/runs").status_code == 401
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/runs", headers=bearer).status_code == 200
        now[0] = 1000 + 3600 * settings.token_hours
        assert client.get("/runs", headers=bearer).status_code == 401
        late = client.post("/login", data={"token": TOKEN}, headers={"origin": LOCAL})
        assert late.status_code == 401


def test_sessions_cannot_be_made_up() -> None:
    access = Access(1, 1, TOKEN)
    value, _ = access.session()
    until, rest = value.split(".", 1)
    assert access.holds(value)
    for made_up in (
        "",
        ".",
        "..",
        f"{int(until) + 1}.{rest}",
        value[:-1],
        value + "0",
        f"x.{rest}",
    ):
        assert not access.holds(made_up)
    assert not Access(1, 1, TOKEN).holds(value), "another process has another key"


def test_logins_are_counted(settings: ServeSettings) -> None:
    _, app = console_at(settings)
    with TestClient(app, base_url=LOCAL) as client:  # type: ignore[arg-type]
        tried = [
            client.post("/login", data={"token": "x"}, headers={"origin": LOCAL}).status_code
            for _ in range(30)
        ]
    assert tried.count(429) >= 5
    slow = settings.model_copy(update={"requests_per_second": 1.0})
    _, app = console_at(slow)
    with TestClient(app, base_url=LOCAL) as client:  # type: ignore[arg-type]
        assert 429 in [client.get("/login").status_code for _ in range(20)]


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9999"},
     {"origin": LOCAL, "sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}],
)  # fmt: skip
def test_another_site_cannot_act_for_a_user(client: TestClient, headers: dict[str, str]) -> None:
    asked = {"symbol": "SIM001", "lookback": 48}
    assert client.post("/forecast", json=asked, headers=headers).status_code == 403


def test_a_cookie_alone_does_nothing_without_an_origin(stranger: TestClient) -> None:
    stranger.post("/login", data={"token": TOKEN}, headers={"origin": LOCAL})
    assert stranger.get("/runs").status_code == 200
    asked = {"symbol": "SIM001", "lookback": 48, "horizon": 2}
    assert stranger.post("/forecast", json=asked).status_code == 403
    assert stranger.post("/forecast", json=asked, headers={"origin": LOCAL}).status_code == 200
    assert stranger.get("/forecast").status_code == 405


def test_foreign_names_of_this_machine_get_nothing(client: TestClient) -> None:
    foreign = (
        *("evil.example:8600", "evil.example", "127.0.0.1", "127.0.0.1:80", "localhost.:8600"),
        *("localhost:8600@evil.example", "", "127.0.0.1:8600, evil"),
    )
    for host in foreign:
        assert client.get("/runs", headers={"host": host}).status_code == 421, host
    for host in ("localhost:8600", "LOCALHOST:8600", "[::1]:8600"):
        assert client.get("/runs", headers={"host": host}).status_code == 200
    spoofed = {
        "x-forwarded-host": "evil.example",
        "x-forwarded-for": "1.2.3.4",
        "forwarded": "host=evil.example",
        "x-original-url": "/login",
        "x-http-method-override": "DELETE",
    }
    answer = client.get("/universe", headers=spoofed)
    assert answer.status_code == 200
    assert "evil.example" not in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_only_reading_and_asking(client: TestClient, method: str) -> None:
    assert client.request(method, "/universe").status_code == 405


TRAVERSALS = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "....//etc/passwd",
              "file:///etc/passwd", "s3://bucket/x", "http://169.254.169.254/latest", "a\\..\\b",
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


@pytest.mark.parametrize(
    "more",
    [{"store": "http://169.254.169.254/"}, {"forecasts": "s3://evil/x"}, {"model": "/etc/passwd"},
     {"model": "http://169.254.169.254/latest"}, {"model": "../../secrets"},
     {"model": "NeoQuasar/Kronos-small"}, {"model": "timellm:/etc"}, {"tokenizer": "evil/x"},
     {"address": "ray://evil:10001"}, {"bars": "http://evil/bars.csv"}, {"venue": "../../x"},
     {"as_of": "file:///etc/passwd"}, {"freq": "1y; rm"}],
)  # fmt: skip
def test_a_request_names_no_other_place(client: TestClient, more: dict[str, object]) -> None:
    """Stores, tables, models and clusters are those of the start: nothing is fetched."""
    days = [f"2024-01-{d:02d}" for d in range(1, 28)]
    own: dict[str, object] = {} if more.keys() & {"bars", "as_of"} else {"bars": {
        "timestamp": days, **{n: [1.0 + d for d in range(27)] for n in
                              ("open", "high", "low", "close")}}, "lookback": 10}  # fmt: skip
    answer = client.post("/forecast", json={"symbol": "SIM001", "lookback": 48, **own, **more})
    assert answer.status_code == 422, answer.text
    assert "Traceback" not in answer.text
    assert len(answer.json()["detail"]) < 700


def test_limits_of_a_request(client: TestClient) -> None:
    base = {"symbol": "SIM001", "lookback": 48}
    for more in (
        {"paths": 10**6},
        {"horizon": 10**6},
        {"lookback": 10**9},
        {"seed": -1},
        {"paths": "NaN"},
        {"temperature": 0},
        {"symbol": ""},
        {"symbol": "x" * 300},
    ):
        assert client.post("/forecast", json={**base, **more}).status_code == 422
    for body in (b"[" * 100_000, b"{" * 1000, b"\xff\xfe", b"null", b'{"symbol": NaN}',
                 b'{"symbol":"SIM001","lookback":1e999}'):  # fmt: skip
        answer = client.post(
            "/forecast", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code in (400, 422)
        assert "Traceback" not in answer.text
    long = {"timestamp": ["2024-01-01"] * 6000, **{n: [1.0] * 6000 for n in
                                                   ("open", "high", "low", "close")}}  # fmt: skip
    answer = client.post("/forecast", json={**base, "bars": long})
    assert "up to 5000" in answer.json()["detail"]
    assert client.get("/universe?page=0").status_code == 422
    assert client.get("/universe?sort=symbol;drop table night").status_code == 422
    assert client.get("/universe?" + "a" * 5000).status_code == 414


def test_bodies_too_large(client: TestClient, settings: ServeSettings) -> None:
    most = settings.body_kib << 10
    assert client.post("/forecast", content=b"x" * (most + 1)).status_code == 413

    def stream() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * (most // 32)

    assert client.post("/forecast", content=stream()).status_code == 413
    lying = client.post("/forecast", content=b"{}", headers={"content-length": "1e9"})
    assert lying.status_code == 413
    assert client.request("GET", "/universe", content=b"x").status_code == 400


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


def sent(address: str, *parts: bytes, wait: float = 0.0) -> tuple[bytes, float]:
    """What a server answers to bytes, sent with pauses between them; and how long that took."""
    host, port = address.removeprefix("http://").split(":")
    begun = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=15) as line:
        answer = b""
        try:
            for part in parts:
                line.sendall(part)
                time.sleep(wait)
            while more := line.recv(65536):
                answer += more
        except (ConnectionError, TimeoutError):
            pass
    return answer, time.monotonic() - begun


def test_slow_and_broken_requests_are_given_up(served: str, settings: ServeSettings) -> None:
    host = served.removeprefix("http://").encode()
    head = (
        b"POST /forecast HTTP/1.1\r\nHost: " + host + b"\r\nAuthorization: Bearer " + TOKEN.encode()
    )
    slow_body = head + b"\r\nContent-Length: 100\r\n\r\n{"
    answer, seconds = sent(served, slow_body)
    assert answer.startswith(b"HTTP/1.1 408")
    assert seconds < 8
    drip = [b"GET /login HTTP/1.1\r\n", *(b"X-%d: 1\r\n" % i for i in range(12))]
    answer, seconds = sent(served, *drip, wait=0.2)
    assert answer == b"", "the connection was closed on headers that do not end"
    assert seconds < 8
    assert sent(served, b"")[1] < 8
    get = b"GET /login HTTP/1.1\r\nConnection: close\r\nHost: " + host
    assert sent(served, get + b"\r\n\r\n")[0].startswith(b"HTTP/1.1 200")
    huge = get + b"\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"
    assert b" 431 " in sent(served, huge)[0]
    assert b" 400 " in sent(served, get + b"\r\nHost: evil\r\n\r\n")[0]
    smuggled = head + b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert b" 200 " not in sent(served, smuggled)[0]
    assert b"Set-Cookie: x" not in sent(served, get + b"\r\nX-A: b\nSet-Cookie: x\r\n\r\n")[0]
    assert sent(served, get + b"\r\n\r\n")[0].startswith(b"HTTP/1.1 200"), "it goes on"


@pytest.mark.parametrize(
    ("more", "words"),
    [({"host": "0.0.0.0"}, "allow_host"), ({"host": "::"}, "allow_host"),
     ({"tls_cert": "c"}, "tls_key"), ({"port": 70000}, "port")],
)  # fmt: skip
def test_the_console_does_not_listen_to_all_by_accident(
    place: Path, more: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        ServeSettings(store=place / "store", forecasts=place / "forecasts", **more)  # type: ignore[arg-type]


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
