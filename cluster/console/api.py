"""The JSON interface, rows in bulk, forecasts on demand. Knows HTTP; computes nothing itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from cluster.console.bulk import Rows, content, days_between, parts
from cluster.console.ondemand import ANSWER_S
from cluster.console.overview import model_cards
from cluster.console.requests import ForecastRequest, answer, window_of
from cluster.console.state import slot
from cluster.console.symbols import as_json as symbol_json
from cluster.console.symbols import day_of, look
from cluster.console.universe import SORTS, Wanted
from cluster.console.views import as_json, console_of, page, tagged
from cluster.forecasting.comparison import compare_runs, find_run
from market.table.schema import Published

router = APIRouter()

Model = Annotated[str | None, Query(max_length=200, description="A model's name, id or slot.")]
AsOf = Annotated[str | None, Query(max_length=10, description="A date; the newest night without.")]
Symbol = Annotated[str, Query(min_length=1, max_length=200)]
Run = Annotated[str, Query(min_length=4, max_length=32, pattern="^[0-9a-f]+$")]


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
    kind: Rows = "steps",
    since: Annotated[
        str | None, Query(max_length=10, description="Also every night from this date on.")
    ] = None,
) -> Response:
    """Every row of a night, or of several: an Arrow stream, or a Parquet file. `kind`: steps or
    path_stats."""
    nights, night = console_of(request).nights, console_of(request).choose(model)
    last = day_of(as_of, night.as_of_date)
    days = days_between(nights, night, day_of(since, last), last)
    name = f"{days[0]}{f'-{days[-1]}' if days[1:] else ''}-{kind}.{form}"

    def make() -> Response:
        media = {"arrow": "application/vnd.apache.arrow.stream",
                 "parquet": "application/vnd.apache.parquet"}[form]  # fmt: skip
        disposition = {"content-disposition": f'attachment; filename="{name}"'}
        made = parts(nights, night, days, kind, form)
        return StreamingResponse(made, media_type=media, headers=disposition)

    return tagged(request, (content(nights, night, days), kind), make)


@router.get("/api/runs")
def runs(request: Request) -> Response:
    """Every run of the table, oldest first, without its lists of symbols."""
    found = [
        record.model_dump(mode="json", exclude={"skipped", "failed", "dates", "identity"})
        | {"dates": len(record.dates), "forecasts": record.n_forecasts}
        for record in console_of(request).table.runs()
    ]
    return tagged(request, (str(found),), lambda: as_json({"runs": found}))


@router.get("/api/models")
def models(request: Request) -> Response:
    """Every model of the table: what it is, was trained through and forecast, and its newest
    night's slot."""
    cards = [vars(card) for card in model_cards(console_of(request))]
    return tagged(request, (cards,), lambda: as_json({"models": cards}))


@router.get("/api/backtests")
def backtests(request: Request) -> Response:
    """Figures and settings of every backtest and sweep in the folder of reports."""
    found = [
        {"id": each.id, "name": each.name, "kind": each.kind, "title": each.title,
         **{key: each.data.get(key) for key in ("summary", "settings", "varied", "top")}}
        for each in console_of(request).reports.of("backtest", "sweep")
    ]  # fmt: skip
    return tagged(request, (str(found),), lambda: as_json({"reports": found}))


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
