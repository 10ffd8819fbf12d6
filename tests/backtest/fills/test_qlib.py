"""Qlib's top-k dropout against what Qlib 0.9.7 answered on made-up prices (tests/golden/qlib)."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backtest.figures.ic import correlations
from backtest.fills.qlib import QlibReport, QlibSettings, qlib_topk_dropout, risk_analysis

N_CASES = 6


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    folder = golden_dir / "qlib"
    with np.load(folder / "expected.npz") as arrays:
        return dict(arrays), json.loads((folder / "meta.json").read_text())["configs"]


def run(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> QlibReport:
    names = {field.name for field in fields(QlibSettings)}
    return qlib_topk_dropout(
        arrays["score"],
        arrays[config["deal_price"]],
        arrays["close"],
        arrays["change"],
        arrays["volume"],
        arrays["factor"],
        QlibSettings(**{key: value for key, value in config.items() if key in names}),
        first=config["first_step"],
        last=config["last_step"],
    )


@pytest.mark.parametrize("case", range(N_CASES))
def test_every_step_is_qlibs(
    golden: tuple[dict[str, np.ndarray], list[dict[str, Any]]], case: int
) -> None:
    arrays, configs = golden
    report = run(arrays, configs[case])
    np.testing.assert_allclose(report.amounts, arrays[f"amounts_{case}"], rtol=1e-9)
    for ours, theirs in (
        (report.account, "account"),
        (report.cash, "cash"),
        (report.value, "value"),
        (report.turnover, "turnover"),
        (report.cost, "cost"),
    ):
        np.testing.assert_allclose(ours, arrays[f"{theirs}_{case}"], rtol=1e-9, err_msg=theirs)
    np.testing.assert_allclose(report.returns, arrays[f"return_{case}"], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("case", range(N_CASES))
@pytest.mark.parametrize("mode", ["sum", "product"])
def test_the_summary_is_qlibs(
    golden: tuple[dict[str, np.ndarray], list[dict[str, Any]]], case: int, mode: str
) -> None:
    arrays, configs = golden
    report = run(arrays, configs[case])
    ours = risk_analysis(report.returns - report.cost, product=mode == "product")
    theirs = configs[case]["risk_analysis_of_return_minus_cost"][mode]
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_what_comes_later_changes_no_earlier_step(
    golden: tuple[dict[str, np.ndarray], list[dict[str, Any]]],
) -> None:
    arrays, configs = golden
    cut = {k: a[:150] if a.ndim == 2 and len(a) == 260 else a for k, a in arrays.items()}
    short = run(cut, {**configs[2], "last_step": 149})
    whole = run(arrays, configs[2])
    assert whole.account[: len(short.account)].tobytes() == short.account.tobytes()


def test_ic_and_rank_ic_are_qlibs(
    golden: tuple[dict[str, np.ndarray], list[dict[str, Any]]],
) -> None:
    arrays, _ = golden
    close = arrays["close"]
    ahead = np.full(close.shape, np.nan)
    ahead[:-1] = close[1:] / close[:-1] - 1
    for name, ranked in (("ic", False), ("rank_ic", True)):
        ours = correlations(arrays["score"], ahead, ranked=ranked)
        np.testing.assert_allclose(ours, arrays[name], rtol=0, atol=1e-12, equal_nan=True)
