"""A whole training run of a tokenizer, a predictor or a point model: series in, a folder out.

Knows the networks, how they are measured and chosen; nothing of where bars come from or how
many processes there are. A run is a folder: `metrics.jsonl`, `checkpoints/`, and at the end the
model in the published format with its `training.json`. Starting it again resumes where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file

from forecaster.hub import TRAINING_RECORD
from forecaster.kronos.checkpoint import WEIGHTS, content_hash
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.registry import cutoff_of, latest_cutoff
from forecaster.timellm.bootstrap import save_errors
from forecaster.timellm.model import PointModel
from forecaster.training.checkpoints import Checkpoints, require_same
from forecaster.training.config import PredictorTraining, TokenizerTraining, TrainingError
from forecaster.training.data.batches import WindowPlan
from forecaster.training.data.pools import (
    Pool,
    TrainingBatch,
    TrainingSeries,
    View,
    hash_of,
    validation_batches,
)
from forecaster.training.data.splits import split_series
from forecaster.training.forecast_validation import ForecastDate, forecast_dates, judge_forecasts
from forecaster.training.loop import CHECKPOINTS, Hooks, fit
from forecaster.training.objectives import (
    Model,
    Objective,
    PointObjective,
    PredictorObjective,
    TokenizerObjective,
)
from forecaster.training.process_group import Peers
from forecaster.training.publishing import install, require_writable
from forecaster.training.run_log import require_tensorboard
from forecaster.training.starting import require_same_bits, starting_model
from forecaster.training.surroundings import Surroundings
from forecaster.training.timellm_config import TimeLLMTraining
from forecaster.training.validation import (
    measure_points,
    measure_predictor,
    measure_tokenizer,
    validation_errors,
)

_MEASURED_AT_ONCE = 64


class TrainingRun:
    """A run, checked: everything that can be wrong before the first step has been looked at.

    start_from: folder or hub id of the weights to begin with. tokenizer: of a predictor's
    run, folder or hub id. bars: names the bars; None hashes them. Raises TrainingError or
    CheckpointError.
    """

    def __init__(
        self,
        settings: TokenizerTraining | PredictorTraining | TimeLLMTraining,
        series: Sequence[TrainingSeries],
        *,
        tokenizer: str | Path | None = None,
        start_from: str | Path | None = None,
        bars: str | None = None,
        world: int = 1,
    ) -> None:
        self.settings = settings
        self.world = world
        if settings.run.tensorboard:
            require_tensorboard()
        self.tokenizer = None
        if isinstance(settings, PredictorTraining):
            if tokenizer is None:
                raise TrainingError("a predictor needs a tokenizer: --tokenizer FOLDER_OR_ID")
            self.tokenizer = KronosTokenizer.from_pretrained(tokenizer)
        self.split = split_series(series, settings.data, settings.windows)
        torch.manual_seed(settings.seed)
        self.model = starting_model(settings, start_from)
        if self.tokenizer is not None and isinstance(self.model, Kronos):
            require_same_bits(self.model, self.tokenizer, start_from)
        eyes = self.tokenizer or self.model
        features = eyes.features if isinstance(eyes, KronosTokenizer) else "levels"
        self.view = View(features, settings.windows.clip)
        self.plan = WindowPlan(
            self.split,
            seed=settings.seed,
            batch_size=settings.optimiser.batch_size,
            simulated_share=settings.data.simulated_share,
            windows=settings.windows,
            world=world,
            accumulate=settings.optimiser.accumulate,
            features=features,
            coarser_share=0.0 if settings.data.coarser is None else settings.data.coarser.share,
        )
        self._sources = [str(each) for each in (start_from, tokenizer) if each is not None]
        self.identity = {
            "settings": settings.model_dump(mode="json"),
            "bars": bars or hash_of(series),
            "start weights": self._hash() if start_from is not None else "",
            "tokenizer": content_hash(self.tokenizer) if self.tokenizer is not None else "",
        }
        self._require_validation()

    def _hash(self) -> str:
        own = self.model
        return own.content_hash() if isinstance(own, PointModel) else content_hash(own)

    # -- what it is ------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        if isinstance(self.model, PointModel):
            return "point model"
        return "tokenizer" if isinstance(self.model, KronosTokenizer) else "predictor"

    @property
    def trained_through(self) -> date | None:
        """Last date that had a say in the weights, those begun with and the tokenizer's included;
        None where one of them does not say."""
        stated = self.settings.base_trained_through
        began_with = (cutoff_of(each) or stated for each in self._sources)
        return latest_cutoff(self.settings.seen_through, *began_with)

    def description(self) -> list[str]:
        """Lines about what will be trained on what."""
        counts = [
            f"{name}: {len(pool.symbols())} symbols, {pool.n_bars} bars in {len(pool.runs)} runs"
            for name, pool in self._trained_on().items()
            if pool.runs
        ]
        size = sum(p.numel() for p in self.model.parameters())
        optimiser = self.settings.optimiser
        work = (
            f"{self.kind} of {size:,} parameters; {optimiser.steps:,} steps of "
            f"{optimiser.batch_size} windows, {optimiser.steps / self.plan.steps_per_epoch:.2g} "
            f"epochs of {self.plan.windows:,}"
        )
        return [*counts, work]

    def _trained_on(self) -> dict[str, Pool]:
        split = self.split
        pools = {"training": split.train, "coarser": split.coarser, "simulated": split.simulated}
        return {name: pool for name, pool in pools.items() if pool.runs or name != "coarser"}

    def resumes_after(self, out: Path) -> int:
        """The step an interrupted run in this folder got to; 0 where there is none.

        Raises TrainingError where it is another run's.
        """
        about = Checkpoints(out / CHECKPOINTS, 1).newest()
        if about is None:
            if (out / WEIGHTS).exists():
                raise TrainingError(
                    f"{out}: holds a model that no checkpoint here belongs to; choose another --out"
                )
            return 0
        require_same(about, self.identity, self.world, out)
        return about.step

    def is_finished(self, out: Path) -> bool:
        """Whether the folder holds this very run, done."""
        done = self.resumes_after(out) == self.settings.optimiser.steps
        return done and (out / TRAINING_RECORD).is_file()

    # -- doing it --------------------------------------------------------------------------

    def train(self, out: Path, around: Surroundings) -> dict[str, float]:
        """Trains, or resumes, and publishes into `out`; the last figures.

        Every process of the group calls it; all but the first write nothing.
        """
        peers = around.peers
        if peers.first:
            require_writable(out)
        peers.wait()
        self.model.to(peers.device)
        if self.tokenizer is not None:
            self.tokenizer.to(peers.device).eval()
        if peers.rank:
            torch.manual_seed(_seed_of(self.settings.seed, peers.rank))
        outcome = fit(
            self._objective(peers),
            self.plan,
            self.settings.optimiser,
            self.settings.run,
            out,
            Hooks(
                validate=lambda model: self._validate(model, peers),
                score=self._score,
                publish=self._publish,
                report=around.report,
                reached=around.reached,
                require=around.require,
            ),
            identity=self.identity,
            peers=peers,
        )
        chosen = Checkpoints(out / CHECKPOINTS, 1).place(outcome.chosen)
        figures = self._finish(chosen, peers)
        if peers.first:
            around.require()
            install(chosen, out, figures)
        peers.wait()
        return figures

    def _require_validation(self) -> None:
        run = self.settings.run
        _ = self._dates  # raises where there is not a date to forecast from
        wanted = run.best_on if run.publish == "best" else None
        why = "run.publish: best"
        if isinstance(self.model, PointModel) and not self.validation.get("later"):
            wanted, why = "later", "a point model, whose paths are drawn from validation errors,"
        if wanted is not None and not self.validation.get(wanted):
            raise TrainingError(
                f"{why} needs {wanted} validation windows, and there are none of "
                f"lookback {max(self.settings.windows.lookbacks)} + horizon "
                f"{self.settings.windows.validation_horizon} up to "
                f"{self.settings.data.validation_through}. Import later bars, move "
                "data.validation_through, or set run.publish to last."
            )

    def _objective(self, peers: Peers) -> Objective:
        if isinstance(self.model, PointModel):
            return PointObjective(self.model)
        if isinstance(self.model, KronosTokenizer):
            assert isinstance(self.settings, TokenizerTraining)
            return TokenizerObjective(self.model, self.settings, peers)
        assert self.tokenizer is not None
        assert isinstance(self.settings, PredictorTraining)
        return PredictorObjective(self.model, self.tokenizer, self.settings)

    @cached_property
    def validation(self) -> dict[str, list[TrainingBatch]]:
        """Fixed windows at the longest lookback, by kind; kinds without a window are left out."""
        kinds = {"later": self.split.later, "held_out": self.split.held_out}
        drawn = {name: self._spread(pool) for name, pool in kinds.items()}
        return {name: batches for name, batches in drawn.items() if batches}

    @cached_property
    def _dates(self) -> list[ForecastDate]:
        run = self.settings.run
        if run.best_by == "loss":
            return []
        pool = self.split.later if run.best_on == "later" else self.split.held_out
        return forecast_dates(pool, self.settings.windows, run)

    def _spread(self, pool: Pool) -> list[TrainingBatch]:
        windows = self.settings.windows
        return validation_batches(
            pool,
            lookback=max(windows.lookbacks),
            horizon=windows.validation_horizon,
            view=self.view,
            count=self.settings.run.validation_windows,
            size=_MEASURED_AT_ONCE,
        )

    def _validate(self, model: Model, peers: Peers) -> dict[str, float]:
        figures = {
            f"{kind}_{name}": value
            for kind, batches in self.validation.items()
            for name, value in self.measure(model, batches, peers).items()
        }
        if self._dates and isinstance(model, Kronos) and self.tokenizer is not None:
            run, windows = self.settings.run, self.settings.windows
            judged = judge_forecasts(
                model, self.tokenizer, self._dates,
                paths=run.forecast_paths, clip=windows.clip, peers=peers,
            )  # fmt: skip
            figures |= {f"{run.best_on}_{name}": value for name, value in judged.items()}
        return figures

    def measure(
        self, model: Model, batches: Sequence[TrainingBatch], peers: Peers
    ) -> dict[str, float]:
        """The figures of the run's kind on given windows."""
        if isinstance(model, PointModel):
            return measure_points(model, batches, peers)
        if isinstance(model, KronosTokenizer):
            return measure_tokenizer(model, batches, peers)
        assert self.tokenizer is not None
        return measure_predictor(model, self.tokenizer, batches, peers)

    def _score(self, figures: Mapping[str, float]) -> float | None:
        run = self.settings.run
        loss = "ce" if isinstance(self.model, Kronos) else "loss"
        name = f"{run.best_on}_{loss if run.best_by == 'loss' else run.best_by}"
        value = figures.get(name)
        if value is None:
            return None
        return -value if run.best_by == "rank_ic" else value

    def _publish(self, model: Model, place: Path, figures: Mapping[str, float]) -> None:
        """Writes config.json, model.safetensors and the record of the run into a folder."""
        through = self.trained_through
        record = {
            "trained_through": None if through is None else through.isoformat(),
            "settings": self.settings.model_dump(mode="json"),
            "data": {
                name: {
                    "runs": len(pool.runs),
                    "bars": pool.n_bars,
                    "symbols": len(pool.symbols()),
                }
                for name, pool in self._trained_on().items()
            },
            "figures": dict(figures),
        }
        model.save_pretrained(place, half=self.settings.run.storage == "float16")
        if isinstance(model, PointModel):
            save_errors(validation_errors(model, self.validation["later"], self.split.later), place)
        (place / TRAINING_RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")

    def _finish(self, chosen: Path, peers: Peers) -> dict[str, float]:
        """The chosen weights' figures, with those on the test span, measured now for once."""
        record = json.loads((chosen / TRAINING_RECORD).read_text())
        figures: dict[str, float] = dict(record["figures"])
        stored = load_file(chosen / WEIGHTS)
        self.model.load_state_dict(
            {name: v.float() if v.is_floating_point() else v for name, v in stored.items()}
        )
        batches = self._spread(self.split.test)
        if batches:
            measured = self.measure(self.model, batches, peers)
            figures |= {f"test_{name}": value for name, value in measured.items()}
        return figures


def _seed_of(seed: int, rank: int) -> int:
    digest = hashlib.blake2b(f"rank:{seed}:{rank}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")
