"""What every request passes before anything of ours sees it. Knows HTTP; no forecasts.

In this order: the name it was sent to (so that a foreign name that resolves to this machine gets
nothing), how many requests come from where, how long its own address is, who sends it, from which
page (so that no other site can act for a user), and how large and how slow its body is.
Answers leave with headers that forbid scripts, styles and requests from anywhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from cluster.console.access import Access

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_COOKIE = "candlecast"
OPEN = frozenset({"/login", "/static/console.css", "/static/tear_sheet.css", "/static/console.js"})
"""What a browser needs before it is logged in."""
SAFE = frozenset({"GET", "HEAD"})
LONGEST_URL = 4096
MOST_HEADERS = 16 << 10
"""Bytes."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "private, no-cache",
}
_BURST_S = 4.0
_LOGINS_PER_MINUTE = 20.0
_ADDRESSES = 1024


class Bucket:
    """Requests allowed per address: so many a second, some seconds' worth at once."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._rate, self._burst = per_second, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> bool:
        """Whether one more request is allowed; the oldest addresses are forgotten."""
        now = time.monotonic()
        left, then = self._left.pop(who, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        self._left[who] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1


@dataclass(frozen=True)
class Rules:
    """What is let through."""

    hosts: frozenset[str]
    """Values of the Host header, with the port, in lower case."""
    scheme: str
    body_bytes: int
    body_seconds: float
    requests_per_second: float


class _RefusedError(Exception):
    def __init__(self, status: int, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers


@dataclass
class Guard:
    """The middleware around the application."""

    app: App
    access: Access
    rules: Rules
    _all: Bucket = field(init=False)
    _logins: Bucket = field(init=False)

    def __post_init__(self) -> None:
        rate = self.rules.requests_per_second
        self._all = Bucket(rate, max(10.0, rate * _BURST_S))
        self._logins = Bucket(_LOGINS_PER_MINUTE / 60, _LOGINS_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started = False

        async def answered(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _with_headers(message)
            await send(message)

        try:
            headers = _headers(scope)
            self._let_in(scope, headers)
            body = await self._body(scope, headers, receive)
            # What answers GET answers HEAD; the server leaves the body away.
            asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
            await self.app(asked, body, answered)
        except _RefusedError as refused:
            if not started:
                await _refuse(refused, scope, answered)

    def _let_in(self, scope: Scope, headers: dict[str, str]) -> None:
        path, method = scope["path"], scope["method"]
        if headers.get("host", "").lower() not in self.rules.hosts:
            raise _RefusedError(421, "this console is not known by that name (Host header)")
        who = (scope.get("client") or ("unknown",))[0]
        if not self._all.take(who):
            raise _RefusedError(429, "too many requests; wait a moment", **{"retry-after": "2"})
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_URL:
            raise _RefusedError(414, "the address is too long")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADERS:
            raise _RefusedError(431, "the headers are too large", connection="close")
        if method not in SAFE and method != "POST":
            raise _RefusedError(
                405, "only GET, HEAD and POST are answered", allow="GET, HEAD, POST"
            )
        if path == "/login" and method == "POST" and not self._logins.take(who):
            raise _RefusedError(
                429, "too many tries to log in; wait a minute", **{"retry-after": "60"}
            )
        bearer = self._bearer(headers)
        if bearer is False:
            raise _RefusedError(401, "the token is wrong, or over", **_BEARER)
        self._same_site(method, headers, bearer is True)
        if path in OPEN or bearer:
            return
        if not self.access.holds(session_in(headers)):
            _ask_to_log_in(scope, headers)

    def _bearer(self, headers: dict[str, str]) -> bool | None:
        """Whether the Authorization header holds the token; None without one."""
        given = headers.get("authorization")
        if given is None:
            return None
        kind, _, token = given.partition(" ")
        return kind.lower() == "bearer" and self.access.knows(token.strip())

    def _same_site(self, method: str, headers: dict[str, str], bearer: bool) -> None:
        origin = headers.get("origin")
        own = {f"{self.rules.scheme}://{host}" for host in self.rules.hosts}
        foreign = origin is not None and origin.lower() not in own
        site = headers.get("sec-fetch-site", "none")
        if method in SAFE:
            if foreign and origin != "null":
                raise _RefusedError(403, "requests of other sites are not answered")
            return
        if foreign or site not in ("same-origin", "none") or (origin is None and not bearer):
            raise _RefusedError(
                403, "a request that does something must come from a page of this console "
                "(Origin), or carry the token in its Authorization header",
            )  # fmt: skip

    async def _body(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        """The body as one message, read here in full: too large or too slow, it goes no further."""
        if scope["method"] in SAFE:
            if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
                raise _RefusedError(400, "a request for a page has no body")
            return receive
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise _RefusedError(415, "send the body as it is, not compressed", connection="close")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["path"] == "/forecast" and kind != "application/json":
            raise _RefusedError(415, "send JSON (Content-Type: application/json)")
        if "content-length" in headers:
            told = headers["content-length"]
            if not told.isdigit() or int(told) > self.rules.body_bytes:
                raise self._too_large()
        parts = bytearray()
        try:
            async with asyncio.timeout(self.rules.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _RefusedError(400, "the request was broken off")
                    parts += message.get("body", b"")
                    if len(parts) > self.rules.body_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise _RefusedError(408, "the body took too long", connection="close") from None
        whole: Message | None = {"type": "http.request", "body": bytes(parts), "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            if whole is not None:
                message, whole = whole, None
                return message
            return await receive()

        return replay

    def _too_large(self) -> _RefusedError:
        most = self.rules.body_bytes >> 10
        return _RefusedError(413, f"the body is larger than {most} KiB", connection="close")


_BEARER = {"www-authenticate": "Bearer"}


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by name. What decides must be said once."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in found and name in (
            "host",
            "origin",
            "authorization",
            "content-length",
            "cookie",
        ):
            if name == "cookie":
                found[name] += f"; {value.decode('latin-1')}"
                continue
            raise _RefusedError(400, f"the header {name} is given twice")
        found[name] = value.decode("latin-1")
    return found


def cookie_of(host: str) -> str:
    """Name of the session's cookie at a host: browsers send cookies to every port of it, and two
    consoles must not log each other out."""
    port = host.rpartition(":")[2]
    return f"{_COOKIE}-{port}" if port.isdigit() else _COOKIE


def session_in(headers: Mapping[str, str]) -> str:
    """The session that a request brings, or nothing."""
    wanted = cookie_of(headers.get("host", ""))
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == wanted:
            return value
    return ""


def _ask_to_log_in(scope: Scope, headers: dict[str, str]) -> None:
    pages = "text/html" in headers.get("accept", "")
    if scope["method"] in SAFE and pages and "hx-request" not in headers:
        query = scope["query_string"].decode("latin-1")
        there = scope["path"] + (f"?{query}" if query else "")
        raise _RefusedError(303, "log in first", location=f"/login?next={quote(there, safe='')}")
    more = {"hx-redirect": "/login"} if "hx-request" in headers else _BEARER
    raise _RefusedError(401, "the token is missing, wrong, or over: log in, or send it in the "
                        "Authorization header", **more)  # fmt: skip


def next_page(query: bytes) -> str:
    """Where to go after logging in: a page of ours, never an address elsewhere."""
    wanted = dict(parse_qsl(query.decode("latin-1"))).get("next", "/")
    plain = unquote(wanted)
    ours = plain.startswith("/") and not plain.startswith(("//", "/\\", "/login"))
    return wanted if ours and plain.isprintable() and "\\" not in plain else "/"


def _with_headers(message: Message) -> None:
    there = {name.lower() for name, _ in message["headers"]}
    message["headers"] = [
        *message["headers"],
        *((k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in there),
    ]


async def _refuse(refused: _RefusedError, scope: Scope, send: Send) -> None:
    text = f"{refused.why}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(text)).encode()),
        *((name.encode(), value.encode("latin-1")) for name, value in refused.headers.items()),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})
