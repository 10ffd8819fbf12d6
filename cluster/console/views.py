"""Pages and answers: templates, tags of what they were made from, errors in words. Knows HTTP."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from backtest.report.words import number, percent, signed
from cluster.console.charts import embedded
from cluster.console.state import Console
from market.errors import CandlecastError, StoreError
from market.secrets import hidden

TEMPLATES = Path(__file__).parent / "templates"
_SPARK = (120, 26)


def console_of(request: Request) -> Console:
    """The console a request came to."""
    found: Console = request.app.state.console
    return found


def tagged(request: Request, parts: tuple[object, ...], make: Callable[[], Response]) -> Response:
    """What make returns with a tag of what it was made from, or 304 where the reader has that."""
    seen = (console_of(request).build, str(request.url.path), request.url.query,
            "hx-request" in request.headers, *parts)  # fmt: skip
    tag = f'"{blake2b(repr(seen).encode(), digest_size=12).hexdigest()}"'
    headers = {"etag": tag, "vary": "HX-Request, Cookie, Accept-Encoding"}
    known = [each.strip().removeprefix("W/") for each in
             request.headers.get("if-none-match", "").split(",")]  # fmt: skip
    if tag in known:
        return Response(status_code=304, headers=headers)
    response = make()
    response.headers.update(headers)
    return response


def page(request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A template with what it shows."""
    given = {"here": request.url.path, "fragment": "hx-request" in request.headers, **values}
    return HTMLResponse(_environment().get_template(name).render(given), status)


def as_json(value: Any, status: int = 200) -> Response:
    """JSON without NaN, dates in ISO form."""
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def told(request: Request, error: CandlecastError, status: int | None = None) -> Response:
    """An error as a page, a fragment or JSON, whichever was asked for."""
    code = status or (404 if isinstance(error, StoreError) else 422)
    words = hidden(" ".join(str(error).split()))
    path = request.url.path
    if path.startswith("/api/") or path == "/forecast":
        return as_json({"detail": words}, code)
    if "hx-request" in request.headers:
        return page(request, "problem.html.j2", code, words=words)
    return page(request, "error.html.j2", code, words=words)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {
        "pct": lambda value: percent(_float(value)),
        "signed": lambda value: signed(_float(value)),
        "num": lambda value: number(_float(value)),
        "price": lambda value: "–" if value is None else f"{value:,.5g}",
        "count": lambda value: f"{value:,}",
        "when": lambda value: "–" if value is None else f"{value:%Y-%m-%d %H:%M}",
        "spark": sparkline,
        "span": interval,
        "figure": embedded,
        "combine": lambda query, number: {**query, "page": number},
    }
    made.globals["link"] = link
    return made


def link(path: str, **query: object) -> str:
    """An address with its query; None and empty values are left out."""
    given = {key: str(value) for key, value in query.items() if value not in (None, "", False)}
    return path + (f"?{urlencode(given)}" if given else "")


def sparkline(values: list[float] | None) -> Markup:
    """A small line of recent closes."""
    wide, high = _SPARK
    known = [v for v in values or () if v is not None and math.isfinite(v)]
    if len(known) < 2:
        return Markup("")
    low, top = min(known), max(known)
    reach = (top - low) or 1.0
    step = wide / (len(known) - 1)
    points = " ".join(
        f"{i * step:.0f},{high - 2 - (v - low) / reach * (high - 4):.0f}"
        for i, v in enumerate(known)
    )
    side = "up" if known[-1] >= known[0] else "down"
    return Markup(
        f'<svg class="spark {side}" viewBox="0 0 {wide} {high}" aria-hidden="true">'
        f'<polyline points="{points}"/></svg>'
    )


def interval(low: float | None, middle: float | None, high: float | None, reach: float) -> Markup:
    """A return's 80% interval and median on a scale of ± reach."""
    if low is None or middle is None or high is None or not reach > 0:
        return Markup("")

    def at(value: float) -> float:
        return max(0.0, min(100.0, 50 + 50 * value / reach))

    return Markup(
        '<svg class="interval" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">'
        '<line class="zero" x1="50" y1="0" x2="50" y2="14"/>'
        f'<rect class="range" x="{at(low):.1f}" y="5" width="{max(0.6, at(high) - at(low)):.1f}" '
        f'height="4"/><rect class="mid" x="{at(middle) - 0.6:.1f}" y="2" width="1.2" height="10"/>'
        "</svg>"
    )


def _float(value: float | None) -> float:
    return float("nan") if value is None else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)
