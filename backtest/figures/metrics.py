"""What returns were worth. Knows arrays of equity and returns alone.

Conventions: returns are simple returns of the equity from close to close; the risk-free rate is
zero; "annualised" means × N (means) or × √N (deviations) with N = bars per year =
sessions per year × bars per session (`bars_per_year`), and years are bars / N. Fewer than
LEAST_SESSIONS sessions are not annualised. Figures that are not defined are NaN.

Legend: T bars.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Time = npt.NDArray[np.datetime64]

DAYS = 365.25
DAY_US = 8.64e10
"""Microseconds of a day."""
SESSIONS, EVERY_DAY = 252.0, 365.0
"""A year of a market with weekends, and of one without."""
USUAL_YEARS = (52.0, 26.0, 12.0, 4.0, 2.0, 1.0)
"""Weeks, fortnights, months, quarters, halves."""
LEAST_SESSIONS = 20
"""Figures over fewer sessions are not annualised: they would be mostly chance."""


def bars_per_year(
    labels_T: Time, sessions_T: Time | None = None, *, sessions_per_year: float | None = None
) -> float:
    """Sessions per year × bars per session: what one year of these bars holds.

    sessions_per_year: of the venue's calendar, for bars of a session or less. Without, a market
    that trades on most Saturdays and on most Sundays has 365, as has one of which no more is known
    than bars that went on through a midnight; any other has 252, however few bars there are: never
    the span from first to last label, which leaves out the last night or weekend.
    Bars further apart than sessions (weeks, months) count by their usual distance. sessions_T: the
    session of each bar; without, the date of its label. NaN without a bar.
    """
    if not len(labels_T):
        return float("nan")
    given = labels_T if sessions_T is None else sessions_T
    day_S, count_S = np.unique(given.astype("datetime64[D]"), return_counts=True)
    apart = np.diff(day_S).astype(np.int64)
    if len(apart) and np.median(apart) >= 5:
        counted = DAYS / float(np.median(apart) if len(apart) < 8 else np.mean(apart))
        usual = min(USUAL_YEARS, key=lambda year: abs(np.log(counted / year)))
        return usual if abs(counted / usual - 1) <= 0.1 else counted
    step = np.diff(labels_T.astype("datetime64[us]")).astype(np.float64)
    usual_step = float(np.median(step)) if len(step) else 0.0
    by_date = sessions_T is None or bool(
        (given.astype("datetime64[D]") == labels_T.astype("datetime64[D]")).all()
    )
    if by_date and _never_closes(labels_T, step, usual_step):
        return EVERY_DAY * round(DAY_US / usual_step)
    # The first and the last session may be cut, which only makes them shorter.
    inner = np.median(count_S[1:-1]) if len(count_S) > 2 else count_S.max()
    ends = count_S[[0, -1]]
    whole = np.concatenate((count_S[1:-1], ends[ends >= inner]))
    per_session = float(np.median(whole))
    years = sessions_per_year or _sessions_per_year(day_S, per_session, usual_step)
    return years * per_session


def _never_closes(labels_T: Time, step: Float, usual: float) -> bool:
    """Whether bars of less than a day go on through a midnight, and no whole day was seen."""
    days = len(np.unique(labels_T.astype("datetime64[D]")))
    return 1 < days <= 3 and 0 < usual < DAY_US / 2 and bool((step == usual).all())


def _sessions_per_year(day_S: Time, per_session: float, step_us: float) -> float:
    """365 for a market that is open on Saturdays and Sundays, else 252."""
    every = np.arange(day_S[0], day_S[-1] + 1)
    weekday = (every.astype(np.int64) + 3) % 7
    saturdays, sundays = every[weekday == 5], every[weekday == 6]
    if len(saturdays) and len(sundays):
        open_share = min(np.isin(each, day_S).mean() for each in (saturdays, sundays))
        return EVERY_DAY if open_share > 0.5 else SESSIONS
    # Too short to have seen a whole weekend: bars around the clock are a market that never closes.
    around = per_session > 1 and per_session * step_us >= 0.97 * DAY_US
    return EVERY_DAY if around else SESSIONS


def returns(equity_T: Float) -> Float:
    """Simple return of each bar, shape (T - 1,); 0 once nothing is left."""
    before_T = equity_T[:-1]
    left = before_T > 0
    return np.where(left, equity_T[1:] / np.where(left, before_T, 1.0) - 1, 0.0)


def drawdown(equity_T: Float) -> Float:
    """equity / highest equity so far − 1; 0 at a peak."""
    return equity_T / np.maximum.accumulate(equity_T) - 1


def longest_drawdown(equity_T: Float) -> int:
    """Bars of the longest spell below an earlier peak, a spell still open at the end included."""
    longest = spell = 0
    for below in drawdown(equity_T) < 0:
        spell = spell + 1 if below else 0
        longest = max(longest, spell)
    return longest


def cagr(equity_T: Float, years: float) -> float:
    """(last / first)^(1 / years) − 1; −1 where nothing is left. years: bars / bars per year."""
    if not years > 0:
        return float("nan")
    return float(max(equity_T[-1] / equity_T[0], 0.0) ** (1 / years) - 1)


def volatility(return_T: Float, periods: float) -> float:
    """Sample standard deviation (ddof 1) × √N."""
    return float(np.std(return_T, ddof=1) * np.sqrt(periods)) if len(return_T) > 1 else float("nan")


def sharpe(return_T: Float, periods: float) -> float:
    """Mean / sample deviation × √N (Sharpe 1994), risk-free rate zero."""
    deviation = volatility(return_T, periods)
    # Below rounding of the returns themselves there is no risk to divide by.
    if not deviation > 1e-12:
        return float("nan")
    return float(np.mean(return_T)) * periods / deviation


def sharpe_error(return_T: Float, periods: float) -> float:
    """Standard error of the annualised Sharpe ratio: √((1 + SR²/2) / T) × √N, SR per bar.

    Lo (2002), "The Statistics of Sharpe Ratios", eq. 9: returns independent and identically
    distributed. Fat tails and autocorrelation make the true error larger.
    """
    per_bar = sharpe(return_T, periods) / np.sqrt(periods)
    return float(np.sqrt((1 + per_bar**2 / 2) / len(return_T) * periods))


def sortino(return_T: Float, periods: float) -> float:
    """Mean / √(mean of min(return, 0)²) × √N (Sortino & van der Meer 1991), target zero."""
    downside = float(np.sqrt(np.mean(np.minimum(return_T, 0) ** 2))) if len(return_T) else 0.0
    if not downside > 0:
        return float("nan")
    return float(np.mean(return_T) / downside * np.sqrt(periods))


def hit_rate(return_T: Float) -> float:
    """Share of gains among the non-zero returns."""
    moved = return_T[return_T != 0]
    return float(np.mean(moved > 0)) if len(moved) else float("nan")


def calmar(growth: float, deepest: float) -> float:
    """CAGR / |maximum drawdown| (Young 1991); NaN without a drawdown."""
    return growth / -deepest if deepest < 0 else float("nan")


def value_at_risk(return_T: Float, share: float = 0.05) -> float:
    """The `share` quantile of the returns, linearly interpolated; a loss is negative."""
    return float(np.quantile(return_T, share)) if len(return_T) else float("nan")


def conditional_value_at_risk(return_T: Float, share: float = 0.05) -> float:
    """Mean of the lowest ⌊share · (T − 1)⌋ + 1 returns; a loss is negative."""
    if not len(return_T):
        return float("nan")
    worst = int(share * (len(return_T) - 1)) + 1
    return float(np.mean(np.partition(return_T, worst - 1)[:worst]))


def tail_ratio(return_T: Float) -> float:
    """|95% quantile| / |5% quantile| of the returns."""
    if not len(return_T):
        return float("nan")
    high, low = np.quantile(return_T, [0.95, 0.05])
    return float(abs(high) / abs(low)) if low != 0 else float("nan")


def moments(return_T: Float) -> tuple[float, float]:
    """(skew, kurtosis) of the population: m3 / m2^1.5 and m4 / m2², 0 and 3 for a normal law."""
    off = return_T - np.mean(return_T) if len(return_T) else return_T
    m2 = float(np.mean(off**2)) if len(off) else 0.0
    if not m2 > 1e-24:
        return float("nan"), float("nan")
    return float(np.mean(off**3)) / m2**1.5, float(np.mean(off**4)) / m2**2


def profit_factor(return_T: Float) -> float:
    """Sum of the gains / |sum of the losses|; NaN without a loss."""
    lost = -float(np.minimum(return_T, 0).sum())
    return float(np.maximum(return_T, 0).sum()) / lost if lost > 0 else float("nan")


def alpha_beta(return_T: Float, benchmark_T: Float, periods: float) -> tuple[float, float]:
    """(alpha, beta) against a benchmark: slope of a least-squares line, and intercept × N."""
    if len(return_T) < 2:
        return float("nan"), float("nan")
    spread = float(np.var(benchmark_T, ddof=1))
    if not spread > 1e-24:
        return float("nan"), float("nan")
    beta = float(np.cov(return_T, benchmark_T, ddof=1)[0, 1]) / spread
    return float(np.mean(return_T) - beta * np.mean(benchmark_T)) * periods, beta


def capacity(equity: float, growth: float, impact_drag: float) -> float:
    """Equity at which impact would eat all growth, in the currency of `equity`.

    growth: yearly return net of all costs; impact_drag: yearly cost of impact over equity. Under
    the square-root law the drag grows with √equity, so growth + drag = drag · √(capacity / equity).
    NaN without impact, 0 where nothing was earned before impact.
    """
    if not impact_drag > 0:
        return float("nan")
    return equity * (max(growth + impact_drag, 0.0) / impact_drag) ** 2
