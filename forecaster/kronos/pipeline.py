"""From bars in price units to sample paths in price units. Knows windows, normalisation and the
engine; nothing of storage, symbols' meaning or Ray.

`KronosPredictor` has the call signatures of the reference implementation; `KronosForecaster` is
what candlecast itself runs.

Legend: B series, S paths, L lookback, H horizon, T = L + H, C time features, F features.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from forecaster.interface import CLOSE, SamplePaths, SamplingParams, WindowBatch
from forecaster.kronos.checkpoint import content_hash
from forecaster.kronos.engine import TILE_SERIES, fixed_threads, generate
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.sampling import uniforms
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.normalize import CLIP, normalise, power_of_ten
from forecaster.repair import repair
from market.errors import CheckpointError, ForecastInputError
from market.fields import FEATURES, PRICES
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
        repair_bars: bool = True,
        tile_series: int = TILE_SERIES,
    ) -> None:
        """threads: CPU threads of torch while sampling; None keeps the caller's setting.

        tile_series: series computed together, the last tile padded: 16 for universes, 1 where
        calls bring few series. Bits are promised between calls of one tile.
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
        self.repair_bars = repair_bars
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

    def sample_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> SamplePaths:
        """Paths of every window; top-k and top-p both apply.

        A lookback + horizon beyond the context drops the oldest bars before normalising and sets
        LOOKBACK_TRIMMED. Prices and volumes below 1 are lifted by a power of ten while the model
        sees them, so that coins priced near 1e-5 keep their shape.
        """
        flags = Flag(0)
        room = self._max_context - windows.horizon
        if room < 2:
            raise ForecastInputError(
                f"horizon {windows.horizon} leaves no lookback in a context of "
                f"{self._max_context} tokens; ask for at most {self._max_context - 2} steps"
            )
        if windows.lookback > room:
            windows, flags = windows.last_bars(room), Flag.LOOKBACK_TRIMMED
        paths = self._sample(
            windows,
            n_paths,
            sampling,
            seed,
            factor_BF=power_of_ten(windows.values_BLF),
            reference_rule=False,
        )
        return replace(paths, flags_B=paths.flags_B | np.int32(flags))

    def _sample(
        self,
        windows: WindowBatch,
        n_paths: int,
        sampling: SamplingParams,
        seed: int,
        *,
        factor_BF: np.ndarray,
        reference_rule: bool,
        repair_bars: bool | None = None,
    ) -> SamplePaths:
        lifted = windows.values_BLF * factor_BF[:, None]
        x_BLF, loc, scale = normalise(lifted, self.clip)
        times = np.concatenate((windows.timestamps_BL, windows.future_BH), axis=1)
        u = uniforms(seed, windows.symbols, windows.as_of_B, n_paths, windows.horizon)
        with fixed_threads(self.threads):
            bars, _, _ = generate(
                self.tokenizer,
                self.predictor,
                torch.from_numpy(x_BLF).to(self.device),
                torch.from_numpy(time_features(times).astype(np.int64)).to(self.device),
                torch.from_numpy(u),
                sampling,
                self._max_context,
                reference_rule=reference_rule,
                tile_series=self.tile_series,
            )
        z = bars.cpu().numpy().astype(np.float64)
        loc, scale = loc / factor_BF, scale / factor_BF
        values = (z * scale[:, None, None] + loc[:, None, None]).astype(np.float32)
        last_close = windows.values_BLF[:, -1, CLOSE].astype(np.float64)
        repaired = np.zeros(len(windows), dtype=np.int64)
        if self.repair_bars if repair_bars is None else repair_bars:
            values, repaired = repair(values, last_close)
        return SamplePaths(
            symbols=windows.symbols,
            as_of_B=windows.as_of_B,
            values_BSHF=values,
            timestamps_BH=windows.future_BH,
            last_close_B=last_close,
            loc_BF=loc,
            scale_BF=scale,
            flags_B=np.where(repaired > 0, int(Flag.REPAIRED), 0).astype(np.int32),
            repaired_B=repaired,
        )


class KronosPredictor:
    """Drop-in for the reference's predictor: DataFrames in, the mean path out.

    `predict` and `predict_batch` keep its rules (top_p is ignored where top_k > 0, the lookback
    slides beyond max_context, prices are not rescaled, no bar is repaired). Without a seed every
    call draws fresh noise. `predict_paths` returns every path.
    """

    def __init__(
        self,
        model: Kronos,
        tokenizer: KronosTokenizer,
        device: str | None = None,
        max_context: int = 512,
        clip: float = CLIP,
    ) -> None:
        self.forecaster = KronosForecaster(
            tokenizer, model, max_context=max_context, clip=clip, device=device, tile_series=1
        )
        self.model, self.tokenizer = self.forecaster.predictor, self.forecaster.tokenizer
        self.device, self.max_context, self.clip = self.forecaster.device, max_context, clip

    def predict(
        self,
        df: pd.DataFrame,
        x_timestamp: TimeIndex,
        y_timestamp: TimeIndex,
        pred_len: int,
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        sample_count: int = 1,
        verbose: bool = True,
        *,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Mean of `sample_count` paths, indexed by y_timestamp: open … amount in price units.

        df: columns open, high, low, close and optionally volume, amount; one row per x_timestamp.
        T is the temperature. `verbose` is accepted for compatibility; there is nothing to wait for.
        Raises ForecastInputError for missing columns, NaN or lengths that do not match.
        """
        return self.predict_batch(
            [df],
            [x_timestamp],
            [y_timestamp],
            pred_len,
            T,
            top_k,
            top_p,
            sample_count,
            verbose,
            seed=seed,
        )[0]

    def predict_batch(
        self,
        df_list: Sequence[pd.DataFrame],
        x_timestamp_list: Sequence[TimeIndex],
        y_timestamp_list: Sequence[TimeIndex],
        pred_len: int,
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        sample_count: int = 1,
        verbose: bool = True,
        *,
        seed: int | None = None,
    ) -> list[pd.DataFrame]:
        """`predict` for several series of one lookback and horizon, in the order given.

        With a seed, series i draws the noise of the symbol named str(i).
        """
        import pandas as pd

        windows = _windows(df_list, x_timestamp_list, y_timestamp_list, pred_len)
        paths = self.forecaster._sample(
            windows,
            sample_count,
            SamplingParams(T, top_k, top_p),
            secrets.randbits(63) if seed is None else seed,
            factor_BF=np.ones((len(windows), len(FEATURES))),
            reference_rule=True,
            repair_bars=False,
        )
        mean_BHF = paths.values_BSHF.mean(axis=1)
        return [
            pd.DataFrame(mean, columns=list(FEATURES), index=pd.Index(y))
            for mean, y in zip(mean_BHF, y_timestamp_list, strict=True)
        ]

    def predict_paths(
        self,
        df: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp: TimeIndex | Sequence[TimeIndex],
        y_timestamp: TimeIndex | Sequence[TimeIndex],
        pred_len: int,
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        sample_count: int = 100,
        *,
        seed: int = 0,
        symbols: Sequence[str] | None = None,
        repair_bars: bool = True,
    ) -> SamplePaths:
        """Every path of one series or of several, (B, S, H, F) in price units.

        The same seed, symbol and last timestamp give the same paths, alone or in any batch; more
        paths extend fewer. Top-k and top-p both apply. Series are named "0", "1", … where no
        symbols are given.
        """
        import pandas as pd

        if isinstance(df, pd.DataFrame):
            df, x_timestamp, y_timestamp = [df], [x_timestamp], [y_timestamp]  # type: ignore[list-item]
        windows = _windows(df, x_timestamp, y_timestamp, pred_len, symbols)  # type: ignore[arg-type]
        forecaster = KronosForecaster(
            self.tokenizer,
            self.model,
            max_context=self.max_context,
            clip=self.clip,
            device=self.device,
            repair_bars=repair_bars,
            tile_series=1,
        )
        return forecaster.sample_paths(
            windows, n_paths=sample_count, sampling=SamplingParams(T, top_k, top_p), seed=seed
        )


def _windows(
    frames: Sequence[pd.DataFrame],
    x_times: Sequence[TimeIndex],
    y_times: Sequence[TimeIndex],
    horizon: int,
    symbols: Sequence[str] | None = None,
) -> WindowBatch:
    if not len(frames) == len(x_times) == len(y_times):
        raise ForecastInputError(
            f"{len(frames)} frames, {len(x_times)} x_timestamps and {len(y_times)} y_timestamps; "
            "give one of each per series"
        )
    names = tuple(symbols) if symbols is not None else tuple(str(i) for i in range(len(frames)))
    lengths = sorted({len(frame) for frame in frames})
    if len(lengths) != 1:
        raise ForecastInputError(
            f"series of lengths {lengths} in one batch; give equal lookbacks, or one call each"
        )
    x = np.stack(
        [_times(t, len(f), name) for t, f, name in zip(x_times, frames, names, strict=True)]
    )
    return WindowBatch(
        symbols=names,
        as_of_B=x[:, -1],
        values_BLF=np.stack([_features(f, name) for f, name in zip(frames, names, strict=True)]),
        timestamps_BL=x,
        future_BH=np.stack([_times(t, horizon, n) for t, n in zip(y_times, names, strict=True)]),
    )


def _times(times: TimeIndex, expected: int, name: str) -> np.ndarray:
    import pandas as pd

    index = pd.DatetimeIndex(times)
    if len(index) != expected:
        raise ForecastInputError(f"series {name}: {len(index)} timestamps for {expected} bars")
    return index.tz_localize(None).to_numpy().astype("datetime64[us]")


def _features(frame: pd.DataFrame, name: str) -> np.ndarray:
    """(L, F) float64; missing volume is 0, missing amount is volume × mean price."""
    missing = [column for column in PRICES if column not in frame.columns]
    if missing:
        raise ForecastInputError(
            f"series {name}: missing price column(s) {missing}; found {list(frame.columns)}"
        )
    prices = frame[list(PRICES)].to_numpy(dtype=np.float64)
    volume = (
        frame["volume"].to_numpy(dtype=np.float64) if "volume" in frame else np.zeros(len(frame))
    )
    if "amount" in frame and "volume" in frame:
        amount = frame["amount"].to_numpy(dtype=np.float64)
    else:
        amount = volume * prices.mean(axis=1)
    return np.column_stack((prices, volume, amount))
