"""What is sent to break something: bodies, headers and bytes that are no request of a reader."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from cluster.console.settings import ServeSettings
from tests.cluster.console.made_up import HOST, TOKEN

LOCAL = f"http://{HOST}"


def test_a_form_cannot_pretend_to_be_json(client: TestClient) -> None:
    body = b'{"symbol": "SIM001", "lookback": 48, "horizon": 2, "x": "=" }'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        headers = {"content-type": kind, "origin": LOCAL}
        assert client.post("/forecast", content=body, headers=headers).status_code == 415


def test_compressed_bodies_are_not_unpacked(client: TestClient) -> None:
    bomb = gzip.compress(b" " * (1 << 24))
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert client.post("/forecast", content=bomb, headers=headers).status_code == 415


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "-1", "0", "1e400", "1e308",
                                   '"1"', "null", "[1]", "true"])  # fmt: skip
def test_bars_that_are_no_prices(client: TestClient, value: str) -> None:
    days = [f"2024-01-{d:02d}" for d in range(2, 30)]
    fine = ",".join(["10"] * (len(days) - 1))
    columns = ",".join(f'"{name}":[{fine},{value}]' for name in ("open", "high", "low", "close"))
    body = (
        f'{{"symbol":"A","venue":"24/7","lookback":10,"horizon":2,"paths":4,'
        f'"bars":{{"timestamp":{json.dumps(days)},{columns}}}}}'
    )
    answer = client.post("/forecast", content=body, headers={"content-type": "application/json"})
    if value in ("1e308", '"1"', "true"):  # large, or read as a number: an answer, or a reason
        assert answer.status_code in (200, 422)
        assert "Infinity" not in answer.text
        return
    assert answer.status_code == 422, answer.text
    assert "\n" not in answer.json()["detail"]


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
    most, as_json = settings.body_kib << 10, {"content-type": "application/json"}
    assert client.post("/forecast", content=b"x" * (most + 1), headers=as_json).status_code == 413

    def stream() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * (most // 32)

    assert client.post("/forecast", content=stream(), headers=as_json).status_code == 413
    lying = client.post("/forecast", content=b"{}", headers={**as_json, "content-length": "1e9"})
    assert lying.status_code == 413
    assert client.request("GET", "/universe", content=b"x").status_code == 400


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
    slow_body = head + b"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
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
    chunked = head + b"\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer, seconds = sent(served, chunked, b"1\r\n{\r\n", b"1\r\n \r\n", wait=0.4)
    assert answer.startswith(b"HTTP/1.1 408")
    assert seconds < 8
    elsewhere = b"GET http://evil.example/runs HTTP/1.1\r\nConnection: close\r\nHost: " + host
    assert b" 200 " not in sent(served, elsewhere + b"\r\n\r\n")[0]
    old = b"GET /login HTTP/1.0\r\n\r\n"
    assert b" 421 " in sent(served, old)[0], "no name, no answer"
    socket_asked = get + b"\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
    assert b" 101 " not in sent(served, socket_asked)[0]
    smuggled = head + b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert b" 200 " not in sent(served, smuggled)[0]
    assert b"Set-Cookie: x" not in sent(served, get + b"\r\nX-A: b\nSet-Cookie: x\r\n\r\n")[0]
    assert sent(served, get + b"\r\n\r\n")[0].startswith(b"HTTP/1.1 200"), "it goes on"
