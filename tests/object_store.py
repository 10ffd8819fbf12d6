"""A local S3 server for tests, in a process of its own, and the environment that leads to it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest

_START_SECONDS = 120.0
_SERVER = """
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

inner, one_by_one = DomainDispatcherApplication(create_backend_app), threading.Lock()

def app(environ, start_response):
    with one_by_one:  # a store's conditional writes are atomic; moto looks first and writes then
        return [b"".join(inner(environ, start_response))]

run_simple(sys.argv[2], int(sys.argv[1]), app, threaded=True)
"""


@cache
def endpoint(host: str = "127.0.0.1") -> str:
    """Where the server of this process's tests is, or will be once one asks for it."""
    with socket.socket() as free:
        free.bind((host, 0))
        return f"http://{host}:{free.getsockname()[1]}"


@contextmanager
def serving(host: str = "127.0.0.1") -> Iterator[str]:
    """The endpoint of a server that ends with the block, on one of this machine's addresses. Skips
    where its packages are missing."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    there = endpoint(host)
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, there.rpartition(":")[2], host],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + _START_SECONDS
        while not _answers(there):
            if time.monotonic() > until or server.poll() is not None:
                pytest.fail("the S3 server did not start")
            time.sleep(0.1)
        yield there
    finally:
        server.kill()
        server.wait()


def environment(host: str = "127.0.0.1") -> dict[str, str]:
    """Variables under which every S3 client of a process finds the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint(host),
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def make_bucket(name: str, host: str = "127.0.0.1") -> str:
    """URL of a new bucket."""
    put = urllib.request.Request(f"{endpoint(host)}/{name}", method="PUT")
    urllib.request.urlopen(put, timeout=60).close()
    return f"s3://{name}"


def _answers(there: str) -> bool:
    try:
        urllib.request.urlopen(there, timeout=5).close()
    except OSError:
        return False
    return True
