"""Forecast rows to scores. Knows the forecast table's columns, nothing of portfolios."""

from __future__ import annotations

import polars as pl

from backtest.settings import BacktestSettings
from market.errors import BacktestInputError

BAND_COLUMNS = ("close_q05", "close_q25", "close_q50", "close_q75", "close_q95")
"""Quantiles a fan chart draws, lowest first."""

FORECAST_COLUMNS = (
    "run_id",
    "model_id",
    "as_of_date",
    "as_of",
    "symbol",
    "step",
    "timestamp",
    "n_paths",
    "last_close",
    "data_through",
    "price_basis",
    "flags",
    "close_mean",
    *BAND_COLUMNS,
)
"""All a backtest reads of the forecast table."""

_LAST = pl.col("last_close")


def sampling_variance() -> pl.Expr:
    """Variance of an expected return that comes from its few paths: (standard deviation / last
    close)² / paths."""
    return (pl.col("close_std") / _LAST) ** 2 / pl.col("n_paths")


def _shrunk() -> pl.Expr:
    """The expected return drawn towards the date's mean by its share of sampling error: m + (x − m)
    · S / (S + e²), e² its sampling variance and S = max(Var(x) − mean e², 0) what is left of the
    variance across names (Efron & Morris 1975)."""
    value, noise = pl.col("close_mean") / _LAST - 1, sampling_variance()
    centre = value.mean().over("as_of")
    signal = (value.var().over("as_of") - noise.mean().over("as_of")).clip(0.0)
    share = pl.when(signal > 0).then(signal / (signal + noise)).otherwise(0.0)
    return centre + (value - centre) * share


SCORES: dict[str, tuple[tuple[str, ...], pl.Expr]] = {
    "expected_return": ((), pl.col("close_mean") / _LAST - 1),
    "median_return": ((), pl.col("close_q50") / _LAST - 1),
    "trimean_return": (
        (),
        (pl.col("close_q25") + 2 * pl.col("close_q50") + pl.col("close_q75")) / (4 * _LAST) - 1,
    ),
    "shrunk_return": (("close_std",), _shrunk()),
    "p_up": (("p_up",), pl.col("p_up")),
    "mean_over_std": (("close_std",), (pl.col("close_mean") - _LAST) / pl.col("close_std")),
    "quantile_spread": ((), (pl.col("close_q95") - pl.col("close_q05")) / _LAST),
    "volatility": (("close_std",), pl.col("close_std") / _LAST),
    "expected_drawdown": (("expected_drawdown",), pl.col("expected_drawdown")),
}
"""Scores of a path distribution at one step: (columns beyond FORECAST_COLUMNS, formula).

expected_return: mean close / last close − 1. median_return: of the median; trimean_return: of
Tukey's trimean (q25 + 2 q50 + q75) / 4: one wild path does not move them. shrunk_return: the
expected return less its sampling error, see `_shrunk`. p_up: share of paths above the last close.
mean_over_std: expected change / standard deviation over paths. quantile_spread: 5–95% width / last
close. volatility: standard deviation over paths / last close. expected_drawdown: mean of the paths'
deepest falls over the whole horizon, from the table of path statistics."""


def select_forecasts(forecasts: pl.DataFrame, settings: BacktestSettings) -> pl.DataFrame:
    """The rows to trade, checked: one model, no leak, no row twice, within start and end.

    A leak is a row that read bars after its own as_of (`data_through` > `as_of`). Every problem
    raises BacktestInputError naming the first symbol and date it was seen at.
    """
    missing = [name for name in FORECAST_COLUMNS if name not in forecasts.columns]
    if missing:
        raise BacktestInputError(
            f"forecasts lack the columns {', '.join(missing)}; found {', '.join(forecasts.columns)}"
        )
    extra = {name for columns, _ in SCORES.values() for name in columns}
    extra |= {"close_std", "published"}
    rows = forecasts.select(*FORECAST_COLUMNS, *sorted(extra & set(forecasts.columns)))
    for name in ("model_id", "run_id"):
        wanted = getattr(settings, name)
        if wanted is not None:
            rows = rows.filter(pl.col(name) == wanted)
            if rows.is_empty():
                found = sorted(forecasts[name].unique().drop_nulls())
                raise BacktestInputError(
                    f"no forecast has {name} {wanted}; the table holds {', '.join(found) or 'none'}"
                )
    models = sorted(rows["model_id"].unique().drop_nulls())
    if len(models) > 1:
        raise BacktestInputError(
            f"the table holds forecasts of {len(models)} models: {', '.join(models)}. "
            "Choose one with --model-id."
        )
    if settings.start is not None:
        rows = rows.filter(pl.col("as_of_date") >= settings.start)
    if settings.end is not None:
        rows = rows.filter(pl.col("as_of_date") <= settings.end)
    if rows.is_empty():
        raise BacktestInputError(
            "no forecast to trade"
            + (f" from {settings.start}" if settings.start else "")
            + (f" to {settings.end}" if settings.end else "")
            + ". Make some with 'candlecast forecast --as-of START:END:weekly'."
        )
    _refuse(
        rows,
        pl.any_horizontal(pl.col("as_of", "symbol", "step").is_null()),
        "has no as_of, symbol or step (rule: keys are never null)",
    )
    _refuse(
        rows,
        (pl.col("data_through") > pl.col("as_of")).fill_null(True),
        "read bars up to {data_through}, after its as_of {as_of} (rule: data_through <= as_of). "
        "Such a forecast saw the future; make it again from a clean store.",
    )
    _refuse(
        rows,
        (pl.col("as_of") - pl.col("data_through")).dt.total_days() > settings.max_age_days,
        f"read no bar after {{data_through}}, more than {settings.max_age_days} days before its "
        "as_of {as_of} (rule: max_age_days). A stale forecast trades on an old price; forecast "
        "again, or raise max_age_days.",
    )
    _refuse(
        rows,
        ~(pl.col("last_close").is_finite() & (pl.col("last_close") > 0)).fill_null(False),
        "has last_close {last_close} (rule: price > 0)",
    )
    _refuse(
        rows,
        rows.select("as_of", "symbol", "step").is_duplicated(),
        "has step {step} twice (rule: one row per as_of, symbol and step)",
    )
    return rows.sort("as_of", "symbol", "step")


def horizon_of(rows: pl.DataFrame, settings: BacktestSettings) -> int:
    """The step that is scored; every (as_of, symbol) must have it."""
    last = int(rows["step"].max())  # type: ignore[arg-type]
    horizon = last if settings.horizon is None else settings.horizon
    if horizon > last:
        raise BacktestInputError(
            f"horizon {horizon} asked, but the forecasts end at step {last}. Choose --horizon "
            f"{last} or less, or forecast further."
        )
    short = rows.filter((pl.col("step") == horizon).any().over("as_of", "symbol").not_())
    if short.height:
        row = short.row(0, named=True)
        raise BacktestInputError(
            f"{row['symbol']}: the forecast of {row['as_of_date']} has no step {horizon} (rule: "
            "every forecast reaches the horizon). Forecast all dates with one --horizon, or choose "
            "a smaller one."
        )
    return horizon


def score_column(rows: pl.DataFrame, horizon: int, score: str) -> pl.DataFrame:
    """One of SCORES at step `horizon`; a leading minus turns the ranking around.

    Returns one row per (as_of, symbol): as_of, as_of_date, symbol, score (NaN where the forecast
    has none: such a name is never bought), mean and deviation of the return where the table has
    them, last_close, flags; sorted by as_of, symbol.
    """
    sign, name = (-1.0, score[1:]) if score.startswith("-") else (1.0, score)
    needed, expression = SCORES[name]
    _have(rows, needed, f"score {name}")
    nothing = pl.lit(float("nan"))
    mean = pl.col("close_mean") / pl.col("last_close") - 1
    has_deviation = "close_std" in rows.columns
    return rows.filter(pl.col("step") == horizon).select(
        "as_of",
        "as_of_date",
        "symbol",
        (sign * expression).cast(pl.Float64).fill_null(float("nan")).alias("score"),
        mean.alias("mean"),
        (pl.col("close_std") / pl.col("last_close") if has_deviation else nothing).alias(
            "deviation"
        ),
        "last_close",
        "flags",
    )


def _have(rows: pl.DataFrame, needed: tuple[str, ...], purpose: str) -> None:
    missing = [name for name in needed if name not in rows.columns]
    if missing:
        raise BacktestInputError(f"{purpose} needs the columns {', '.join(missing)} of forecasts")


def _refuse(rows: pl.DataFrame, rule: pl.Expr | pl.Series, problem: str) -> None:
    broken = rows.filter(rule)
    if broken.height:
        row = broken.row(0, named=True)
        more = f" ({broken.height} such rows)" if broken.height > 1 else ""
        raise BacktestInputError(
            f"{row['symbol']}: the forecast of {row['as_of_date']} {problem.format(**row)}{more}"
        )


def path_returns(paths: pl.LazyFrame, rows: pl.DataFrame | None, horizon: int) -> pl.DataFrame:
    """as_of, symbol, returns: of every sample path, in order, from the last close to the horizon.

    paths: of the forecast table, PATHS_SCHEMA; those of the rows' own runs are read, no others.
    """
    assert rows is not None, "paths are those of forecasts"
    key = ["run_id", "as_of", "symbol"]
    own = rows.filter(pl.col("step") == horizon).select(*key, "last_close").lazy()
    return (
        paths.filter(pl.col("step") == horizon)
        .select(*key, "path", "close")
        .join(own, on=key)
        .sort("as_of", "symbol", "path")
        .group_by("as_of", "symbol", maintain_order=True)
        .agg((pl.col("close").cast(pl.Float64) / pl.col("last_close") - 1).alias("returns"))
        .collect()
    )
