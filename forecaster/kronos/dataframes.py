"""The reference's call signatures: DataFrames in, the mean path or every path out.

Knows pandas and `KronosForecaster`; nothing of storage or Ray.

Legend: B series, L lookback, H horizon, F features.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING

import numpy as np

from forecaster.interface import SamplePaths, SamplingParams, WindowBatch
from forecaster.kronos.pipeline import KronosForecaster
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.normalize import CLIP
from market.errors import ForecastInputError
from market.fields import FEATURES, PRICES

if TYPE_CHECKING:
    import pandas as pd

    TimeIndex = pd.Series | pd.DatetimeIndex


class KronosPredictor:
    """Drop-in for the reference's predictor: DataFrames in, the mean path out.

    `predict` and `predict_batch` keep its rules (top_p is ignored where top_k > 0, the lookback
    slides beyond max_context, prices are not rescaled, no path is anchored, no bar repaired).
    Without a seed every call draws fresh noise. `predict_paths` returns every path.

    >>> predictor = KronosPredictor(model, tokenizer, max_context=512)
    >>> mean = predictor.predict(df, x_timestamp, y_timestamp, pred_len=20, sample_count=16)
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
            tokenizer,
            model,
            max_context=max_context,
            clip=clip,
            device=device,
            repair_bars=False,
            anchor=False,
            tile_series=1,
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
        Raises ForecastInputError for missing columns, NaN, lengths that do not match, and times
        that are numbers or do not increase from the first known bar to the last future one.
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
        """`predict` for several series of one horizon, in the order given; lookbacks may differ.

        With a seed, series i draws the noise of the symbol named str(i).
        """
        import pandas as pd

        seed = secrets.randbits(63) if seed is None else seed

        def paths_of(windows: WindowBatch) -> SamplePaths:
            return SamplePaths.join(
                self.forecaster._sample(
                    windows,
                    sample_count,
                    SamplingParams(T, top_k, top_p),
                    seed,
                    lift=False,
                    reference_rule=True,
                )
            )

        any_price = self.tokenizer.features == "levels"  # a return needs a price above 0
        paths = _by_length(
            df_list, x_timestamp_list, y_timestamp_list, pred_len, None, paths_of, any_price
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
        top_p: float = 1.0,
        sample_count: int = 100,
        *,
        seed: int = 0,
        symbols: Sequence[str] | None = None,
        repair_bars: bool = True,
        anchor: bool = True,
    ) -> SamplePaths:
        """Every path of one series or of several, (B, S, H, F) in price units.

        The same seed, symbol and last timestamp give the same paths, alone or in any batch;
        lookbacks may differ. Top-k and top-p both apply; `anchor` as in `KronosForecaster`. Series
        are named "0", "1", … where no symbols are given.
        """
        import pandas as pd

        if isinstance(df, pd.DataFrame):
            df, x_timestamp, y_timestamp = [df], [x_timestamp], [y_timestamp]  # type: ignore[list-item]
        forecaster = copy(self.forecaster)
        forecaster.repair_bars = repair_bars
        forecaster.anchored = anchor and not self.tokenizer.starts_at_last_close
        sampling = SamplingParams(T, top_k, top_p)
        return _by_length(
            df,
            x_timestamp,  # type: ignore[arg-type]
            y_timestamp,  # type: ignore[arg-type]
            pred_len,
            symbols,
            lambda windows: forecaster.sample_paths(
                windows, n_paths=sample_count, sampling=sampling, seed=seed
            ),
        )


def _by_length(
    frames: Sequence[pd.DataFrame],
    x_times: Sequence[TimeIndex],
    y_times: Sequence[TimeIndex],
    horizon: int,
    symbols: Sequence[str] | None,
    paths_of: Callable[[WindowBatch], SamplePaths],
    any_price: bool = False,
) -> SamplePaths:
    """Paths of series of any lookbacks: one batch per length, nothing padded; order kept."""
    if not len(frames) == len(x_times) == len(y_times):
        raise ForecastInputError(
            f"{len(frames)} frames, {len(x_times)} x_timestamps and {len(y_times)} y_timestamps; "
            "give one of each per series"
        )
    if horizon < 1:
        raise ForecastInputError(f"pred_len={horizon}: must be at least 1 bar")
    if not len(frames):
        raise ForecastInputError("no series to forecast: the list of frames is empty")
    names = tuple(symbols) if symbols is not None else tuple(str(i) for i in range(len(frames)))
    length_B = np.array([len(frame) for frame in frames])
    order: list[int] = []
    parts = []
    for length in np.unique(length_B):
        rows = [int(i) for i in np.flatnonzero(length_B == length)]
        order += rows
        windows = _windows(
            [frames[i] for i in rows],
            [x_times[i] for i in rows],
            [y_times[i] for i in rows],
            [names[i] for i in rows],
            horizon,
            any_price,
        )
        parts.append(paths_of(windows))
    return SamplePaths.join(parts).rows(np.argsort(order))


def _windows(
    frames: Sequence[pd.DataFrame],
    x_times: Sequence[TimeIndex],
    y_times: Sequence[TimeIndex],
    names: Sequence[str],
    horizon: int,
    any_price: bool,
) -> WindowBatch:
    times = [
        _both_times(past, len(frame), future, horizon, name)
        for past, frame, future, name in zip(x_times, frames, y_times, names, strict=True)
    ]
    x = np.stack([past for past, _ in times])
    return WindowBatch(
        symbols=tuple(names),
        as_of_B=x[:, -1],
        values_BLF=np.stack([_features(f, name) for f, name in zip(frames, names, strict=True)]),
        timestamps_BL=x,
        future_BH=np.stack([future for _, future in times]),
        any_price=any_price,
    )


def _both_times(
    x_times: TimeIndex, n_bars: int, y_times: TimeIndex, horizon: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the known and of the future bars, local and without a time zone.

    Raises ForecastInputError where they are not times, or do not increase throughout.
    """
    past = _times(x_times, n_bars, name, "x_timestamp")
    future = _times(y_times, horizon, name, "y_timestamp")
    if (past.tz is None) != (future.tz is None):
        raise ForecastInputError(
            f"series {name}: one of x_timestamp and y_timestamp has a time zone, the other has "
            "none; give both with it, or both without"
        )
    for words, index in (("x_timestamp", past), ("y_timestamp", future)):
        falls = np.flatnonzero(index[1:] <= index[:-1])
        if len(falls):
            at = int(falls[0]) + 1
            raise ForecastInputError(
                f"series {name}: {words} must increase; {index[at]} follows {index[at - 1]} (bar "
                f"{at + 1}). Sort the frame by time, oldest first, and drop repeats"
            )
    if n_bars and horizon and future[0] <= past[-1]:
        raise ForecastInputError(
            f"series {name}: y_timestamp begins at {future[0]}, not after the last known bar "
            f"{past[-1]}; it names the bars to forecast"
        )
    local = [
        index.tz_localize(None).to_numpy().astype("datetime64[us]") for index in (past, future)
    ]
    return local[0], local[1]


def _times(times: TimeIndex, expected: int, name: str, what: str) -> pd.DatetimeIndex:
    import pandas as pd

    given = pd.Series(times)
    example = given.iloc[0] if len(given) else None
    if isinstance(example, (int, float, np.number)) and example == example:
        raise ForecastInputError(
            f"series {name}: {what} holds numbers ({given.dtype}, such as {example}), no times; "
            f"convert them first: {_advice(float(example))}"
        )
    try:
        index = pd.DatetimeIndex(pd.to_datetime(given))
    except (ValueError, TypeError, OverflowError) as error:
        raise ForecastInputError(
            f"series {name}: {what} holds no times ({str(error).splitlines()[0][:120]}); give a "
            "Series or DatetimeIndex of timestamps"
        ) from None
    if len(index) != expected:
        raise ForecastInputError(f"series {name}: {len(index)} timestamps for {expected} bars")
    missing = np.flatnonzero(index.isna())
    if len(missing):
        raise ForecastInputError(
            f"series {name}: {what} lacks a time at bar {int(missing[0]) + 1} (NaT); drop the bar"
        )
    return index


def _advice(value: float) -> str:
    """How to turn a number such as this one into times."""
    if 19000101 <= value <= 22001231:
        return "pd.to_datetime(x.astype(str), format='%Y%m%d')"
    for least, unit in ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (1e8, "s")):
        if value >= least:
            return f"pd.to_datetime(x, unit='{unit}')"
    return "pd.to_datetime(x, unit=...) with their unit"


def _features(frame: pd.DataFrame, name: str) -> np.ndarray:
    """(L, F) float64; missing volume is 0, missing amount is volume × mean price."""
    missing = [column for column in PRICES if column not in frame.columns]
    if missing:
        raise ForecastInputError(
            f"series {name}: missing price column(s) {missing}; found {list(frame.columns)}"
        )
    try:
        prices = frame[list(PRICES)].to_numpy(dtype=np.float64)
        volume = np.zeros(len(frame))
        if "volume" in frame:
            volume = frame["volume"].to_numpy(dtype=np.float64)
        if "amount" in frame and "volume" in frame:
            amount = frame["amount"].to_numpy(dtype=np.float64)
        else:
            amount = volume * prices.mean(axis=1)
    except (ValueError, TypeError) as error:
        raise ForecastInputError(
            f"series {name}: the bars hold something that is not a number "
            f"({str(error).splitlines()[0][:120]})"
        ) from None
    return np.column_stack((prices, volume, amount))
