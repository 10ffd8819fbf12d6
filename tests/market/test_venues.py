"""Names of venues, and what is assumed about trading there."""

from __future__ import annotations

from datetime import date

import pytest

from market import Label, StoreSpec
from market.errors import ConfigError
from market.exchange_sessions import bars_per_year, canonical_venue
from market.venues import Tax, quote_currency, venue_preset

DAY = date(2024, 1, 2)


@pytest.mark.parametrize(
    ("name", "code"),
    [("XNSE", "XBOM"), ("nse", "XBOM"), ("XSHE", "XSHG"), ("NASDAQ", "XNYS"), ("XNGS", "XNYS"),
     ("TWSE", "XTAI"), ("XETRA", "XETR"), ("Binance", "24/7"), ("24/7", "24/7")],
)  # fmt: skip
def test_every_usual_name_leads_to_a_calendar(name: str, code: str) -> None:
    assert canonical_venue(name) == code


@pytest.mark.parametrize(
    ("symbol", "day", "limits"),
    [
        # 10.05 × 0.9 = 9.045 and × 1.1 = 11.055: half up, which floats would round down
        ("600519.SH", DAY, (9.05, 11.06)),
        ("sz300750", DAY, (8.04, 12.06)),
        ("300750.XSHE", date(2020, 8, 21), (9.05, 11.06)),
        ("688981", DAY, (8.04, 12.06)),
        ("830799.BJ", DAY, (7.04, 13.07)),
        ("600519", date(1996, 1, 2), None),
    ],
)
def test_boards_limits_and_half_up_ticks(
    symbol: str, day: date, limits: tuple[float, float] | None
) -> None:
    assert venue_preset("XSHE").limit_prices(symbol, day, 10.05) == limits


def test_taxes_follow_their_dates() -> None:
    china = venue_preset("XSHG")
    assert china.tax(date(2023, 8, 25)).sell_bps == 10.0
    assert china.tax(date(2023, 8, 28)).sell_bps == 5.0
    assert china.tax(date(2007, 6, 1)) == Tax(30.0, 30.0, date(2007, 5, 30))
    assert len(china.taxes_in(date(2008, 1, 2), date(2009, 1, 5))) == 3
    assert china.limits_in("300750", date(2020, 1, 2), date(2021, 1, 4)) == (0.10, 0.20)
    assert venue_preset("XLON").tax(DAY).buy_bps == 50.0
    assert "T+1" in china.words(DAY)
    assert "5 bps selling" in china.words(DAY)


def test_ticks_follow_the_price() -> None:
    taiwan = venue_preset("TWSE")
    assert [taiwan.tick(price) for price in (9.9, 10, 99.9, 500, 1500)] == [0.01, 0.05, 0.1, 1, 5]
    assert venue_preset("24/7").tick(100) == 0.0


def test_a_venue_without_known_costs_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no usual costs are known for XKAR"):
        venue_preset("XKAR")


@pytest.mark.parametrize(
    ("symbol", "currency"),
    [("BTC/USDT", "USDT"), ("ETHBTC", "BTC"), ("ETH_BTC", "BTC"), ("AAPL", None)],
)  # fmt: skip
def test_quote_currency(symbol: str, currency: str | None) -> None:
    assert quote_currency(symbol) == currency


@pytest.mark.parametrize(
    ("venue", "freq", "bars"),
    [
        ("XNYS", "1d", 252),
        ("XNYS", "1h", 252 * 7),
        ("XSHG", "5min", 243 * 48),
        ("XBOM", "5min", 246 * 75),
        ("24/7", "1d", 365.25),
        ("24/7", "4h", 365.25 * 6),
        (None, "1d", 252),
    ],
)
def test_bars_of_a_year_come_from_the_calendar(venue: str | None, freq: str, bars: float) -> None:
    label = Label.SESSION if freq == "1d" else Label.START
    assert bars_per_year(StoreSpec(venue, freq, "UTC", label)) == pytest.approx(bars, rel=0.01)


def test_bars_of_a_year_are_not_guessed() -> None:
    with pytest.raises(ConfigError, match="periods-per-year"):
        bars_per_year(StoreSpec(None, "5min", "UTC", Label.START))
