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
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cluster.session import require_cpus, training_session
from cluster.training.progress import following
from cluster.training.request import TrainingRequest
from cluster.training.series import SeriesSource, ensure, lake_source, simulated_source
from forecaster.hub import TRAINING_RECORD
from forecaster.registry import KNOWN, TIMELLM, Part, cutoff_of, part_of
from forecaster.training.checkpoints import Checkpoints
from forecaster.training.config import PredictorTraining, TokenizerTraining, TrainingError
from forecaster.training.data.series_file import open_series
from forecaster.training.loop import CHECKPOINTS
from forecaster.training.process_group import Peers
from forecaster.training.publishing import require_writable
from forecaster.training.run import TrainingRun
from forecaster.training.surroundings import Surroundings
from forecaster.training.timellm_config import TimeLLMTraining
from market.errors import CandlecastError, CheckpointError
from market.lake.history import MarketHistory
from market.lake.versions import lake_folder
from market.leases import LeaseLostError, hold
from market.storage import Folder

_MAX_FAILURES = 8
"""Lost workers or nodes that one command makes up for; the same command then resumes."""
_ATTEMPT = "attempt.json"
_STORES = "stores.json"
_LEASE = "training"


class TrainingJobError(CandlecastError):
    """The workers could not finish; running the same command again resumes."""


@dataclass(frozen=True)
class TrainingReport:
    """What a call found or did."""

    out: Path
    figures: dict[str, float]
    page: Path
    already_done: bool
    seconds: float


@dataclass(frozen=True)
class WorkerJob:
    """The job of every worker."""

    settings: TokenizerTraining | PredictorTraining | TimeLLMTraining
    series: tuple[str, ...]
    """Folders."""
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
    out = request.out.resolve()
    require_writable(out)
    with hold(Folder(out), _LEASE) as lease:
        sources = _sources(request, out)
        tokenizer = _at_hand(request.tokenizer, "tokenizer", out)
        own: Part = "predictor" if isinstance(request.settings, PredictorTraining) else "tokenizer"
        start_from = request.start_from
        if isinstance(request.settings, TimeLLMTraining):
            start_from = start_from and str(Path(start_from.removeprefix(TIMELLM)).resolve())
        else:
            start_from = _at_hand(start_from, own, out)
        job = WorkerJob(
            settings=_with_folder(request.settings),
            series=tuple(str(source.folder) for source in sources),
            bars=", ".join(source.key for source in sources),
            tokenizer=tokenizer,
            start_from=start_from,
            out=str(out),
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
                    (out / _STORES).write_text(json.dumps(versions))
                    (out / _ATTEMPT).write_text(json.dumps(job.attempt))
                    _fit(job, request, report)
        assert checked is not None
        lease.require()
        record = json.loads((out / TRAINING_RECORD).read_text())
        page = out / "training.html"
        if not (done and page.is_file()):
            write_training_page(checked, out, page, workers=request.workers)
        shutil.rmtree(out / "ray", ignore_errors=True)
        return TrainingReport(out, record["figures"], page, done, time.monotonic() - began)


def _sources(request: TrainingRequest, out: Path) -> list[SeriesSource]:
    simulated = request.settings.data.simulated
    sources = [lake_source(history, out) for history in _histories(request, out)]
    if simulated is not None:
        sources.append(simulated_source(simulated, out))
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


def _at_hand(model: str | None, part: Part, out: Path) -> str | None:
    """A local folder of a model given by folder, alias or hub id; every worker can read it.

    Absolute: workers have a working directory of their own.
    """
    from forecaster.kronos.predictor import Kronos
    from forecaster.kronos.tokenizer import KronosTokenizer

    if model is None:
        return None
    if Path(model).is_dir():
        return str(Path(model).resolve())
    source = part_of(model, part)
    if Path(source).is_dir():
        return source
    if source.count("/") != 1 or source.startswith((".", "/")):
        raise CheckpointError(
            f"{source}: no such folder, not an alias ({', '.join(KNOWN)}), and not a hub id "
            "(owner/name)"
        )
    folder = out / "inputs" / source.replace("/", "--")
    if not (folder / TRAINING_RECORD).is_file():
        kind = KronosTokenizer if part == "tokenizer" else Kronos
        kind.from_pretrained(source).save_pretrained(folder)
        through = cutoff_of(source)
        known = None if through is None else through.isoformat()
        (folder / TRAINING_RECORD).write_text(json.dumps({"trained_through": known}))
    return str(folder)


def _with_folder(
    settings: TokenizerTraining | PredictorTraining | TimeLLMTraining,
) -> TokenizerTraining | PredictorTraining | TimeLLMTraining:
    """With the absolute folder of a language model given by a relative one, as for `_at_hand`."""
    if not isinstance(settings, TimeLLMTraining) or not Path(settings.model.backbone).is_dir():
        return settings
    folder = str(Path(settings.model.backbone).resolve())
    shape = settings.model.model_copy(update={"backbone": folder})
    return settings.model_copy(update={"model": shape})


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


def _fit(job: WorkerJob, request: TrainingRequest, report: Callable[[str], None]) -> None:
    """Run the workers to the end."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    out = Path(job.out)
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
            storage_path=str(out / "ray"),
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
        ),
    )
    with following(out, job.settings.optimiser.steps, report):
        try:
            trainer.fit()
        except Exception as error:
            _raise_what_a_worker_said(job)
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise TrainingJobError(
                f"{out}: the workers kept failing ({reason}); what was reached is kept, and the "
                "same command resumes it"
            ) from error
    _raise_what_a_worker_said(job)


def _raise_what_a_worker_said(job: WorkerJob) -> None:
    failed = _failure_file(job)
    if failed.is_file():
        raise TrainingError(json.loads(failed.read_text()))


def _failure_file(job: WorkerJob) -> Path:
    return Path(job.out) / "ray" / f"failed-{job.attempt}.json"


def work(config: dict[str, Any]) -> None:
    """One worker, from series to the last checkpoint. What is wrong with the input it writes into
    the failure file: raised, it would only be tried again."""
    import ray.train
    import ray.train.torch
    import torch

    job: WorkerJob = config["job"]
    out = Path(job.out)
    if _failure_file(job).is_file():  # by another worker, and the group was started again
        return
    torch.set_num_threads(job.threads)
    device = torch.device("cpu")
    if job.gpus:
        device = ray.train.torch.get_device()
        torch.cuda.set_device(device)
    peers = Peers.of_process_group(device)
    try:
        run = _checked(job, peers.world)
        run.train(
            out,
            Surroundings(
                peers=peers,
                reached=lambda step: ray.train.report({"step": step}),
                require=partial(_require_attempt, out, job.attempt),
            ),
        )
    except (CandlecastError, OSError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}; the last checkpoint is good"
        _failure_file(job).write_text(json.dumps(text))
        if peers.world > 1:  # wakes those that wait for this worker
            torch.distributed.destroy_process_group()


def _require_attempt(out: Path, attempt: str) -> None:
    if json.loads((out / _ATTEMPT).read_text()) != attempt:
        raise LeaseLostError(f"{out}: another driver took over")
