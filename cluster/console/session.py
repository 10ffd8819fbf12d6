"""Logging in and out, and the files every page needs. Knows HTTP; no forecasts."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from backtest.report.page import HERE as REPORT
from cluster.console.access import Access
from cluster.console.guard import cookie_of, next_page, session_in
from cluster.console.views import page

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).parent / "static"
_OF_REPORTS = ("tear_sheet.css", "plotly-cartesian.min.js")
FILES = {
    path.name: path
    for path in (*sorted(_STATIC.iterdir()), *(REPORT / name for name in _OF_REPORTS))
}
"""What may be asked for by name: these, and nothing else."""
_DAY = "private, max-age=86400"


@router.get("/login")
def login(request: Request) -> Response:
    return page(request, "login.html.j2", wrong=False, query=request.url.query)


@router.post("/login")
async def log_in(request: Request) -> Response:
    access: Access = request.app.state.access
    try:
        fields = parse_qs((await request.body()).decode("ascii"), max_num_fields=4)
    except (UnicodeDecodeError, ValueError):
        fields = {}
    if not access.knows(fields.get("token", [""])[0].strip()):
        return page(request, "login.html.j2", 401, wrong=True, query=request.url.query)
    value, seconds = access.session()
    there = RedirectResponse(next_page(request.url.query.encode()), 303)
    there.set_cookie(
        cookie_of(request.headers["host"]), value, max_age=seconds, httponly=True,
        samesite="strict", secure=request.url.scheme == "https",
    )  # fmt: skip
    return there


@router.post("/logout")
def log_out(request: Request) -> Response:
    access: Access = request.app.state.access
    access.end(session_in(request.headers))
    there = RedirectResponse("/login", 303)
    there.delete_cookie(cookie_of(request.headers["host"]), httponly=True, samesite="strict")
    there.headers["clear-site-data"] = '"cache", "storage"'
    return there


@router.get("/static/{name}")
def static(request: Request, name: str) -> Response:
    found = FILES.get(name)
    if found is None:
        return page(request, "error.html.j2", 404, words="no such page")
    return FileResponse(found, headers={"cache-control": _DAY})
