"""Training and test spans that share nothing. Knows row numbers alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from market.errors import BacktestInputError


@dataclass(frozen=True)
class Fold:
    """Decision rows [train_start, train_end) to fit on, [test_start, test_end) to judge on."""

    train_start: int
    train_end: int
    test_start: int
    test_end: int


def folds(
    n_rows: int,
    *,
    train: int,
    test: int,
    horizon: int,
    purge: int | None = None,
    embargo: int = 0,
    expanding: bool = False,
) -> Iterator[Fold]:
    """Rolling folds, or with `expanding` folds that all start at row 0, through n_rows.

    A decision at row t is judged by what happens in rows t + 1 … t + horizon. So the last `purge`
    rows before a test belong to neither side (None: the horizon), and `embargo` more rows after
    them neither, against memory that outlasts the horizon: the outcome of every training decision
    is over before the first test decision (López de Prado 2018, ch. 7). With purge = 1 and horizon
    1, the row between train and test is dropped: its outcome is the first test row's bar.

    train: rows of the first training span, and of every one when rolling. test: rows per test; the
    last may be shorter. Raises BacktestInputError where purge < horizon or nothing fits.
    """
    gap = (horizon if purge is None else purge) + embargo
    if purge is not None and purge < horizon:
        raise BacktestInputError(
            f"purge {purge} is shorter than the horizon {horizon}: outcomes of the last training "
            "decisions would overlap the test. Choose purge >= horizon."
        )
    if min(train, test, horizon) < 1 or embargo < 0:
        raise BacktestInputError(
            f"train {train}, test {test}, horizon {horizon}, embargo {embargo}: rule train, test, "
            "horizon >= 1, embargo >= 0"
        )
    if train + gap >= n_rows:
        raise BacktestInputError(
            f"{n_rows} rows do not hold {train} of training, a gap of {gap} and a test. Choose a "
            "shorter training span."
        )
    start = train + gap
    while start < n_rows:
        end = start - gap
        yield Fold(0 if expanding else end - train, end, start, min(start + test, n_rows))
        start += test
