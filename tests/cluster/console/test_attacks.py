"""What must be refused: everything that comes without the token, from elsewhere, or to break in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from cluster.console.access import Access
from cluster.console.guard import OPEN, next_page
from cluster.console.settings import ServeSettings
from market.errors import ConfigError
from tests.cluster.console.made_up import HOST, TOKEN, console_at

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
                path = each.path.replace("{name}", "htmx.min.js").replace("{form}", "arrow")
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
            {"cookie": "candlecast-8600=1.2.3"},
            {"authorization": f"Basic {TOKEN}"},
            {"cookie": f"candlecast-8600={TOKEN}"},
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
    stolen = kept.partition(";")[0]
    assert stolen.startswith("candlecast-8600=")
    assert stranger.post("/logout", headers={"origin": LOCAL}).status_code == 303
    assert stranger.get("/universe").status_code == 401
    assert stranger.get("/universe", headers={"cookie": stolen}).status_code == 401, "it is over"


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


def test_the_token_is_taken_from_its_header_alone(stranger: TestClient) -> None:
    """Addresses end up in histories, logs and the Referer of what a page links to."""
    for query in (f"token={TOKEN}", f"access_token={TOKEN}", f"next=%2F&token={TOKEN}"):
        assert stranger.get(f"/runs?{query}").status_code == 401
        assert stranger.get(f"/login?{query}").headers.get("set-cookie") is None
    for name in ("x-token", "x-api-key", "proxy-authorization"):
        assert stranger.get("/runs", headers={name: f"Bearer {TOKEN}"}).status_code == 401


def test_no_answer_is_for_other_sites(client: TestClient) -> None:
    for path, headers in (
        ("/api/health", {"origin": "https://evil.example"}),
        ("/api/health", {"origin": "null"}),
        ("/api/health", {}),
        ("/static/console.js", {"origin": "https://evil.example"}),
    ):
        answer = client.get(path, headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    preflight = client.options(
        "/forecast",
        headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
    )
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control-")]


def test_a_head_is_a_get_without_a_body(client: TestClient, stranger: TestClient) -> None:
    assert stranger.head("/universe").status_code == 401
    for path in ("/universe", "/api/health", "/login", "/static/console.css"):
        answer = client.head(path)
        assert answer.status_code == 200, path
        assert "content-security-policy" in answer.headers
    assert client.head("/forecast").status_code == 405


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_only_reading_and_asking(client: TestClient, method: str) -> None:
    assert client.request(method, "/universe").status_code == 405


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
