"""The pages. Knows HTTP and what each page shows; computes nothing itself."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import ValidationError

from cluster.console import charts, lake
from cluster.console.ondemand import ANSWER_S
from cluster.console.overview import alarms, coverage_off, model_cards, trust_rows
from cluster.console.reports import Report
from cluster.console.requests import ForecastRequest, window_of
from cluster.console.state import Console, slot
from cluster.console.symbols import around, day_of, look, told
from cluster.console.universe import SORTS, Wanted
from cluster.console.views import console_of, page, tagged
from cluster.forecasting.comparison import compare_runs, find_run
from cluster.forecasting.reasons import kinds
from market.errors import ConfigError, ForecastInputError, StoreError
from market.leases import live_leases
from market.table.schema import RunRecord
from market.table.vacuum import lease_name

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Query(max_length=200)]
Maybe = Annotated[str | None, Query(max_length=200)]
Number = Annotated[int, Query(ge=1, le=1_000_000)]
_REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; frame-ancestors 'none'"
)
"""Of a stored report, which draws itself: it runs apart from the console, as no site at all, and
may ask nobody for anything."""


@router.get("/")
def tonight(request: Request) -> Response:
    console = console_of(request)
    nights, history = console.nights.published(), console.history()
    last, reports = console.reports.last_night(), console.reports.of("night")[:14]

    def make() -> Response:
        return page(
            request, "tonight.html.j2", nights=[(slot(n), n) for n in nights], history=history,
            last=last, alarms=alarms(console, nights, history, last),
            records={n.run_id: console.table.run(n.run_id) for n in nights},
            reports=reports,
        )  # fmt: skip

    return tagged(request, (nights, history and history.version, str(last), _seen(reports)), make)


@router.get("/trust")
def trust(request: Request, model: Text) -> Response:
    """How earlier nights did: asked for by the page that shows it, since it may take a while."""
    console = console_of(request)
    night = console.choose(model)
    rows, why = trust_rows(console, night)
    figure = None if rows is None or not rows.height else charts.ratios(rows)
    return page(
        request, "trust.html.j2", rows=rows, figure=figure, why=why,
        off=None if rows is None else coverage_off(rows), published=console.nights.of(night).said,
    )  # fmt: skip


@router.get("/universe")
def universe(
    request: Request,
    model: Maybe = None,
    sort: Annotated[str, Query(max_length=20)] = "symbol",
    down: bool = False,
    search: Annotated[str, Query(max_length=100)] = "",
    flag: Annotated[str, Query(max_length=20)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    console = console_of(request)
    wanted = Wanted(sort, down, search, flag, number)
    night, nights = console.choose(model), console.nights.published()
    history = console.history()

    def make() -> Response:
        found = console.universe.page(console.nights.of(night), history, wanted)
        ends = [abs(row[k]) for row in found.rows for k in ("low", "high") if row[k] is not None]
        return page(
            request, "universe.html.j2", night=night, chosen=slot(night), found=found,
            wanted=wanted, sorts=SORTS, reach=max(ends, default=0.0),
            nights=[(slot(n), n) for n in nights],
        )  # fmt: skip

    return tagged(request, (night, nights, history and history.version), make)


@router.get("/symbol")
def symbol(request: Request, name: Text, as_of: Maybe = None, model: Maybe = None) -> Response:
    console = console_of(request)
    night, nights = console.choose(model), console.nights.published()
    history = console.history()
    day = day_of(as_of, night.as_of_date)
    seen = console.nights.at(night, day)

    def make() -> Response:
        view = look(console.nights, night, day, name)
        return page(
            request, "symbol.html.j2", view=view, night=night, chosen=slot(night), day=day,
            dates=console.nights.dates(night.model_id), served=console.models,
            nights=[(slot(n), n) for n in nights],
            fan=charts.fan(view.past, view.after, view.steps),
            beside=charts.beside(view.models) if view.models else None,
        )  # fmt: skip

    return tagged(request, (night, nights, seen.key, history and history.version), make)


@router.post("/symbol/forecast")
async def symbol_forecast(request: Request) -> Response:
    """A forecast on demand as a part of the symbol's page."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=20)
    given = {key: values[0] for key, values in fields.items() if values[0]}
    try:
        asked = ForecastRequest.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{first['loc'][0]}: {first['msg']}") from None
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(_forecast_page, request, asked)


def _forecast_page(request: Request, asked: ForecastRequest) -> Response:
    console = console_of(request)
    history = console.history()
    if asked.bars is not None or history is None:
        raise ForecastInputError("forecasts here are of stored symbols; bars go to POST /forecast")
    ask, task = window_of(asked, console.settings, history, console.models[0])
    made = console.ondemand.submit(ask, task).result(ANSWER_S)
    first = made.steps.row(0, named=True)
    past, after = around(history, first["as_of"], first["as_of_date"], asked.symbol, ask.horizon)
    return page(
        request, "ondemand.html.j2", ask=ask, made=made, first=first, symbol=asked.symbol,
        row=told(ask.model, made.steps, made.path_stats), fan=charts.fan(past, after, made.steps),
    )  # fmt: skip


@router.get("/runs")
def runs(request: Request) -> Response:
    console = console_of(request)
    records = console.table.runs()[::-1]
    working = live_leases(console.table.leases)
    newest = {each.run_id for each in console.nights.published()}

    def status(record: RunRecord) -> str:
        if record.status == "running":
            return "at work" if lease_name(record.run_id) in working else "interrupted"
        return "latest" if record.run_id in newest else "finished"

    states = [status(record) for record in records]
    seen = [(record.run_id, state) for record, state in zip(records, states, strict=True)]
    rows = list(zip(records, states, strict=True))
    return tagged(request, (seen,), lambda: page(request, "runs.html.j2", rows=rows))


@router.get("/runs/diff")
def runs_diff(request: Request, run: Annotated[list[str], Query(max_length=8)]) -> Response:
    console = console_of(request)
    if len(run) != 2:
        raise ConfigError("choose two runs to compare")
    one, other = (find_run(console.table, each) for each in run)
    found = compare_runs(console.table, one, other)
    return page(request, "diff.html.j2", one=one, other=other, found=found)


@router.get("/run")
def run(request: Request, id: Text) -> Response:  # noqa: A002
    console = console_of(request)
    record = find_run(console.table, id)
    return tagged(
        request, (record,),
        lambda: page(request, "run.html.j2", record=record, skipped=kinds(record.skipped),
                     failed=kinds(record.failed)),
    )  # fmt: skip


@router.get("/models")
def models(request: Request) -> Response:
    console = console_of(request)
    cards, reports = model_cards(console), console.reports.of("evaluation")[:20]
    return tagged(
        request, (cards, _seen(reports)),
        lambda: page(request, "models.html.j2", cards=cards, evaluations=reports),
    )  # fmt: skip


@router.get("/models/ratios")
def models_ratios(request: Request) -> Response:
    """All models in one chart: asked for by the page that shows it, since it may take a while."""
    console = console_of(request)
    looks = [(night.model, trust_rows(console, night)[0]) for night in console.nights.published()]
    known = [(name, rows) for name, rows in looks if rows is not None and rows.height]
    figure = charts.ratios_beside(known) if len(known) > 1 else None
    return page(request, "ratios.html.j2", figure=figure)


@router.get("/backtests")
def backtests(request: Request) -> Response:
    console = console_of(request)
    found = console.reports.all()
    return tagged(
        request, (_seen(found),),
        lambda: page(
            request, "backtests.html.j2", folder=console.reports.root,
            backtests=[r for r in found if r.kind == "backtest"],
            sweeps=[r for r in found if r.kind == "sweep"],
            others=[r for r in found if r.kind not in ("backtest", "sweep")][:200],
        ),
    )  # fmt: skip


def _seen(reports: list[Report]) -> list[tuple[str, float]]:
    return [(each.id, each.written) for each in reports]


@router.get("/backtests/compare")
def compare(request: Request, report: Annotated[list[str], Query(max_length=40)]) -> Response:
    console = console_of(request)
    if not 2 <= len(report) <= 8:
        raise ConfigError("choose two to eight backtests to compare")
    found = [_report(console, each) for each in report]
    if any(each.kind != "backtest" for each in found):
        raise ConfigError("only backtests can be compared")
    shown = [{**r.data, "label": f"{k}. {r.title}"} for k, r in enumerate(found, 1)]
    keys = dict.fromkeys(key for each in found for key in each.data["settings"])
    differ = []
    for key in keys:
        values = [each.data["settings"].get(key) for each in found]
        if any(value != values[0] for value in values):
            differ.append((key, values))
    return page(request, "compare.html.j2", reports=found, differ=differ,
                figure=charts.curves(shown), below=charts.drawdowns(shown))  # fmt: skip


@router.get("/report")
def report(request: Request, id: Text) -> Response:  # noqa: A002
    """A stored page as it is, shut off from the console."""
    found = _report(console_of(request), id)
    try:
        content = found.path.read_bytes()
    except OSError:
        raise StoreError("this report is gone; look at the list again") from None
    return HTMLResponse(content, headers={"content-security-policy": _REPORT_POLICY})


def _report(console: Console, digest: str) -> Report:
    found = console.reports.get(digest)
    if found is None:
        raise StoreError("no such report; it may have been moved or written again")
    return found


@router.get("/data")
def data(
    request: Request, search: Annotated[str, Query(max_length=100)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:  # fmt: skip
    console = console_of(request)
    history = console.nights.history()

    def make() -> Response:
        more: dict[str, Any] = {}
        if "hx-request" not in request.headers:
            rules, rows = lake.quarantine(history)
            more = {
                "rules": rules, "quarantine": rows, "versions": lake.versions(history),
            }  # fmt: skip
        cover = console.lake.coverage(history, search, number)
        return page(request, "data.html.j2", history=history, cover=cover, search=search, **more)

    return tagged(request, (history.version,), make)


@router.get("/data/suspects")
def suspects(request: Request) -> Response:
    """Moves like splits: asked for by the page that shows them, since every bar is looked at."""
    console = console_of(request)
    history = console.nights.history()
    return tagged(
        request, (history.version,),
        lambda: page(request, "suspects.html.j2", suspects=console.lake.suspects(history)),
    )  # fmt: skip
