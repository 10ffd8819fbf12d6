"""From bars in price units to sample paths in price units. Knows windows, normalisation and the
engine; nothing of storage, symbols' meaning or Ray.

`KronosForecaster` is what candlecast itself runs; `dataframes.KronosPredictor` has the call
signatures of the reference implementation.

Legend: B series, S paths, L lookback, H horizon, T = L + H, C time features, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from forecaster.features import code_windows
from forecaster.interface import (
    CLOSE,
    Overflow,
    Precision,
    SamplePaths,
    SamplingParams,
    WindowBatch,
)
from forecaster.kronos.both_ways import SampledBars, generate_both_ways
from forecaster.kronos.checkpoint import content_hash
from forecaster.kronos.engine import NUMERICS_VERSION, Engine
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tiles import Generated, Tile, generate, tile_for, tiles_in_flight
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.noise import uniforms
from forecaster.normalize import CLIP
from forecaster.repair import anchor_factor, repair
from market.errors import CheckpointError, ForecastInputError
from market.fields import PRICES
from market.flags import Flag
from market.windows import time_features

if TYPE_CHECKING:
    import pandas as pd

    TimeIndex = pd.Series | pd.DatetimeIndex


def default_device() -> str:
    """The accelerator torch sees, or the CPU."""
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class KronosForecaster:
    """Tokenizer and predictor behind the Forecaster interface."""

    def __init__(
        self,
        tokenizer: KronosTokenizer,
        predictor: Kronos,
        *,
        max_context: int = 512,
        clip: float = CLIP,
        device: str | None = None,
        threads: int | None = None,
        memory: int | None = None,
        precision: Precision = "float32",
        overflow: Overflow = "trim",
        repair_bars: bool = True,
        anchor: bool = True,
        tile_series: int | None = None,
    ) -> None:
        """threads: tiles computed at the same time on a CPU, each on one thread; None takes
        torch's setting. memory: bytes that tiles in flight may hold (see `tiles_in_flight`).
        Neither changes a result.

        precision: of matrices and caches, see `Engine`. overflow: what happens where lookback +
        horizon exceed the context: "trim" drops the oldest bars before normalising, "recompute"
        slides the window as the reference does, which costs a prefill per step.

        anchor: the four prices of every path are multiplied so that the decoder's error at the last
        known close, which is known when the forecast is made, does not shift them. Tokenizers that
        state `starts_at_last_close` need none and are left alone.

        tile_series: series computed together, the last tile padded; None takes `tile_for`'s,
        meant for universes, 1 suits calls that bring few series. Bits are promised between calls
        of one tile.
        """
        if (tokenizer.s1_bits, tokenizer.s2_bits) != (predictor.s1_bits, predictor.s2_bits):
            raise CheckpointError(
                f"the tokenizer has {tokenizer.s1_bits}+{tokenizer.s2_bits} bits, the predictor "
                f"{predictor.s1_bits}+{predictor.s2_bits} (keys: s1_bits, s2_bits in config.json); "
                "they do not belong together"
            )
        if tokenizer.s1_bits != tokenizer.s2_bits:
            raise CheckpointError(
                f"config.json: s1_bits={tokenizer.s1_bits} and s2_bits={tokenizer.s2_bits} differ; "
                "generation works on pairs of tokens of equal bits"
            )
        self.device = device or default_device()
        self.tokenizer = tokenizer.to(self.device).eval()
        self.predictor = predictor.to(self.device).eval()
        self.clip = clip
        self.threads = threads
        self.memory = memory
        self.precision: Precision = precision
        self.overflow: Overflow = overflow
        self.repair_bars = repair_bars
        self.anchored = anchor and not self.tokenizer.starts_at_last_close
        """Whether paths are moved to start at the last close."""
        self.tile_series = tile_series
        self._max_context = max_context

    @property
    def max_context(self) -> int:
        return self._max_context

    @cached_property
    def model_id(self) -> str:
        """Hash of both networks' weights and configs, the context and the clip."""
        extra = f"max_context={self._max_context} clip={self.clip}"
        return content_hash(self.tokenizer, self.predictor, extra=extra)

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.tokenizer, self.predictor, self._max_context, self.precision)

    def tile(self, n_paths: int, device: str | None = None) -> Tile:
        """Series × paths computed together on a device, this forecaster's where None."""
        kind = torch.device(device or self.device).type
        if self.tokenizer.features == "returns":
            n_paths = -(-n_paths // 2)  # the other half starts from the mirrored window
        tile = tile_for(n_paths, self.predictor.d_model, kind)
        return tile if self.tile_series is None else replace(tile, series=self.tile_series)

    def numerics(self, n_paths: int, device: str | None = None) -> dict[str, object]:
        tile = self.tile(n_paths, device)
        return {
            "version": NUMERICS_VERSION,
            "precision": self.precision,
            "overflow": self.overflow,
            "anchored": self.anchored,
            "device": torch.device(device or self.device).type,
            "tile": [tile.series, tile.paths],
        }

    def sample_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> SamplePaths:
        """Paths of every window; top-k and top-p both apply.

        A lookback + horizon beyond the context sets LOOKBACK_TRIMMED or CONTEXT_SLID, by
        `overflow`. Prices and volumes below 1 are lifted by a power of ten while the model sees
        them, so that coins priced near 1e-5 keep their shape.
        """
        return SamplePaths.join(
            self.stream_paths(windows, n_paths=n_paths, sampling=sampling, seed=seed)
        )

    def stream_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> Iterator[SamplePaths]:
        """`sample_paths` a tile of series at a time, in order: paths that the caller lets go after
        summarising take no memory."""
        flags = Flag(0)
        room = self._max_context - windows.horizon
        if room < 2:
            raise ForecastInputError(
                f"horizon {windows.horizon} leaves no lookback in a context of "
                f"{self._max_context} tokens; ask for at most {self._max_context - 2} steps"
            )
        if not len(windows):
            raise ForecastInputError("no series to forecast: the batch of windows is empty")
        if windows.lookback > room and self.overflow == "trim":
            windows, flags = windows.last_bars(room), Flag.LOOKBACK_TRIMMED
        elif windows.lookback > room:
            flags = Flag.CONTEXT_SLID
        for paths in self._sample(windows, n_paths, sampling, seed):
            yield replace(paths, flags_B=paths.flags_B | np.int32(flags))

    def _sample(
        self,
        windows: WindowBatch,
        n_paths: int,
        sampling: SamplingParams,
        seed: int,
        *,
        lift: bool = True,
        reference_rule: bool = False,
    ) -> Iterator[SamplePaths]:
        engine, horizon = self.engine, windows.horizon
        tile = self.tile(n_paths)
        threads = self.threads or torch.get_num_threads()
        if not self.device.startswith("cpu"):
            threads = 1
        coded = code_windows(self.tokenizer.features, windows.values_BLF, clip=self.clip, lift=lift)
        times = np.concatenate((windows.timestamps_BL, windows.future_BH), axis=1)

        def noise(rows: slice) -> torch.Tensor:
            symbols, as_of = windows.symbols[rows], windows.as_of_B[rows]
            return torch.from_numpy(uniforms(seed, symbols, as_of, n_paths, horizon))

        x_BLF = torch.from_numpy(coded.x_BLF).to(self.device)
        stamp_BTC = torch.from_numpy(time_features(times).astype(np.int64)).to(self.device)
        in_flight = tiles_in_flight(engine, tile, windows.lookback, horizon, threads, self.memory)
        parts: Iterator[Generated | SampledBars]
        if coded.mirror is None:
            parts = generate(
                engine, tile, x_BLF, stamp_BTC, noise, n_paths, sampling,
                in_flight=in_flight, reference_rule=reference_rule,
            )  # fmt: skip
        else:
            mirror_F = torch.tensor(coded.mirror, device=self.device)
            parts = generate_both_ways(
                engine, tile, x_BLF, mirror_F, stamp_BTC, noise, n_paths, sampling,
                in_flight=in_flight, reference_rule=reference_rule,
            )  # fmt: skip
        for part in parts:
            rows = part.rows
            exact = coded.bars(part.bars.cpu().numpy(), rows)
            last_close = windows.values_BLF[rows, -1, CLOSE].astype(np.float64)
            if self.anchored and isinstance(part, Generated):
                decoded = part.last[:, CLOSE].cpu().numpy().astype(np.float64)
                decoded = decoded * coded.scale_BF[rows, CLOSE] + coded.loc_BF[rows, CLOSE]
                factor = anchor_factor(decoded, last_close)
                exact[..., : len(PRICES)] *= factor[:, None, None, None]
            values = exact.astype(np.float32)
            repaired = np.zeros(len(values), dtype=np.int64)
            if self.repair_bars and not coded.legal:
                values, repaired = repair(values, last_close)
            yield SamplePaths(
                symbols=windows.symbols[rows],
                as_of_B=windows.as_of_B[rows],
                values_BSHF=values,
                timestamps_BH=windows.future_BH[rows],
                last_close_B=last_close,
                loc_BF=coded.loc_BF[rows],
                scale_BF=coded.scale_BF[rows],
                flags_B=np.where(repaired > 0, int(Flag.REPAIRED), 0).astype(np.int32),
                repaired_B=repaired,
            )
