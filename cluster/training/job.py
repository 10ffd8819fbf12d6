"""Training as a Ray Train job, from series to the page at the end. Prints nothing.

    lease     one driver per --out
    series    memory-mapped bars, built once per version of the lake
    check     everything that can be wrong, before a worker starts
    train     workers that step together; a killed one is replaced and all go on from the last
              checkpoint
    page      curves and examples as HTML

Killing it anywhere and running it again resumes from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cluster.session import require_cpus, training_session
from cluster.training.inputs import tokenizer_of, weights_of, with_folder
from cluster.training.places import RAY, RunPlace, at_hand
from cluster.training.progress import following
from cluster.training.request import TrainingRequest
from cluster.training.series import (
    SeriesSource,
    ensure,
    lake_source,
    packed_source,
    simulated_source,
)
from forecaster.hub import TRAINING_RECORD
from forecaster.training.checkpoints import Checkpoints
from forecaster.training.config import PredictorTraining, TokenizerTraining, TrainingError
from forecaster.training.data.series_file import open_series
from forecaster.training.loop import CHECKPOINTS
from forecaster.training.process_group import Peers
from forecaster.training.run import TrainingRun
from forecaster.training.surroundings import Surroundings
from forecaster.training.timellm_config import TimeLLMTraining
from market.errors import CandlecastError
from market.lake.history import MarketHistory
from market.lake.versions import lake_folder
from market.leases import LeaseLostError, hold
from market.storage import Folder

_MAX_FAILURES = 8
"""Lost workers or nodes that one command makes up for; the same command then resumes."""
_ATTEMPT = "attempt.json"
_STORES = "stores.json"
_PAGE = "training.html"
_LEASE = "training"


class TrainingJobError(CandlecastError):
    """The workers could not finish; running the same command again resumes."""


@dataclass(frozen=True)
class TrainingReport:
    """What a call found or did."""

    out: Path
    """Folder of the model; of a run at a URL, this machine's copy."""
    place: str
    """What --out named, as an absolute path or a URL."""
    figures: dict[str, float]
    page: str
    already_done: bool
    seconds: float


@dataclass(frozen=True)
class WorkerJob:
    """The job of every worker."""

    settings: TokenizerTraining | PredictorTraining | TimeLLMTraining
    series: tuple[str, ...]
    """Folders, or their names at the URL of `out`."""
    bars: str
    tokenizer: str | None
    start_from: str | None
    out: str
    attempt: str
    """Changes with every driver: a worker of a killed one must not write any more."""
    threads: int
    gpus: bool


def run_training(
    request: TrainingRequest, report: Callable[[str], None] = lambda line: None
) -> TrainingReport:
    """Train, or resume, and publish; safe to repeat.

    Raises CandlecastError for input that cannot be trained on, and where the workers fail for good.
    """
    from cluster.training.page import write_training_page

    began = time.monotonic()
    require_cpus(request.workers, request.threads, request.address, gpus=request.gpus)
    place = RunPlace.of(request.out)
    place.require_writable()
    with hold(place.home, _LEASE) as lease:
        place.fetch()
        out = place.local
        sources = _sources(request, place)
        job = WorkerJob(
            settings=with_folder(request.settings),
            series=tuple(str(source.folder) for source in sources),
            bars=", ".join(source.key for source in sources),
            tokenizer=tokenizer_of(request, place),
            start_from=weights_of(request, place),
            out=place.home.url,
            attempt=uuid.uuid4().hex,
            threads=request.threads,
            gpus=request.gpus,
        )
        checked: TrainingRun | None = None
        if all(source.is_built for source in sources):
            checked = _checked(job, request.workers)
        done = checked is not None and checked.is_finished(out)
        if not done:
            with training_session(
                request.workers, request.address, gpus=request.gpus, threads=request.threads
            ):
                for source in sources:
                    if not source.is_built:
                        report(f"building series of {source.key} in {source.folder}")
                        ensure(source)
                checked = checked or _checked(job, request.workers)
                done = checked.is_finished(out)
                if not done:
                    _announce(checked, out, request, report)
                    versions = {str(h.root): h.version for h in _histories(request, out)}
                    place.home.write(_STORES, json.dumps(versions).encode())
                    place.home.write(_ATTEMPT, json.dumps(job.attempt).encode())
                    _fit(job, place, request, report)
                    place.fetch()
        assert checked is not None
        lease.require()
        record = json.loads((out / TRAINING_RECORD).read_text())
        page = out / _PAGE
        if not (done and page.is_file()):
            write_training_page(checked, out, page, workers=request.workers)
            if place.remote:
                place.home.write(_PAGE, page.read_bytes())
        (place.home / RAY).remove_all()
        return TrainingReport(
            out, place.home.url, record["figures"], place.home.at(_PAGE), done,
            time.monotonic() - began,
        )  # fmt: skip


def _sources(request: TrainingRequest, place: RunPlace) -> list[SeriesSource]:
    simulated, out = request.settings.data.simulated, place.local
    histories = _histories(request, out)
    sources = [lake_source(history, out, alone=place.remote) for history in histories]
    if simulated is not None:
        sources.append(simulated_source(simulated, out))
    if place.remote:
        sources = [packed_source(source, place.home) for source in sources]
    if not sources:
        raise TrainingError(
            "no bars to train on: give --store with a history made by 'candlecast data import', or "
            "data.simulated in the config"
        )
    return sources


def _histories(request: TrainingRequest, out: Path) -> list[MarketHistory]:
    """The stores, at the versions a run in this folder began with: later imports change nothing."""
    begun = Checkpoints(out / CHECKPOINTS, 1).newest() is not None
    file = out / _STORES
    before: dict[str, str] = json.loads(file.read_text()) if begun and file.is_file() else {}
    return [
        MarketHistory.open(
            store, version=request.store_version or before.get(str(lake_folder(store)))
        )
        for store in request.stores
    ]


def _checked(job: WorkerJob, world: int) -> TrainingRun:
    series = [one for folder in job.series for one in open_series(Path(folder))]
    return TrainingRun(
        job.settings,
        series,
        tokenizer=job.tokenizer,
        start_from=job.start_from,
        bars=job.bars,
        world=world,
    )


def _announce(
    run: TrainingRun, out: Path, request: TrainingRequest, report: Callable[[str], None]
) -> None:
    for line in run.description():
        report(line)
    each = "a GPU" if request.gpus else f"{request.threads} thread(s)"
    report(f"{request.workers} worker(s) of {each} each")
    done = run.resumes_after(out)
    if done:
        report(f"going on after step {done} of {run.settings.optimiser.steps}")


def _fit(
    job: WorkerJob, place: RunPlace, request: TrainingRequest, report: Callable[[str], None]
) -> None:
    """Run the workers to the end."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = {"CPU": 1.0, "GPU": 1.0} if request.gpus else {"CPU": 1.0}
    trainer = TorchTrainer(
        work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if request.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=request.workers, use_gpu=request.gpus, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"attempt-{job.attempt}",
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            **place.ray_storage(),
        ),
    )
    with following(place, job.settings.optimiser.steps, report):
        try:
            trainer.fit()
        except Exception as error:
            _raise_what_a_worker_said(job)
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise TrainingJobError(
                f"{job.out}: the workers kept failing ({reason}); what was reached is kept, and "
                "the same command resumes it"
            ) from error
    _raise_what_a_worker_said(job)


def _raise_what_a_worker_said(job: WorkerJob) -> None:
    place = Folder(job.out)
    if place.exists(_failure(job)):
        raise TrainingError(json.loads(place.read(_failure(job))))


def _failure(job: WorkerJob) -> str:
    return f"{RAY}/failed-{job.attempt}.json"


def work(config: dict[str, Any]) -> None:
    """One worker, from series to the last checkpoint. What is wrong with the input it writes into
    the failure file: raised, it would only be tried again."""
    import ray.train
    import ray.train.torch
    import torch

    job: WorkerJob = config["job"]
    home = Folder(job.out)
    if home.exists(_failure(job)):  # by another worker, and the group was started again
        return
    torch.set_num_threads(job.threads)
    device = torch.device("cpu")
    if job.gpus:
        device = ray.train.torch.get_device()
        torch.cuda.set_device(device)
    peers = Peers.of_process_group(device)
    place = RunPlace.of(job.out, f"worker-{os.getpid()}")
    require = partial(_require_attempt, home, job.attempt)

    def reached(step: int) -> None:
        if peers.first and place.remote:
            require()
            place.keep()
        ray.train.report({"step": step})

    try:
        place.fetch()
        if place.remote:  # each process by itself: the rest is as in a folder of its own
            for folder in (*job.series, *filter(None, (job.tokenizer, job.start_from))):
                path = Path(folder)
                at_hand(home, f"{path.parent.name}/{path.name}")
        run = _checked(job, peers.world)
        run.train(place.local, Surroundings(peers=peers, reached=reached, require=require))
        if peers.first and place.remote:
            require()
            place.keep()
    except (CandlecastError, OSError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}; the last checkpoint is good"
        home.write(_failure(job), json.dumps(text).encode())
        if peers.world > 1:  # wakes those that wait for this worker
            torch.distributed.destroy_process_group()
    finally:
        place.close()


def _require_attempt(home: Folder, attempt: str) -> None:
    if json.loads(home.read(_ATTEMPT)) != attempt:
        raise LeaseLostError(f"{home}: another driver took over")
