"""How fast bars become windows, how busy replicas are, how they scale, and what it all weighs.

    python benchmarks/bench_stream.py windows [--symbols 5000 --bars 2500 --lookback 400 --stride 5]
    python benchmarks/bench_stream.py stages [--symbols 5000 --bars 2500 --lookback 400]
    python benchmarks/bench_stream.py nightly --bars-file FILE.parquet [--paths 96]
    python benchmarks/bench_stream.py scaling --bars-file FILE.parquet [--paths 32]

windows: the stages a forecast uses (lake -> one block per shard -> series -> windows in the actor);
every window is stacked into float64 batches (up to 64, L, 6), as replicas do; the last bars are
summed. `streaming` counts from the first block at an actor to the last one done, the other figure
the start of the actors' processes, too.
stages: a baseline over the same lake, so that everything but the model shows its rate.
nightly: `candlecast nightly` on real bars with two replicas: share of replica seconds spent on
tiles, and of the time with both at work, from first replica ready to last tile done.
scaling: the same work with one and with two one-thread replicas.
Peak memory is the sum of proportional set sizes (PSS) over all processes, once a second.
Prints one JSON line per measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from cluster.forecasting.batches import SERIES_PER_CALL
from cluster.forecasting.identity import digest
from cluster.forecasting.shards import Shard, ShardSymbol
from cluster.forecasting.stream import jobs_of_block, shard_dataset
from cluster.session import ray_session
from market.fields import FEATURES
from market.importing.files import import_frame
from market.lake.history import MarketHistory
from market.spec import Label, StoreSpec
from market.windows import rolling_windows, stack_windows

SPEC = StoreSpec(venue="24/7", freq="1d", tz="UTC", label=Label.START)


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Largest sum of PSS over this process and all its descendants, in GB, as `gb`; of this
    process alone as `driver_gb`."""
    found = {"gb": 0.0, "driver_gb": 0.0}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):  # reading maps of 25 processes is work, too
            found["gb"] = max(found["gb"], sum(map(_pss, _family())) / 1e9)
            found["driver_gb"] = max(found["driver_gb"], _pss(os.getpid()) / 1e9)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _family() -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    family, grown = {os.getpid()}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    return sorted(family)


def _pss(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return 0.0


class WindowActor:
    """Cuts every window of a shard's series and stacks them as replicas do, in float64."""

    def __init__(self, lookback: int, stride: int, batch: int) -> None:
        self._lookback, self._stride, self._batch = lookback, stride, batch

    def __call__(self, block: pa.Table) -> pa.Table:
        begun = time.time()
        total, checksum = 0, 0.0
        batch_WLF = np.empty((self._batch, self._lookback, len(FEATURES)))
        for job in jobs_of_block(block):
            windows = rolling_windows(job.series, self._lookback, stride=self._stride)
            for start in range(0, len(windows), self._batch):
                part = [(job.series, w) for w in windows[start : start + self._batch]]
                stacked_WLF = stack_windows(part, batch_WLF)
                checksum += float(stacked_WLF[:, -1].sum())
                total += len(stacked_WLF)
        return pa.table(
            {"windows": [total], "checksum": [checksum], "begun": [begun], "ended": [time.time()]}
        )


def bench_windows(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="candlecast-bench-") as folder:
        history = _random_lake(Path(folder) / "store", args.symbols, args.bars)
        as_of = history.resolve_as_of(history.sessions()[-1])
        names = sorted(history.symbols()["symbol"], key=lambda s: (history.bucket_of(s), s))
        shards = [
            Shard(
                key=digest(str(first).encode()),
                members=tuple(
                    ShardSymbol(s, (as_of,)) for s in names[first : first + args.shard_size]
                ),
                start=date(1970, 1, 1),
                as_of=as_of,
            )
            for first in range(0, len(names), args.shard_size)
        ]
        with peak_memory() as memory, ray_session(args.replicas, len(shards)) as replicas:
            from ray.data import ActorPoolStrategy

            begun = time.perf_counter()
            counted = (
                shard_dataset(history, shards, args.readers)
                .map_batches(
                    WindowActor,
                    fn_constructor_args=(args.lookback, args.stride, SERIES_PER_CALL),
                    batch_size=None,
                    batch_format="pyarrow",
                    num_cpus=1,
                    compute=ActorPoolStrategy(size=replicas),
                )
                .to_pandas()
            )
            seconds = time.perf_counter() - begun
        expected = args.symbols * ((args.bars - args.lookback) // args.stride + 1)
        windows = int(counted["windows"].sum())
        assert windows == expected, (windows, expected)
        streaming = float(counted["ended"].max() - counted["begun"].min())
        return {
            "windows": windows,
            "seconds": round(seconds, 2),
            "windows_per_s": round(windows / seconds),
            "streaming_s": round(streaming, 2),
            "streaming_windows_per_s": round(windows / streaming),
            "actors": replicas,
            "checksum": float(counted["checksum"].sum()),
            "peak_gb": round(memory["gb"], 2),
        }


def _random_lake(store: Path, symbols: int, bars: int) -> MarketHistory:
    """A lake of random walks, imported in a few pieces."""
    start = datetime(2015, 1, 1)
    labels = [start + timedelta(days=i) for i in range(bars)]
    rng = np.random.default_rng(0)
    MarketHistory.create(store, SPEC, symbols=symbols)
    for first in range(0, symbols, 1000):
        names = [f"S{i:06d}" for i in range(first, min(first + 1000, symbols))]
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, (len(names), bars)), axis=1)).reshape(-1)
        frame = pl.DataFrame(
            {
                "symbol": np.repeat(names, bars),
                "timestamp": pl.Series(labels * len(names), dtype=pl.Datetime("us")),
                "open": close,
                "high": close * 1.01,
                "low": close * 0.99,
                "close": close * 1.001,
                "volume": np.full(len(close), 1e5),
                "amount": close * 1e5,
            }
        )
        import_frame(frame, store, SPEC)
    return MarketHistory.open(store)


def bench_nightly(args: argparse.Namespace) -> dict[str, Any]:
    from cluster.night.job import run_nightly
    from cluster.night.settings import NightlySettings

    with tempfile.TemporaryDirectory(prefix="candlecast-bench-") as folder:
        drop = Path(folder) / "drop"
        drop.mkdir()
        (drop / "bars.parquet").symlink_to(args.bars_file.resolve())
        settings = NightlySettings.model_validate(
            {
                **{name: f"{folder}/{name}" for name in ("drop", "store", "out", "reports")},
                "as_of": args.as_of,
                "bars": {"venue": "XNYS", "freq": "1d"},
                "gate": {"max_quarantined": 1.0},
                "forecast": {"model": args.model, "paths": args.paths, "replicas": 2},
            }
        )
        with peak_memory() as memory:
            night = run_nightly(settings)
        made = night.forecast
        assert made is not None
        assert made.activity is not None
        span = made.activity.span
        assert span is not None
        return {
            "status": night.status,
            "forecasts": made.record.n_forecasts,
            "paths": args.paths,
            "seconds": round(night.seconds, 1),
            "generating_s": round(span[1] - span[0], 1),
            "utilisation": round(made.activity.utilisation(made.replicas), 4),
            "all_replicas_busy": round(made.activity.all_busy(made.replicas), 4),
            "peak_gb": round(memory["gb"], 2),
            "stages": {k: round(v, 2) for k, v in made.seconds.items()},
        }


def bench_stages(args: argparse.Namespace) -> dict[str, Any]:
    """Everything but the model: a baseline over a large lake, stage by stage."""
    from cluster.forecasting.job import run_forecast
    from cluster.settings import ForecastSettings

    with tempfile.TemporaryDirectory(prefix="candlecast-bench-") as folder:
        begun = time.perf_counter()
        history = _random_lake(Path(folder) / "store", args.symbols, args.bars)
        import_s = time.perf_counter() - begun
        settings = ForecastSettings(
            store=Path(folder) / "store",
            out=f"{folder}/out",
            as_of=str(history.sessions()[-1]),
            model="random-walk",
            lookback=args.lookback,
            paths=args.paths,
            replicas=2,
        )
        with peak_memory() as memory:
            made = run_forecast(settings)
        n, bars = made.record.n_forecasts, args.symbols * args.bars
        lake = sum(f.stat().st_size for f in (Path(folder) / "store").rglob("*.parquet"))
        table = sum(f.stat().st_size for f in (Path(folder) / "out").rglob("*.parquet"))
        return {
            "forecasts": n,
            "import_bars_per_s": round(bars / import_s),
            "lake_bytes_per_bar": round(lake / bars, 1),
            "plan_symbols_per_s": round(n / made.seconds["plan"]),
            "baseline_forecasts_per_s": round(n / made.seconds["forecast"]),
            "commit_rows_per_s": round(n * settings.horizon / made.seconds["commit"]),
            "table_bytes_per_forecast": round(table / n),
            "stages": {k: round(v, 2) for k, v in made.seconds.items()},
            "ms_per_symbol": round(1000 * sum(made.seconds.values()) / n, 2),
            "peak_gb": round(memory["gb"], 2),
            "driver_gb": round(memory["driver_gb"], 2),
        }


def bench_scaling(args: argparse.Namespace) -> dict[str, Any]:
    from cluster.forecasting.job import run_forecast
    from cluster.settings import ForecastSettings
    from market.importing.files import ImportOptions, import_files

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="candlecast-bench-") as folder:
        import_files([args.bars_file], f"{folder}/store", ImportOptions(venue="XNYS", freq="1d"))
        for replicas in (1, 2):
            settings = ForecastSettings(
                store=Path(folder) / "store",
                out=f"{folder}/out-{replicas}",
                as_of=args.as_of,
                universe="top:256",
                model=args.model,
                paths=args.paths,
                replicas=replicas,
            )
            made = run_forecast(settings)
            assert made.activity is not None
            span = made.activity.span
            assert span is not None
            rate = made.record.n_forecasts * args.paths / (span[1] - span[0])
            found[f"paths_per_s_{replicas}"] = round(rate, 1)
        found["ratio"] = round(found["paths_per_s_2"] / found["paths_per_s_1"], 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["windows", "stages", "nightly", "scaling"])
    parser.add_argument("--symbols", type=int, default=5000)
    parser.add_argument("--bars", type=int, default=2500)
    parser.add_argument("--lookback", type=int, default=400)
    parser.add_argument("--stride", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=2, help="window actors beside the reader")
    parser.add_argument("--shard-size", type=int, default=128, help="symbols per block")
    parser.add_argument("--readers", type=int, default=2, help="read tasks at a time")
    parser.add_argument("--bars-file", type=Path, help="Parquet of daily XNYS bars")
    parser.add_argument("--as-of", default="2016-06-30")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--paths", type=int, default=32)
    args = parser.parse_args()
    if args.what in ("nightly", "scaling") and args.bars_file is None:
        parser.error("--bars-file names the bars to forecast")
    measure = {
        "windows": bench_windows,
        "stages": bench_stages,
        "nightly": bench_nightly,
        "scaling": bench_scaling,
    }
    print(json.dumps({"what": args.what} | measure[args.what](args)), flush=True)


if __name__ == "__main__":
    main()
