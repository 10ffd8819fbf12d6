"""How fast the console answers: pages of ten thousand symbols, and forecasts on demand.

    python benchmarks/bench_console.py            # about a minute

Pages are asked for over HTTP from the real server, in this process; the first byte's time is that
of the first byte of the body, and CPU is that of this process, server and client. On demand, twenty
requests at the same time are compared with the batch engine on the same windows and on 64 of them,
in path-steps (series × paths × bars) per second; the three are measured in turn, and each time the
best of a few rounds counts.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from cluster.console.access import Access
from cluster.console.ondemand import LocalModels
from cluster.console.requests import ForecastRequest, window_of
from cluster.console.server import Listening, prepare
from cluster.console.settings import ServeSettings
from market.importing.files import import_frame
from market.lake.history import MarketHistory
from market.spec import Label, StoreSpec
from market.table.forecasts import ForecastTable
from market.table.schema import (
    PATH_STATS_SCHEMA,
    STEPS_SCHEMA,
    DateRecord,
    Published,
    RunRecord,
)

SPEC = StoreSpec(venue="XNYS", freq="1d", tz="America/New_York", label=Label.SESSION)
TOKEN = "bench" * 8
HORIZON, PATHS, LOOKBACK, AT_ONCE = 20, 64, 256, 20
LONG = 24
"""Symbols with a history long enough for a forecast on demand."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = made(Path(folder), given.symbols)
        with serving(settings) as listening:
            pages(listening, given.rounds)
        on_demand(settings, given.rounds)


def made(folder: Path, n: int) -> ServeSettings:
    """A store and a night of n symbols."""
    import exchange_calendars

    calendar = exchange_calendars.get_calendar("XNYS")
    sessions = calendar.sessions_in_range("2022-01-03", "2023-06-30").to_numpy()[-330:]
    rng = np.random.default_rng(5)
    parts = []
    for length, count, first in ((330, LONG, 0), (60, n - LONG, LONG)):
        days = sessions[-length:]
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.015, (count, length)), axis=1))
        open_ = close * np.exp(rng.normal(0, 0.004, close.shape))
        parts.append(
            pl.DataFrame(
                {
                    "symbol": np.repeat([f"S{first + i:05d}" for i in range(count)], length),
                    "timestamp": np.tile(days.astype("datetime64[us]"), count),
                    "open": open_.ravel(),
                    "high": (np.maximum(open_, close) * 1.004).ravel(),
                    "low": (np.minimum(open_, close) * 0.996).ravel(),
                    "close": close.ravel(),
                    "volume": rng.integers(1000, 100_000, close.size).astype(np.float64),
                }
            )
        )
    import_frame(pl.concat(parts), folder / "store", SPEC)
    history = MarketHistory.open(folder / "store")
    as_of = history.resolve_as_of(history.sessions()[-HORIZON - 1])
    last = history.scan(as_of=as_of.close_utc).sort("close_utc").group_by("symbol").last().collect()
    night(ForecastTable(folder / "forecasts"), last, as_of.session, as_of.close_utc)
    return ServeSettings(
        store=folder / "store", forecasts=folder / "forecasts", port=0, requests_per_second=1e6
    )


def night(table: ForecastTable, last: pl.DataFrame, day: object, as_of: datetime) -> None:
    """A made-up night of every symbol, in the columns of a real one."""
    run_id, model_id = "b" * 16, "c" * 16
    keys = last.select("symbol", pl.col("close").alias("last_close")).sort("symbol").with_columns(
        pl.lit(run_id).alias("run_id"), pl.lit(model_id).alias("model_id"),
        pl.lit(day).alias("as_of_date"), pl.lit(as_of).alias("as_of"), pl.lit("1d").alias("freq"),
        pl.lit("XNYS").alias("venue"), pl.lit(PATHS).alias("n_paths"),
        pl.lit(as_of).alias("data_through"), pl.lit("as given").alias("price_basis"),
        pl.lit(0).alias("flags"), pl.lit("as sampled").alias("published"),
        pl.lit(HORIZON).alias("horizon"), pl.lit(0).alias("floored"),
        pl.lit(0.015).alias("path_volatility"), pl.lit(0.05).alias("expected_drawdown"),
    )  # fmt: skip
    rng = np.random.default_rng(6)
    steps = keys.join(pl.DataFrame({"step": np.arange(1, HORIZON + 1)}), how="cross")
    names = ("open", "high", "low", "close", "volume", "amount")
    levels = {"mean": 0.0, "std": 0.0, "q05": -1.6, "q10": -1.3, "q25": -0.7, "q50": 0.0,
              "q75": 0.7, "q90": 1.3, "q95": 1.6}  # fmt: skip
    drift = rng.normal(0, 0.01, steps.height)
    steps = steps.with_columns(
        pl.lit(datetime(2023, 6, 1)).dt.offset_by("1d").alias("timestamp"),
        pl.Series("p_up", rng.random(steps.height)),
        *(
            (pl.col("last_close") * (1 + pl.Series(drift) + 0.015 * z * pl.col("step").sqrt()))
            .alias(f"{name}_{level}")
            for name in names for level, z in levels.items()
        ),
    )  # fmt: skip
    frames = {
        "steps": whole(steps, STEPS_SCHEMA), "path_stats": whole(keys, PATH_STATS_SCHEMA),
    }  # fmt: skip
    done = table.commit(run_id, model_id, day, frames)  # type: ignore[arg-type]
    now = datetime.now(UTC)
    count = keys.height
    table.write_run(
        RunRecord(
            run_id=run_id, model_id=model_id, model="made-up", status="finished", started_at=now,
            identity={}, settings={"horizon": HORIZON, "paths": PATHS},
            history={"root": "", "version": "", "venue": "XNYS", "freq": "1d"},
            dates=(DateRecord(as_of=as_of, as_of_date=day, eligible=count, forecast=count,
                              in_sample=False, versions=done.versions),),
        )
    )  # fmt: skip
    table.publish(
        Published(model_id=model_id, model="made-up", venue="XNYS", freq="1d", run_id=run_id,
                  as_of=as_of, as_of_date=day, forecasts=count, versions=done.versions)
    )  # fmt: skip


def whole(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    missing = [pl.lit(None, dtype=t).alias(n) for n, t in schema.items() if n not in frame.columns]
    return frame.with_columns(missing).select(schema.names()).cast(schema)


@contextmanager
def serving(settings: ServeSettings) -> Iterator[Listening]:
    listening = prepare(settings, Access(1, 1, TOKEN))
    thread = threading.Thread(target=listening.run)
    thread.start()
    try:
        yield listening
    finally:
        listening.server.should_exit = True
        thread.join()


def asked(listening: Listening, path: str, **headers: str) -> tuple[float, float, int]:
    """Milliseconds to the first byte of the body and to the last, and bytes on the wire."""
    host, port = listening.address.removeprefix("http://").split(":")
    line = http.client.HTTPConnection(host, int(port), timeout=60)
    begun = time.perf_counter()
    line.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}", **headers})
    answer = line.getresponse()
    first = answer.read(1)
    at = time.perf_counter()
    size = len(first + answer.read())
    end = time.perf_counter()
    line.close()
    if answer.status != 200:
        sys.exit(f"{path}: {answer.status}")
    return 1e3 * (at - begun), 1e3 * (end - begun), size


def pages(listening: Listening, rounds: int) -> None:
    cold, _, _ = asked(listening, "/universe")
    print(f"first universe page of a night (reads it): {cold:,.0f} ms")
    asked(listening, "/symbol?name=S00003")
    print(f"{'page':44} {'first byte, ms':>22} {'CPU, ms':>8} {'KB':>8} {'gzip':>7}")
    for path in ("/universe", "/universe?sort=p_up&down=true", "/universe?search=S0423",
                 "/universe?sort=width&page=57", "/symbol?name=S00003", "/symbol?name=S00007",
                 "/", "/data"):  # fmt: skip
        before = time.process_time()
        seen = [asked(listening, path) for _ in range(4 * rounds)]
        cpu = 1e3 * (time.process_time() - before) / len(seen)
        size = asked(listening, path, **{"Accept-Encoding": "gzip"})[2]
        times = [each[0] for each in seen]
        span = f"{statistics.median(times):.0f} (most {max(times):.0f})"
        print(f"{path:44} {span:>22} {cpu:8.0f} {seen[0][2] / 1e3:8.0f} {size / 1e3:7.0f}")
    static = sum(asked(listening, f"/static/{name}")[2] for name in
                 ("tear_sheet.css", "console.css", "htmx.min.js", "console.js"))  # fmt: skip
    print(f"styles and scripts of the universe page: {static / 1e3:.0f} KB")


def on_demand(settings: ServeSettings, rounds: int) -> None:
    history = MarketHistory.open(settings.store)
    requests = [
        ForecastRequest(symbol=f"S{k:05d}", lookback=LOOKBACK, horizon=HORIZON, paths=PATHS)
        for k in range(AT_ONCE)
    ]
    work = [window_of(each, settings, history, settings.model) for each in requests]
    models = LocalModels((settings.model,))
    ask, tasks = work[0][0], [task for _, task in work]
    many = (tasks * 4)[:64]
    models(ask, tasks)  # loads, and warms up

    with serving(settings) as listening:
        bodies = [each.model_dump_json(exclude_none=True) for each in requests]
        ask_one = poster(listening)
        ask_one(bodies[0])
        warm = min(timed(lambda: ask_one(bodies[1])) for _ in range(rounds))
        steps = AT_ONCE * PATHS * HORIZON
        best: dict[str, float] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in range(rounds):
                for name, run, amount in (
                    ("20 requests at once", lambda: list(pool.map(ask_one, bodies)), steps),
                    ("batch engine, the same 20", lambda: models(ask, tasks), steps),
                    ("batch engine, 64", lambda: models(ask, many), 64 * PATHS * HORIZON),
                ):  # fmt: skip
                    rate = amount / timed(run)
                    best[name] = max(rate, best.get(name, 0.0))
    print(f"one forecast on demand, warm ({settings.model}): {1e3 * warm:.0f} ms")
    for name, rate in best.items():
        print(f"{name:28} {rate:12,.0f} path-steps/s")
    served = best["20 requests at once"]
    for name in ("batch engine, the same 20", "batch engine, 64"):
        print(f"on demand / {name}: {served / best[name]:.2f}")


def poster(listening: Listening) -> Callable[[str], object]:
    host, port = listening.address.removeprefix("http://").split(":")

    def post(body: str) -> object:
        line = http.client.HTTPConnection(host, int(port), timeout=60)
        head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        line.request("POST", "/forecast", body=body, headers=head)
        answer = line.getresponse()
        told = json.loads(answer.read())
        if answer.status != 200:
            sys.exit(str(told))
        return told

    return post


def timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
