"""The server: where it listens, under which names, and how long it waits. Knows uvicorn."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cluster.console.access import SHORTEST, Access
from cluster.console.app import guarded, make_app
from cluster.console.ondemand import Forecasts
from cluster.console.settings import ServeSettings
from cluster.console.state import Console
from market.errors import ConfigError

OWN_TOKEN = "CANDLECAST_CONSOLE_TOKEN"
"""Environment variable with a token of the user's own."""
_HEADER_BYTES = 16 << 10
_KEEP_ALIVE_S = 15
_LAST_S = 5
"""Seconds that answers have to end in when the server stops."""
_CONNECTIONS = 256
_BACKLOG = 128


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose request line and headers do not come to an end."""

    patience_s = 10.0
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        if self._waiting is None and (before is None or before.response_complete):
            self._wait()
        super().data_received(data)
        if self.cycle is not before:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.patience_s, self._give_up)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            self.transport.close()


def own_token() -> str | None:
    """The token in the environment. Raises ConfigError for one that could be guessed."""
    token = os.environ.get(OWN_TOKEN)
    if token is not None and len(token) < SHORTEST:
        raise ConfigError(
            f"{OWN_TOKEN}: {len(token)} characters; a token needs at least {SHORTEST}, such as "
            "those of 'openssl rand -hex 32'"
        )
    return token


def listen(settings: ServeSettings) -> socket.socket:
    """The socket, bound. Raises ConfigError where the address cannot be taken."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((settings.host, settings.port))
    except OSError as error:
        raise ConfigError(
            f"--host {settings.host} --port {settings.port}: cannot listen there "
            f"({error.strerror}); name another port, or 0 for a free one"
        ) from None
    made.listen(_BACKLOG)
    return made


def hosts_of(settings: ServeSettings, port: int) -> frozenset[str]:
    """Names the console answers to, with the port."""
    names = {settings.host, *settings.allow_host}
    if settings.local:
        names |= {"127.0.0.1", "localhost", "::1"}
    written = {f"[{name}]" if ":" in name else name.lower() for name in names}
    usual = {name for name in written if port == (443 if settings.tls_cert else 80)}
    return frozenset({f"{name}:{port}" for name in written} | usual)


@dataclass(frozen=True)
class Listening:
    """A server that has its address, and waits to be run."""

    server: uvicorn.Server
    socket: socket.socket
    address: str
    """As browsers write it."""
    console: Console

    def run(self) -> None:
        """Serve until told to stop."""
        with self.socket:
            self.server.run(sockets=[self.socket])


def prepare(
    settings: ServeSettings,
    access: Access,
    ondemand: Forecasts | None = None,
    door: socket.socket | None = None,
) -> Listening:
    """The console at its address. Raises ConfigError where that cannot be taken.

    ondemand: where forecasts come from; see `Console.open`. door: what `listen` returned; it is
    closed when the server ends.
    """
    made = door or listen(settings)
    port = made.getsockname()[1]
    console = Console.open(settings, ondemand)
    protocol: type[Any] = type("Patient", (PatientProtocol,), {"patience_s": settings.body_seconds})
    server = uvicorn.Server(
        uvicorn.Config(
            guarded(make_app(console, access), access, settings, hosts_of(settings, port)),
            http=protocol,
            ws="none",
            loop="asyncio",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_LAST_S,
            limit_concurrency=_CONNECTIONS,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=None if settings.tls_key is None else str(settings.tls_key),
        )
    )
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    if not settings.local and settings.allow_host:
        name = settings.allow_host[0]
    scheme = "https" if settings.tls_cert else "http"
    return Listening(server, made, f"{scheme}://{name}:{port}", console)
