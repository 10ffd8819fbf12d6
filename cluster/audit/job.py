"""Sets up our own pipeline on a store and audits it. Prints nothing."""

from __future__ import annotations

from cluster.audit.harness import Audit, audit
from cluster.audit.memory import Memory
from cluster.audit.poison import World, no_actions
from cluster.audit.product import ProductPipeline, bars_of
from cluster.audit.settings import AuditSettings
from forecaster import load_forecaster
from forecaster.calibration import MIN_DATES
from market.errors import ForecastInputError
from market.lake.history import MarketHistory
from market.lake.universe import draw

TRADED_DATES = 3
AFTER_BARS = 10
"""Bars behind the moment that are poisoned; more would only cost time."""


def run_audit(settings: AuditSettings) -> Audit:
    """Raises ForecastInputError where the store holds too little before or after the moment."""
    history = MarketHistory.open(settings.store)
    moment = history.resolve_as_of(settings.as_of)
    per_day = max(1, round(_bars_per_session(history)))
    sessions = history.sessions()
    at = sessions.index(moment.session)
    horizon_days = -(-settings.horizon // per_day)
    needed = -(-settings.lookback // per_day) + MIN_DATES + 2 * horizon_days + 1
    if at < needed or at + horizon_days + 1 >= len(sessions):
        raise ForecastInputError(
            f"--as-of {moment.session}: an audit needs {needed} sessions before it and "
            f"{horizon_days + 2} after it; {settings.store} has {at} and "
            f"{len(sessions) - at - 1}"
        )
    begin = at - needed
    last = min(len(sessions) - 1, at + max(AFTER_BARS, horizon_days + 2))
    known = history.scan(start=sessions[begin], as_of=moment.close_utc)
    counts = known.select("symbol", "session").collect().group_by("symbol").len()
    most = counts["len"].max()
    whole = counts.filter(counts["len"] == most)["symbol"].to_list()
    symbols = tuple(sorted(draw(whole, moment, settings.symbols)))
    if len(symbols) < 3:
        raise ForecastInputError(
            f"--as-of {moment.session}: only {len(symbols)} symbols have a bar in each of the "
            f"{needed} sessions before it; an audit needs 3"
        )
    start = history.resolve_as_of(sessions[begin]).close_utc
    bars = bars_of(history, symbols, start)
    bars = bars.filter(bars["session"] <= sessions[last])
    loaded = load_forecaster(settings.model, settings.tokenizer, threads=1)
    first_past = at - MIN_DATES - horizon_days - TRADED_DATES
    pipeline = ProductPipeline(
        loaded=loaded,
        spec=history.spec,
        symbols=symbols,
        as_ofs=tuple(
            history.resolve_as_of(sessions[at - i]) for i in reversed(range(TRADED_DATES))
        ),
        past=tuple(history.resolve_as_of(sessions[i]) for i in range(first_past, at)),
        lookback=settings.lookback,
        horizon=settings.horizon,
        memory=Memory(settings.paths),
    )
    return audit(pipeline, World(bars, no_actions()), moment.close_utc)


def _bars_per_session(history: MarketHistory) -> float:
    most = history.symbols()["n_bars"].max()
    return float(most or 1) / max(1, len(history.sessions()))  # type: ignore[arg-type]
