"""The JSON interface, rows in bulk, forecasts on demand. Knows HTTP; computes nothing itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import polars as pl
import pyarrow as pa
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from cluster.console.ondemand import ANSWER_S
from cluster.console.requests import ForecastRequest, answer, window_of
from cluster.console.state import Console, slot
from cluster.console.symbols import as_json as symbol_json
from cluster.console.symbols import day_of, look
from cluster.console.universe import SORTS, Wanted
from cluster.console.views import as_json, console_of, page, tagged
from cluster.forecasting.comparison import compare_runs, find_run
from market.table.forecasts import ForecastTable
from market.table.schema import Published

router = APIRouter()

Model = Annotated[str | None, Query(max_length=200, description="A model's name, id or slot.")]
AsOf = Annotated[str | None, Query(max_length=10, description="A date; the newest night without.")]
Symbol = Annotated[str, Query(min_length=1, max_length=200)]
Run = Annotated[str, Query(min_length=4, max_length=32, pattern="^[0-9a-f]+$")]
_ROWS_PER_PART = 1 << 15


def told(night: Published) -> dict[str, Any]:
    """A published night for programs."""
    return night.model_dump(mode="json") | {"slot": slot(night)}


@router.get("/api", include_in_schema=False)
def documentation(request: Request) -> Response:
    return page(request, "api.html.j2", schema=request.app.openapi())


@router.get("/api/health")
def health(request: Request) -> Response:
    """Whether the table and the history can be read, and how new they are."""
    console = console_of(request)
    history = console.history()
    nights = console.nights.published()
    sessions = [] if history is None else history.sessions()
    return as_json(
        {
            "status": "ok" if nights and history is not None else "incomplete",
            "nights": [told(each) for each in nights],
            "store_version": None if history is None else history.version,
            "last_session": sessions[-1] if sessions else None,
            "models_on_demand": console.models,
            "on_demand_from": "Ray Serve" if console.settings.address else "this process",
        }
    )


@router.get("/api/nights")
def nights(request: Request) -> Response:
    """The newest published night of every model, venue and frequency."""
    found = [told(each) for each in console_of(request).nights.published()]
    return tagged(request, (str(found),), lambda: as_json({"nights": found}))


@router.get("/api/dates")
def dates(request: Request, model: Model = None) -> Response:
    """Dates on which the table shows forecasts of a model, the newest first."""
    console = console_of(request)
    night = console.choose(model)
    found = console.nights.dates(night.model_id)
    return as_json({"model": night.model, "model_id": night.model_id, "dates": found})


@router.get("/api/universe")
def universe(
    request: Request,
    model: Model = None,
    sort: Annotated[
        str, Query(max_length=20, description=f"One of {', '.join(SORTS)}.")
    ] = "symbol",
    descending: bool = False,
    search: Annotated[str, Query(max_length=100)] = "",
    page_number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """A page of the newest night's symbols; returns are fractions to the last step."""
    console = console_of(request)
    wanted = Wanted(sort, descending, search, "", page_number)
    night = console.choose(model)
    history = console.history()

    def make() -> Response:
        found = console.universe.page(console.nights.of(night), history, wanted)
        return as_json(
            {"night": told(night), "found": found.found, "total": found.total,
             "page": found.number, "pages": found.pages, "rows": found.rows}
        )  # fmt: skip

    return tagged(request, (night, history and history.version), make)


@router.get("/api/forecasts")
def forecasts(
    request: Request, symbol: Symbol, as_of: AsOf = None, model: Model = None
) -> Response:
    """One symbol's forecast: prices by step, path statistics, and what happened since."""
    console = console_of(request)
    night = console.choose(model)
    day = day_of(as_of, night.as_of_date)
    history = console.history()
    seen = console.nights.at(night, day)

    def make() -> Response:
        view = look(console.nights, night, day, symbol)
        return as_json(symbol_json(view, {"model": night.model, "model_id": night.model_id}))

    return tagged(request, (night, seen.key, history and history.version), make)


@router.get("/api/forecasts.{form}")
def bulk(
    request: Request,
    form: Literal["arrow", "parquet"],
    as_of: AsOf = None,
    model: Model = None,
    kind: Literal["steps", "path_stats"] = "steps",
) -> Response:
    """Every row of a night: an Arrow stream, or a Parquet file. `kind`: steps or path_stats."""
    console = console_of(request)
    night = console.choose(model)
    seen = console.nights.at(night, day_of(as_of, night.as_of_date))
    name = f"{seen.key.as_of_date}-{kind}.{form}"

    def make() -> Response:
        rows = _rows(console, night, seen.run_id, seen.key.as_of_date == night.as_of_date, kind)
        rows = rows.filter(pl.col("as_of") == seen.as_of)
        frame = rows.collect().sort("symbol", *(["step"] if kind == "steps" else []))
        parts = _arrow(frame) if form == "arrow" else _parquet(frame)
        media = {"arrow": "application/vnd.apache.arrow.stream",
                 "parquet": "application/vnd.apache.parquet"}[form]  # fmt: skip
        disposition = {"content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(parts, media_type=media, headers=disposition)

    return tagged(request, (seen.key, seen.run_id, kind), make)


def _rows(console: Console, night: Published, run_id: str, newest: bool, kind: str) -> pl.LazyFrame:
    table = ForecastTable(console.table.folder, night.versions) if newest else console.table
    if kind == "steps":
        return table.scan(night.model_id, run_id)
    return table.path_stats(night.model_id, run_id)


def _arrow(frame: pl.DataFrame) -> Iterator[bytes]:
    """An Arrow stream a part at a time."""
    sink = io.BytesIO()
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=_ROWS_PER_PART):
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def _parquet(frame: pl.DataFrame) -> Iterator[bytes]:
    sink = io.BytesIO()
    frame.write_parquet(sink, compression="zstd")
    view = sink.getbuffer()
    for first in range(0, len(view), 1 << 20):
        yield bytes(view[first : first + (1 << 20)])


@router.get("/api/runs")
def runs(request: Request) -> Response:
    """Every run of the table, oldest first, without its lists of symbols."""
    found = [
        record.model_dump(mode="json", exclude={"skipped", "failed", "dates", "identity"})
        | {"dates": len(record.dates), "forecasts": record.n_forecasts}
        for record in console_of(request).table.runs()
    ]
    return tagged(request, (str(found),), lambda: as_json({"runs": found}))


@router.get("/api/run")
def run(request: Request, id: Run) -> Response:  # noqa: A002
    """The whole record of one run, by its id or the first digits of it."""
    return as_json(find_run(console_of(request).table, id).model_dump(mode="json"))


@router.get("/api/runs/diff")
def diff(request: Request, first: Run, second: Run) -> Response:
    """What two runs were asked differently, and how their forecasts differ."""
    table = console_of(request).table
    return as_json(compare_runs(table, find_run(table, first), find_run(table, second)))


@router.post("/forecast")
def forecast(request: Request, asked: ForecastRequest) -> Response:
    """A forecast now: of a stored symbol, or of bars sent along; the numbers of a nightly run."""
    console = console_of(request)
    ask, task = window_of(asked, console.settings, console.history(), console.models[0])
    made = console.ondemand.submit(ask, task).result(ANSWER_S)
    return as_json(answer(asked, ask, made))
