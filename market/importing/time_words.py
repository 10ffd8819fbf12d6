"""Dates in words and signs that differ by country or program, rewritten in one usual way.

Knows texts; what the rewritten ones mean is time_text's affair. Every rule matches a whole way of
writing, so that other texts stay as they are.
"""

from __future__ import annotations

import polars as pl

_MONTHS = {
    "jan": "gen|ene|jän", "feb": "fév|fev", "mar": "mär|mrt|maa", "apr": "avr|abr",
    "may": "mai|mag|mei|maj|kvě", "jun": "juin|giu", "jul": "juil|lug", "aug": "aoû|aou|ago",
    "sep": "set|szep", "oct": "okt|ott|out", "dec": "déc|dez|dic",
}  # fmt: skip
"""How months begin in German, French, Spanish, Italian, Portuguese and Dutch, where not as in
English."""
_RULES = (
    (r"[\u00a0\u202f\u2009]", " "),
    (r"^(\d{4}) ?[年년] ?(\d{1,2}) ?[月월] ?(\d{1,2}) ?[日일]?", "${1}-${2}-${3}"),
    (r"^(\d{4})\. ?(\d{1,2})\. ?(\d{1,2})\.( |$)", "${1}-${2}-${3}${4}"),
    (r"^(\d{1,2})\. ?(\p{L}{3})", "${1} ${2}"),
    # 240102 09:30:00, as Finam writes it
    (r"^(\d\d)(\d\d)(\d\d) (\d\d:\d\d)", "${1}-${2}-${3} ${4}"),
    # Jan 02 09:30:00 EST 2024, as C writes it after the weekday
    (
        r"^([A-Za-z]{3}) +(\d{1,2}) (\d{1,2}:\d\d(?::\d\d)?)( [A-Z]{2,5})? (\d{4})$",
        "${1} ${2} ${5} ${3}${4}",
    ),
    (r"^([\d/.-]{8,10})[ T_](\d\d)-(\d\d)-(\d\d)$", "${1} ${2}:${3}:${4}"),
    (r"^([\d/.-]{8,10})[ T_](\d{1,2})\.(\d\d)$", "${1} ${2}:${3}"),
    (r"^([\d/.-]{8,10})[ T_](\d{1,2})\.(\d\d)\.(\d\d)$", "${1} ${2}:${3}:${4}"),
    # GMT-0500 (Eastern Standard Time), as browsers write it
    (r"([+-]\d{1,2}:?\d\d|Z|UTC|GMT) *\([\p{L} ]+\)$", "${1}"),
    (r"[(\[](UTC|GMT|[A-Z]{2,4})[)\]]$", " ${1}"),
)


def plain_words(text: pl.Series) -> pl.Series:
    """The same texts, written the usual way."""
    for pattern, plain in _RULES:
        text = text.str.replace_all(pattern, plain)
    if text.str.contains(r"\d[-/. ]*\p{L}{3}|^\p{L}{3}").any():
        for month, begins in _MONTHS.items():
            pattern = rf"(?i)(^|[\d\-/. ])(?:{begins})\p{{L}}*\.?([-/., ]+\d)"
            text = text.str.replace(pattern, f"${{1}}{month}${{2}}")
    return text
