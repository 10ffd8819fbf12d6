"""The application: routes behind the guard. Knows FastAPI; computes nothing itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from cluster.console import api, pages, session
from cluster.console.access import Access
from cluster.console.guard import Guard, Rules
from cluster.console.ondemand import BusyError
from cluster.console.settings import ServeSettings
from cluster.console.state import Console
from cluster.console.views import as_json, page, told
from market.errors import CandlecastError

_LITTLE = 1024


def make_app(console: Console, access: Access) -> FastAPI:
    """The routes of one console, without what guards them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        console.close()

    app = FastAPI(
        title="candlecast",
        description="Forecasts of a table, its runs, and forecasts on demand.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    app.state.console, app.state.access = console, access
    for room in (session, pages, api):
        app.include_router(room.router)
    app.add_middleware(GZipMiddleware, minimum_size=_LITTLE, compresslevel=4)
    _words_for_errors(app)
    return app


def _words_for_errors(app: FastAPI) -> None:
    @app.exception_handler(CandlecastError)
    def ours(request: Request, error: CandlecastError) -> Response:
        if isinstance(error, BusyError):
            busy = told(request, error, 503)
            busy.headers["retry-after"] = "2"
            return busy
        return told(request, error)

    @app.exception_handler(TimeoutError)
    def late(request: Request, _: TimeoutError) -> Response:
        return told(request, CandlecastError("the forecast took too long; ask for less"), 504)

    @app.exception_handler(RequestValidationError)
    def unreadable(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])[:80]
        return told(request, CandlecastError(f"{where}: {first['msg']}"), 422)

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> Response:
        if request.url.path.startswith("/api/"):
            return as_json({"detail": str(error.detail)}, error.status_code)
        return page(request, "error.html.j2", error.status_code, words=str(error.detail))


def guarded(app: FastAPI, access: Access, settings: ServeSettings, hosts: frozenset[str]) -> Guard:
    """The application behind what every request passes."""
    return Guard(
        app,
        access,
        Rules(
            hosts=hosts,
            scheme="https" if settings.tls_cert else "http",
            body_bytes=settings.body_kib << 10,
            body_seconds=settings.body_seconds,
            requests_per_second=settings.requests_per_second,
        ),
    )
