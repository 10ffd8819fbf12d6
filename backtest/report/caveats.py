"""What a reader must know before trusting the figures, in sentences. Computes no result."""

from __future__ import annotations

import numpy as np
import polars as pl

from backtest.fills.prices import PriceTable
from backtest.results import Book
from backtest.settings import BacktestSettings
from market.flags import Flag


def caveats(
    rows: pl.DataFrame | None,
    scores: pl.DataFrame,
    prices: PriceTable,
    settings: BacktestSettings,
    strategy: Book,
    horizon: int,
    last_row: int,
) -> tuple[str, ...]:
    """Sentences for the tear sheet, those that hold of every backtest last."""
    found = [
        *_same_bar(settings),
        *_in_sample(scores),
        *_universe(scores, settings),
        *(_prices(rows, scores, prices) if rows is not None else ()),
        *_trading(prices, strategy, last_row),
    ]
    return (*found, *_always(settings, horizon))


def _always(settings: BacktestSettings, horizon: int) -> list[str]:
    survivorship = (
        "Survivorship: the universe is the symbols the store holds. Names that had vanished before "
        "it was filled are missing, which flatters the strategy and both benchmarks alike."
    )
    trials = (
        f"Trials: {settings.trials} stated (--trials). The best of many tries looks good by luck; "
        "the deflated Sharpe ratio of the strategy allows for that many, the other figures do not."
    )
    errors = (
        f"Where returns over {horizon} bars overlap between dates, the t-statistic of the rank IC "
        "allows for it; the standard error of the Sharpe ratio assumes independent bars."
    )
    return [survivorship, trials, _fills(settings), _money(settings), errors]


def _same_bar(settings: BacktestSettings) -> list[str]:
    if settings.rules.lag > 0:
        return []
    sentence = (
        "SAME-BAR: filled at the very close each decision was made from (lag 0). Nobody can trade "
        "so; these results are a bound, not a backtest."
    )
    return [sentence]


def _fills(settings: BacktestSettings) -> str:
    rules = settings.rules
    when = "the same bar" if rules.lag == 0 else "the next bar"
    if rules.lag > 1:
        when = f"the {rules.lag}th bar after it"
    price = {"open": "open", "close": "close", "vwap": "mean of open, high, low and close"}
    if settings.compat == "vectorbt":
        size = (
            "Sizes are computed from the prices of the fill bar, as vectorbt does, so the shares "
            "bought depend on a price known only at the fill"
        )
    else:
        size = "Shares are fixed from the equity and the closes of the decision"
    volume = (
        f"no order takes more than {rules.participation:.0%} of the fill bar's volume"
        if rules.participation
        else "every order is assumed to fill in full whatever the volume"
    )
    return (
        f"Decided at the close of a date, filled at the {price[rules.fill]} of {when}. {size}; "
        f"{volume}."
    )


def _money(settings: BacktestSettings) -> str:
    cash = (
        f"Cash earns {settings.costs.cash_rate:.2%} a year."
        if settings.costs.cash_rate
        else "Cash earns nothing."
    )
    if settings.compat == "vectorbt":
        order = "the biggest sell goes first, the biggest buy last"
    else:
        order = "sells go first, then buys from the best score down"
    return (
        f"Sizing does not set cash aside for costs: {order}, and what cash cannot pay is cut. "
        f"{cash}"
    )


def _in_sample(scores: pl.DataFrame) -> list[str]:
    if (scores["flags"] & int(Flag.CUTOFF_UNKNOWN) != 0).any():
        sentence = (
            "TRAINING CUT-OFF UNKNOWN: the model does not state up to which date it was trained. "
            "Any of these dates may be in-sample; a training.json with trained_through beside its "
            "weights says which."
        )
        return [sentence]
    dates = scores.filter("in_sample")["as_of"].n_unique()
    if not dates:
        return []
    sentence = (
        f"IN-SAMPLE: {dates} of {scores['as_of'].n_unique()} forecast dates are not after the "
        "model's training cut-off. The model may have seen what followed; results of those dates "
        "prove nothing."
    )
    return [sentence]


def _universe(scores: pl.DataFrame, settings: BacktestSettings) -> list[str]:
    found = []
    smallest = int(scores.group_by("as_of").len()["len"].min())  # type: ignore[arg-type]
    strategy = settings.strategy
    if strategy.name in ("topk", "dropout") and strategy.k >= smallest:
        found.append(
            f"k = {strategy.k} is not smaller than the smallest universe ({smallest} names): there "
            "the strategy is the equal-weight benchmark."
        )
    unscored = scores.filter(pl.col("score").is_nan()).height
    if unscored:
        found.append(f"{unscored} of {scores.height} scores are missing; those were never bought.")
    return found


def _prices(rows: pl.DataFrame, scores: pl.DataFrame, prices: PriceTable) -> list[str]:
    found = []
    row_M = prices.rows_at(scores["as_of"].to_numpy())
    column_M = np.searchsorted(np.array(prices.symbols), scores["symbol"].to_numpy().astype(str))
    close_M, last_M = prices.close_TN[row_M, column_M], scores["last_close"].to_numpy()
    other = int((np.abs(close_M / last_M - 1) > 1e-6).sum())
    if other:
        found.append(
            f"{other} of {scores.height} forecasts were made from another last close than the "
            "store's bar at their date: bars were replaced since, or the store is another one."
        )
    repaired = rows.filter((pl.col("flags") & int(Flag.REPAIRED)) != 0)
    if repaired.height:
        series = repaired.select("as_of", "symbol").n_unique()
        found.append(f"{series} of {scores.height} forecasts hold sampled bars that were repaired.")
    basis = sorted(rows["price_basis"].drop_nulls().unique())
    if basis != ["adjusted"]:
        found.append(
            f"Prices are {', '.join(basis) or 'as given'}: unless the source adjusted them, "
            "dividends are missing from every return and splits look like losses."
        )
    return found


def _trading(prices: PriceTable, strategy: Book, last_row: int) -> list[str]:
    found = []
    gone = int(((prices.settle_row_N >= 0) & (prices.settle_row_N <= last_row)).sum())
    if gone:
        paid = strategy.orders.filter("settled").height
        found.append(
            f"Delisted names: {gone} in the bars, {paid} of them while the strategy held them; "
            "those were carried at their last close until they had been silent for longer than "
            "max_gap_sessions, then paid out at last close times recovery, without cost."
        )
    if strategy.untraded.height:
        reasons = strategy.untraded["reason"].value_counts(sort=True)
        words = ", ".join(f"{n} for {reason}" for reason, n in reasons.iter_rows())
        found.append(
            f"Wanted changes that did not trade, or not in full: {strategy.untraded.height} "
            f"({words}). What was held stayed held, what was wanted stayed in cash."
        )
    late = strategy.simulation.unfilled_decisions
    if late:
        found.append(f"Decided too late to fill within the bars: {late} rebalance.")
    if strategy.simulation.totals["calls"]:
        found.append(
            f"Margin calls: {strategy.simulation.totals['calls']:.0f}; each sold everything."
        )
    return found
