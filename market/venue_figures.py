"""Figures of trading at each venue: currency, ticks, lots, limits, taxes, usual commission.

Rules are the exchanges' and tax offices' published ones, named in each preset's `source`. The
commission is of a size that discount brokers ask, exchange fees with it; it was checked against no
broker's list of prices. They are defaults to start from, said on every page that uses them: fees
differ by broker, and rules by share class. Ticks are
today's unless a note says since when; taxes and limits have their dates.
"""

from __future__ import annotations

from datetime import date

from market.spec import ALWAYS_OPEN
from market.venue_rules import Board, Tax, VenuePreset

_CHINA_BOARDS = (
    Board("STAR", r"68[89]", 0.20),
    Board("ChiNext", r"30[012]", 0.10),
    Board("ChiNext", r"30[012]", 0.20, date(2020, 8, 24)),
    Board("Beijing", r"(43|8|92)", 0.30),
    Board("main", r"[069]\d{5}|2\d{5}", 0.10, date(1996, 12, 16)),
)
_EURO_TICKS = ((0.0, 0.001), (1.0, 0.002), (5.0, 0.005), (10.0, 0.01), (50.0, 0.05), (100.0, 0.1))
_HONG_KONG_TICKS = (
    *((0.0, 0.001), (0.25, 0.005), (0.5, 0.01), (20.0, 0.02), (50.0, 0.05), (100.0, 0.1)),
    *((200.0, 0.2), (500.0, 0.5), (1000.0, 1.0), (2000.0, 2.0), (5000.0, 5.0)),
)
_TOKYO_TICKS = (
    *((0.0, 1.0), (3_000.01, 5.0), (5_000.01, 10.0), (30_000.01, 50.0), (50_000.01, 100.0)),
    *((300_000.01, 500.0), (500_000.01, 1_000.0), (3_000_000.01, 5_000.0)),
)
_KOREA_TICKS = (
    *((0.0, 1.0), (2_000.0, 5.0), (5_000.0, 10.0), (20_000.0, 50.0), (50_000.0, 100.0)),
    *((200_000.0, 500.0), (500_000.0, 1_000.0)),
)
_INDIA_TICKS = ((0.0, 0.01), (250.0, 0.05), (1000.0, 0.1), (5000.0, 0.5), (10_000.0, 1.0),
                (20_000.0, 5.0))  # fmt: skip
_TURKEY_TICKS = ((0.0, 0.01), (20.0, 0.02), (50.0, 0.05), (100.0, 0.1), (250.0, 0.25),
                 (500.0, 0.5), (1000.0, 1.0), (2500.0, 2.5))  # fmt: skip
_TAIWAN_TICKS = ((0.0, 0.01), (10.0, 0.05), (50.0, 0.1), (100.0, 0.5), (500.0, 1.0), (1000.0, 5.0))

PRESETS: dict[str, VenuePreset] = {
    preset.code: preset
    for preset in (
        VenuePreset(ALWAYS_OPEN, None, ticks=(), lot=0.0, commission_bps=10.0,
                    note="spot taker fee of a large exchange; funding of perpetuals is not in it"),
        VenuePreset("24/5", None, ticks=(), lot=0.0, commission_bps=0.2,
                    note="spreads and swap points are not in it"),
        VenuePreset("XNYS", "USD", ticks=((0.0, 0.0001), (1.0, 0.01)),
                    taxes=(Tax(0.0, 0.224), Tax(0.0, 0.174, date(2013, 5, 25)),
                           Tax(0.0, 0.221, date(2014, 3, 18)), Tax(0.0, 0.051, date(2021, 2, 25)),
                           Tax(0.0, 0.229, date(2022, 5, 14)), Tax(0.0, 0.08, date(2023, 2, 27)),
                           Tax(0.0, 0.278, date(2024, 5, 22)), Tax(since=date(2025, 5, 14)),
                           Tax(0.0, 0.206, date(2026, 4, 4))),
                    commission_per_share=0.0035, min_fee=0.35,
                    note="the SEC's fee moved between 0.18 and 0.23 bps from 2014 to 2021",
                    source="Regulation NMS rule 612 (ticks); fee rate advisories under section 31 "
                    "of the Securities Exchange Act"),
        VenuePreset("XTSE", "CAD", ticks=((0.0, 0.005), (0.5, 0.01)), commission_per_share=0.01,
                    min_fee=1.0),
        VenuePreset("BVMF", "BRL", lot=100.0, commission_bps=3.0),
        VenuePreset("XMEX", "MXN", commission_bps=10.0),
        VenuePreset("XLON", "GBP", ticks=(), taxes=(Tax(50.0, 0.0),), commission_bps=5.0,
                    min_fee=1.0, note="London quotes most shares in pence: 100 to the pound; "
                    "ticks differ by share", source="Stamp duty reserve tax, Finance Act 1986"),
        VenuePreset("XFRA", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25),
        VenuePreset("XETR", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25),
        VenuePreset("XPAR", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25,
                    taxes=(Tax(), Tax(20.0, since=date(2012, 8, 1)),
                           Tax(30.0, since=date(2017, 1, 1)), Tax(40.0, since=date(2025, 4, 1))),
                    note="the purchase tax is that of French companies above 1 billion euros",
                    source="Code général des impôts, art. 235 ter ZD"),
        VenuePreset("XAMS", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25),
        VenuePreset("XBRU", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25),
        VenuePreset("XMAD", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25,
                    taxes=(Tax(), Tax(20.0, since=date(2021, 1, 16))),
                    note="the purchase tax is that of Spanish companies above 1 billion euros",
                    source="Ley 5/2020"),
        VenuePreset("XMIL", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25,
                    taxes=(Tax(), Tax(10.0, since=date(2013, 3, 1)),
                           Tax(20.0, since=date(2026, 1, 1))),
                    note="the purchase tax is that of Italian companies above 500 million euros",
                    source="Legge 228/2012, art. 1 c. 491; Legge 199/2025 (2026: doubled)"),
        VenuePreset("XSWX", "CHF", ticks=_EURO_TICKS, taxes=(Tax(7.5, 7.5),), commission_bps=5.0,
                    min_fee=1.5, source="Umsatzabgabe, Bundesgesetz über die Stempelabgaben"),
        VenuePreset("XSTO", "SEK", ticks=(), commission_bps=5.0, min_fee=10.0),
        VenuePreset("XBOM", "INR", ticks=_INDIA_TICKS,
                    taxes=(Tax(10.0, 10.0), Tax(11.5, 10.0, date(2020, 7, 1))),
                    commission_bps=3.0, note="delivery trades: transaction tax 10 bps each way and "
                    "stamp duty 1.5 bps buying; daily bands of single shares are not in it; ticks "
                    "are those since April 2025, 0.05 throughout before June 2024",
                    source="Finance (No. 2) Act 2004, ch. VII (STT); Indian Stamp Act, schedule I; "
                    "NSE circulars on tick sizes of 24 May 2024 and for 15 April 2025"),
        VenuePreset("XSHG", "CNY", lot=100.0, boards=_CHINA_BOARDS, t_plus_one=True,
                    taxes=(Tax(20.0, 20.0), Tax(10.0, 10.0, date(2005, 1, 24)),
                           Tax(30.0, 30.0, date(2007, 5, 30)), Tax(10.0, 10.0, date(2008, 4, 24)),
                           Tax(0.0, 10.0, date(2008, 9, 19)), Tax(0.0, 5.0, date(2023, 8, 28))),
                    commission_bps=2.5, min_fee=5.0,
                    note="shares under special treatment (ST) move 5% a day, and new listings are "
                    "free at first: their codes do not show it; STAR's least order is 200 shares",
                    source="trading rules of SSE, SZSE and BSE; stamp duty circulars of the "
                    "Ministry of Finance of 24 January 2005, 30 May 2007, 24 April and 19 "
                    "September 2008, and 27 August 2023"),
        VenuePreset("XHKG", "HKD", ticks=_HONG_KONG_TICKS, lot=0.0,
                    taxes=(Tax(10.0, 10.0), Tax(13.0, 13.0, date(2021, 8, 1)),
                           Tax(10.0, 10.0, date(2023, 11, 17))),
                    commission_bps=5.0, min_fee=15.0, note="board lots differ by share; ticks are "
                    "those since August 2025, 0.02 from 10 and 0.05 from 20 dollars before",
                    source="Stamp Duty Ordinance, cap. 117; HKEX second schedule, minimum spreads"),
        VenuePreset("XTAI", "TWD", ticks=_TAIWAN_TICKS, lot=1000.0,
                    boards=(Board("main", "", 0.07), Board("main", "", 0.10, date(2015, 6, 1))),
                    taxes=(Tax(0.0, 30.0),), commission_bps=14.25, min_fee=20.0,
                    source="Securities Transaction Tax Act, art. 2; TWSE operating rules, art. 62 "
                    "and 63"),
        VenuePreset("XTKS", "JPY", ticks=_TOKYO_TICKS, lot=100.0, commission_bps=5.0,
                    note="Tokyo's daily limits are amounts in yen by price, not fractions; shares "
                    "of the TOPIX 500 have finer ticks",
                    source="TSE business regulations, rule 14"),
        VenuePreset("XKRX", "KRW", ticks=_KOREA_TICKS,
                    boards=(Board("main", "", 0.15), Board("main", "", 0.30, date(2015, 6, 15))),
                    taxes=(Tax(0.0, 30.0), Tax(0.0, 25.0, date(2019, 6, 3)),
                           Tax(0.0, 23.0, date(2021, 1, 1)), Tax(0.0, 20.0, date(2023, 1, 1)),
                           Tax(0.0, 18.0, date(2024, 1, 1)), Tax(0.0, 15.0, date(2025, 1, 1)),
                           Tax(0.0, 20.0, date(2026, 1, 1))),
                    commission_bps=1.5, source="Securities Transaction Tax Act, enforcement decree "
                    "art. 5, with the special tax for rural development; KRX business regulations"),
        VenuePreset("XSES", "SGD", ticks=((0.0, 0.001), (0.2, 0.005), (1.0, 0.01)), lot=100.0,
                    commission_bps=8.0, min_fee=2.5),
        VenuePreset("XIDX", "IDR", ticks=((0.0, 1.0), (200.0, 2.0), (500.0, 5.0), (2000.0, 10.0),
                    (5000.0, 25.0)), lot=100.0, taxes=(Tax(0.0, 10.0),), commission_bps=15.0,
                    note="daily limits differ by price and are not in it",
                    source="Government Regulation 41/1994 (sales tax); IDX rule II-A"),
        VenuePreset("XBKK", "THB", ticks=((0.0, 0.01), (2.0, 0.02), (5.0, 0.05), (10.0, 0.1),
                    (25.0, 0.25), (100.0, 0.5), (200.0, 1.0), (400.0, 2.0)), lot=100.0,
                    boards=(Board("main", "", 0.30),), commission_bps=15.0),
        VenuePreset("XASX", "AUD", ticks=((0.0, 0.001), (0.1, 0.005), (2.0, 0.01)),
                    commission_bps=8.0, min_fee=5.0),
        VenuePreset("XIST", "TRY", ticks=_TURKEY_TICKS,
                    boards=(Board("main", "", 0.20), Board("main", "", 0.10, date(2020, 3, 13))),
                    commission_bps=10.0, source="Borsa Istanbul announcements of 13 March 2020 "
                    "(margins) and of August 2023 (ticks above 250 lira)"),
        VenuePreset("XSAU", "SAR", boards=(Board("main", "", 0.10),), commission_bps=15.5,
                    ticks=((0.0, 0.01), (10.0, 0.02), (25.0, 0.05), (50.0, 0.1), (100.0, 0.2)),
                    note="ticks are those before July 2025; finer since; new listings move 30% in "
                    "their first three sessions",
                    source="Capital Market Authority, commission since 17 July 2016; Saudi "
                    "Exchange trading procedures"),
        VenuePreset("XMOS", "RUB", ticks=(), commission_bps=5.0),
        VenuePreset("XJSE", "ZAR", ticks=((0.0, 0.01),), taxes=(Tax(25.0, 0.0),),
                    commission_bps=10.0, note="Johannesburg quotes in cents: 100 to the rand",
                    source="Securities Transfer Tax Act 25 of 2007"),
        VenuePreset("CMES", "USD", ticks=(), commission_per_share=2.0,
                    note="per contract; multipliers and margins are not in it"),
    )
}  # fmt: skip
