"""Made-up bars with many kinds of volatility."""

from __future__ import annotations

import numpy as np
import pytest

from market.processes import DAILY, SESSIONS, Session, simulate_processes


@pytest.mark.parametrize("session", [DAILY, *SESSIONS])
def test_bars_keep_every_rule(session: Session) -> None:
    for one in simulate_processes(3, 12, 400, session):
        open_, high, low, close, volume, amount = one.values_TF.T
        assert np.isfinite(one.values_TF).all()
        assert (low > 0).all()
        assert (low <= np.minimum(open_, close)).all()
        assert (high >= np.maximum(open_, close)).all()
        assert (volume >= 0).all()
        assert ((amount > 0) == (volume > 0)).all()
        assert (np.diff(one.timestamps_T) > np.timedelta64(0)).all()
        per_day = np.unique(one.timestamps_T.astype("datetime64[D]"), return_counts=True)[1]
        assert (per_day[:-1] == session.bars).all()


def test_the_same_seed_gives_the_same_bars_and_another_others() -> None:
    one, again, other = (simulate_processes(seed, 3, 100, DAILY) for seed in (1, 1, 2))
    for a, b, c in zip(one, again, other, strict=True):
        assert np.array_equal(a.values_TF, b.values_TF)
        assert not np.array_equal(a.values_TF, c.values_TF)


def test_volatility_clusters_and_direction_does_not() -> None:
    signs, sizes, drift = [], [], []
    for one in simulate_processes(5, 80, 1500, DAILY):
        moves = np.diff(np.log(one.values_TF[:, 3]))
        signs.append(np.corrcoef(np.sign(moves[1:]), np.sign(moves[:-1]))[0, 1])
        size = np.log(np.abs(moves) + 1e-4)
        sizes.append(np.corrcoef(size[5:], size[:-5])[0, 1])
        drift.append(moves.mean() / (moves.std() / np.sqrt(len(moves))))
    assert abs(np.mean(signs)) < 0.02
    assert np.mean(sizes) > 0.05
    assert abs(np.mean(drift)) < 0.5
    assert np.std(drift) == pytest.approx(1.0, abs=0.35)


def test_times_of_day_differ_and_come_again() -> None:
    session = next(s for s in SESSIONS if s.bars == 26)
    ranges = [
        np.log(one.values_TF[:, 1] / one.values_TF[:, 2]).reshape(-1, 26)
        for one in simulate_processes(9, 40, 26 * 60, session)
    ]
    early = np.mean([np.log(r[:, :3].mean() / r[:, 11:15].mean()) for r in ranges])
    assert early > 0.1
