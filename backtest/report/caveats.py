"""What a reader must know before trusting the figures, in sentences. Computes no result."""

from __future__ import annotations

import numpy as np
import polars as pl

from backtest.figures.metrics import Time
from backtest.figures.noise import NOISY, sampling_noise
from backtest.figures.outside import Benchmark
from backtest.fills.prices import PriceTable
from backtest.report.words import day
from backtest.results import Book
from backtest.settings import BacktestSettings
from market.actions.suspects import find_suspects
from market.actions.table import no_actions
from market.flags import Flag

SUSPECTED = "SUSPECTED SPLITS"
"""How the caveat of `suspected` begins; a terminal shows it too."""


def caveats(
    rows: pl.DataFrame | None,
    scores: pl.DataFrame,
    prices: PriceTable,
    settings: BacktestSettings,
    strategy: Book,
    horizon: int,
    last_row: int,
    *,
    held_nothing: int = 0,
    left_out: int = 0,
) -> tuple[str, ...]:
    """Sentences for the tear sheet, those that hold of every backtest last.

    held_nothing: decisions with scores whose weights are all zero. left_out: rows of scores,
    weights or signals of names that had no bar in the session they were decided at.
    """
    found = [
        *_ruined(strategy),
        *_same_bar(settings),
        *_in_sample(scores),
        *(_calibration(rows) if rows is not None else ()),
        *_universe(scores, settings),
        *(_prices(rows, scores, prices) if rows is not None else ()),
        *(_noise(rows, horizon, settings) if rows is not None else ()),
        *_trading(prices, strategy, last_row),
        *_undecided(held_nothing, left_out),
        *_fees(strategy, settings),
    ]
    return (*found, *_always(settings, horizon))


def suspected(bars: pl.DataFrame, actions: pl.DataFrame | None = None) -> tuple[str, ...]:
    """A sentence on moves of the bars that look like splits nobody told of, whatever the scores.

    bars: raw rows of the lake; actions: symbol and session, which explain moves.
    """
    known = no_actions().select("symbol", "ex_date")
    if actions is not None and "session" in actions.columns:
        known = actions.select("symbol", pl.col("session").cast(pl.Date).alias("ex_date"))
    found = find_suspects(bars, known)
    if not found:
        return ()
    shown = "; ".join(str(each) for each in found[-3:])
    noun = "move looks like a split" if len(found) == 1 else "moves look like splits"
    sentence = (
        f"{SUSPECTED}: {len(found)} {noun} that no corporate action explains ({shown}). "
        "Returns, momentum, volatility and fills across them are wrong by the ratio; record them "
        "with 'candlecast data actions'."
    )
    return (sentence,)


def judged_by(against: Benchmark | None, labels_T: Time) -> tuple[str, ...]:
    """A sentence on the bars that a given benchmark has no value of."""
    if against is None or not against.missing:
        return ()
    last = labels_T[np.flatnonzero(against.own_T)[-1]]
    ends = "" if against.own_T[-1] else f" Its last is of {day(last)}."
    sentence = (
        f"Benchmark {against.name}: no new value on {against.missing:,} of {len(labels_T):,} bars; "
        "it is drawn at its last one there, and alpha, beta and all figures against it are of the "
        f"bars it has.{ends}"
    )
    return (sentence,)


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


def _ruined(strategy: Book) -> list[str]:
    if not strategy.metrics.ruined:
        return []
    last = strategy.daily["timestamp"][-1]
    sentence = (
        f"RUIN: on {last:%Y-%m-%d} nothing was left and the run ended. A dead account has no "
        "ratios."
    )
    return [sentence]


def _undecided(held_nothing: int, left_out: int) -> list[str]:
    found = []
    if held_nothing:
        found.append(
            f"Decisions that held nothing although names had scores: {held_nothing}. Too few names "
            "for a quantile, one score across both legs, none above the threshold, or no estimate "
            "of volatility."
        )
    if left_out:
        found.append(
            f"Rows of names that had no bar in their session: {left_out}. They were left out: a "
            "suspended name is not bought, and if held it is sold once it trades again."
        )
    return found


def _fees(strategy: Book, settings: BacktestSettings) -> list[str]:
    found = []
    totals = strategy.simulation.totals
    fixed = settings.costs.min_fee or settings.costs.commission_per_share or settings.costs.max_fee
    if fixed and totals["fees"] > 0.2 * settings.cash:
        found.append(
            f"Fees took {totals['fees'] / settings.cash:.0%} of the starting cash. min_fee, "
            "max_fee and commission_per_share are amounts in the currency of the prices: check "
            "that they are meant in it."
        )
    if totals.get("banded"):
        found.append(f"Changes within the no-trade band, not traded: {totals['banded']:.0f}.")
    return found


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
    elif settings.compat == "qlib":
        size = (
            "Sizes are 95% of the cash after the sales, spread over the names to buy at the prices "
            "of the fill bar, and limits are judged by that day's close, as Qlib does: both are "
            "known only later"
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
    elif settings.compat == "qlib":
        order = "sells go first, then buys as Qlib ranks them"
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


def _calibration(rows: pl.DataFrame) -> list[str]:
    """What the traded forecasts are, by number of dates."""
    if "published" not in rows.columns:
        return []
    kinds = rows.group_by("published").agg(pl.col("as_of").n_unique().alias("dates"))
    counts = {str(kind): n for kind, n in kinds.sort("dates", descending=True).iter_rows()}
    total = rows["as_of"].n_unique()
    own = counts.pop("as sampled", 0) + counts.pop("None", 0)
    short = counts.pop("uncalibrated", 0)
    found = []
    if own or short:
        found.append(
            f"UNCALIBRATED: on {own + short} of {total} forecast dates the model's paths were "
            "traded as sampled"
            + (f", on {short} of them because the past was too short" if short else "")
            + "; nothing says that their intervals and P(up) hold what they promise."
        )
    if counts:
        words = ", ".join(f"{kind} on {n}" for kind, n in counts.items())
        found.append(
            f"Calibration: of {total} forecast dates were traded {words}: what the CRPS of the "
            "dates before spoke for, fitted on outcomes known by then."
        )
    return found


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


def _noise(rows: pl.DataFrame, horizon: int, settings: BacktestSettings) -> list[str]:
    """How much of the spread of expected returns is that of few paths."""
    if settings.score.removeprefix("-") != "expected_return":
        return []
    share = sampling_noise(rows, horizon)["share"].to_numpy()
    if not len(share):
        return []
    usual, most = float(np.median(share)), float(share.max())
    warning = "NOISY SCORES: " if usual >= NOISY else ""
    advice = (
        " Forecast with more paths, or rank by median_return or shrunk_return."
        if usual >= NOISY
        else ""
    )
    sentence = (
        f"{warning}{min(usual, 1):.0%} of the variance of expected returns between names is "
        f"sampling error of few paths (median of the dates; at most {min(most, 1):.0%}).{advice}"
    )
    return [sentence]


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
