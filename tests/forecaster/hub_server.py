"""A server on loopback that answers about files as the hub does, and misbehaves on request."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c" * 40


class HubServer(ThreadingHTTPServer):
    """Serves `root/owner/name/file` under `/owner/name/resolve/REVISION/file`."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.break_after: dict[str, int] = {}
        """By file name, bytes after which the next transfer is cut off."""
        self.alter: set[str] = set()
        """File names whose content differs from what is stated, in its last byte."""
        self.asked: list[tuple[str, str, str | None]] = []
        """Method, file name and Range of every request."""

    def transfers(self) -> list[str]:
        """Names of the files whose content was asked for."""
        return [file for method, file, _ in self.asked if method == "GET" and file]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, *, send: bool) -> None:
        owner, name, kind, revision, *rest = [*self.path.strip("/").split("/"), "", "", ""]
        file = "/".join(rest).rstrip("/")
        self.server.asked.append((self.command, file, self.headers.get("Range")))
        model = self.server.root / owner / name
        if kind != "resolve" or not model.is_dir() or revision not in ("main", COMMIT):
            self._refuse("RepoNotFound")
            return
        if not (model / file).is_file():
            self._refuse("EntryNotFound")
            return
        content = (model / file).read_bytes()
        large = file.endswith(".safetensors")  # as the hub keeps big files apart, by their SHA-256
        digest = (
            hashlib.sha256(content)
            if large
            else hashlib.sha1(b"blob %d\0" % len(content) + content)
        )
        if file in self.server.alter:
            content = content[:-1] + bytes([content[-1] ^ 1])
        first = 0
        if asked := self.headers.get("Range"):
            first = int(asked.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("ETag", f'"{digest.hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if large:
            self.send_header("X-Linked-Etag", f'"{digest.hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(content)))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if not send:
            return
        stop = self.server.break_after.pop(file, None)
        self.wfile.write(content[first:] if stop is None else content[first : first + stop])
        if stop is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        if code == "EntryNotFound":
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def hub_server(root: Path) -> Iterator[HubServer]:
    """The server, running inside the block."""
    server = HubServer(root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
