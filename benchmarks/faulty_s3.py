"""An S3 server behind a proxy that misbehaves as object stores do. Knows HTTP; nothing of tables.

refused: one request in five is answered 503 SlowDown. slow: two in five wait up to half a second.
torn: one in twelve breaks off: an answer in the middle of its body, a write before it reached the
store, or after it did, with nobody told.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["well", "refused", "slow", "torn"]
_SHARE = {"well": 0.0, "refused": 0.2, "slow": 0.4, "torn": 0.08}
_LONGEST_DELAY_S = 0.5
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "proxy-connection"}
_SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class Faults:
    """What the proxy does to requests, and how often it did."""

    def __init__(self, endpoint: str, upstream: str, rng: random.Random) -> None:
        self.endpoint = endpoint
        """Where clients find the proxy."""
        self.upstream = upstream
        """Where they find the server itself."""
        self.mode: Mode = "well"
        self.requests = 0
        self.done = 0
        self._rng, self._turn = rng, threading.Lock()

    def strikes(self) -> bool:
        with self._turn:
            self.requests += 1
            hit = self._rng.random() < _SHARE[self.mode]
            self.done += hit
            return hit

    def share(self) -> float:
        with self._turn:
            return self._rng.random()


@contextmanager
def faulty(upstream: str, seed: int) -> Iterator[Faults]:
    """A proxy before a server, as long as the block; it behaves until its mode is set."""
    host, port = urlsplit(upstream).hostname or "", urlsplit(upstream).port or 80

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            strikes, mode = faults.strikes(), faults.mode
            if strikes and mode == "refused":
                self.send_response(503)
                self.send_header("Content-Type", "application/xml")
                self._end(_SLOW_DOWN)
                return
            if strikes and mode == "slow":
                time.sleep(faults.share() * _LONGEST_DELAY_S)
            torn = strikes and mode == "torn"
            writes = self.command in ("PUT", "POST", "DELETE")
            if torn and writes and faults.share() < 0.5:
                self._hang_up()  # it never arrived
                return
            status, headers, content = self._passed_on(body)
            if torn and writes:
                self._hang_up()  # it did, but who sent it does not learn of it
                return
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self._end(content, half=torn)

        def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(host, port, timeout=60)
            try:
                sent = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
                connection.request(self.command, self.path, body=body or None, headers=sent)
                answer = connection.getresponse()
                content = answer.read()
                kept = [
                    (name, value)
                    for name, value in answer.getheaders()
                    if name.lower() not in _HOP_BY_HOP
                    and (name.lower() != "content-length" or self.command == "HEAD")
                ]
                return answer.status, kept, content
            finally:
                connection.close()

        def _end(self, content: bytes, half: bool = False) -> None:
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if half else content)
            if half:
                self._hang_up()

        def _hang_up(self) -> None:
            self.wfile.flush()
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that were killed
    faults = Faults(f"http://127.0.0.1:{server.server_port}", upstream, random.Random(seed))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield faults
    finally:
        server.shutdown()
        server.server_close()
