"""Made-up markets and forecast tables with the columns of the real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

BANDS = {"q05": -0.06, "q25": -0.02, "q50": 0.0, "q75": 0.02, "q95": 0.06}
MODEL = "model-a"


@dataclass(frozen=True)
class Market:
    """Bars in the lake's schema and the matrices they were made from; NaN: no bar."""

    symbols: tuple[str, ...]
    days: tuple[date, ...]
    open_TN: np.ndarray
    close_TN: np.ndarray

    @property
    def bars(self) -> pl.DataFrame:
        rows, columns = np.nonzero(np.isfinite(self.close_TN))
        opens, closes = self.open_TN[rows, columns], self.close_TN[rows, columns]
        return (
            pl.DataFrame(
                {
                    "symbol": [self.symbols[c] for c in columns],
                    "session": [self.days[r] for r in rows],
                    "open": opens,
                    "high": np.maximum(opens, closes) * 1.01,
                    "low": np.minimum(opens, closes) * 0.99,
                    "close": closes,
                    "volume": np.full(len(rows), 1e6),
                }
            )
            .with_columns(
                pl.col("session").cast(pl.Datetime("us")).alias("timestamp"),
                (pl.col("session").cast(pl.Datetime("us")) + pl.duration(hours=21))
                .dt.replace_time_zone("UTC")
                .alias("close_utc"),
                (pl.col("volume") * pl.col("close")).alias("amount"),
                pl.lit(0, pl.Int32).alias("flags"),
            )
            .sort("symbol", "timestamp")
        )

    def forecasts(
        self,
        scores: Mapping[int, Sequence[float | None]],
        *,
        horizon: int = 5,
        flags: Mapping[int, int] | None = None,
        model_id: str = MODEL,
    ) -> pl.DataFrame:
        """A table whose scores at the horizon are the given ones, by row of the decision."""
        rows = []
        for t, row_scores in scores.items():
            day = self.days[t]
            close_utc = pl.Series([day]).cast(pl.Datetime("us")).dt.offset_by("21h")[0]
            for symbol, last, score in zip(self.symbols, self.close_TN[t], row_scores, strict=True):
                if not np.isfinite(last):
                    continue
                for step in range(1, horizon + 1):
                    drift = np.nan if score is None else score * step / horizon
                    label = self.days[t + step] if t + step < len(self.days) else None
                    rows.append(
                        {
                            "run_id": "run-1",
                            "model_id": model_id,
                            "as_of_date": day,
                            "as_of": close_utc,
                            "symbol": symbol,
                            "freq": "1d",
                            "venue": "XNYS",
                            "step": step,
                            "timestamp": label or day + timedelta(days=step),
                            "n_paths": 16,
                            "last_close": float(last),
                            "data_through": close_utc,
                            "price_basis": "as given",
                            "flags": (flags or {}).get(t, 0),
                            "close_mean": last * (1 + drift),
                        }
                        | {
                            f"close_{q}": last * (1 + drift + width * np.sqrt(step))
                            for q, width in BANDS.items()
                        }
                    )
        return pl.DataFrame(rows, infer_schema_length=None).with_columns(
            pl.col("timestamp").cast(pl.Datetime("us")),
            pl.col("as_of", "data_through").dt.replace_time_zone("UTC"),
            pl.col("step", "n_paths", "flags").cast(pl.Int32),
        )


def weekdays(n: int, first: date = date(2020, 1, 6)) -> tuple[date, ...]:
    days = (first + timedelta(days=i) for i in range(2 * n + 7))
    return tuple([day for day in days if day.weekday() < 5][:n])


def random_market(seed: int, n_days: int = 90, n_symbols: int = 12) -> Market:
    """A random walk with overnight gaps and some missing bars (never at a whole day)."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.015, (n_days, n_symbols)), axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0, 0.005, close.shape))
    halted = rng.random(close.shape) < 0.02
    halted[-1] = halted[0] = False
    halted[:, 0] = False
    open_[halted] = close[halted] = np.nan
    return Market(tuple(f"S{i:02d}" for i in range(n_symbols)), weekdays(n_days), open_, close)


def random_scores(market: Market, seed: int, rows: Sequence[int]) -> dict[int, list[float | None]]:
    rng = np.random.default_rng(seed)
    return {t: list(rng.normal(0, 0.03, len(market.symbols))) for t in rows}
