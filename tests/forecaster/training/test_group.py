"""Several processes train as one: the same batches, the same gradients, the same curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forecaster.training import TrainingSeries, train_tokenizer
from forecaster.training.data.series_file import open_series, store_series
from forecaster.training.run_log import read_metrics
from tests.forecaster.training.test_run import MARKET, tokenizer_settings
from tests.forecaster.training.training_group import train_in_group


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from forecaster.training import training_series

    folder = tmp_path_factory.mktemp("series")
    simulated = training_series([], MARKET)
    store_series(
        folder,
        [TrainingSeries(s.symbol, s.timestamps_N, s.values_NF) for s in simulated],
        "made up",
    )
    return folder


def test_two_processes_follow_the_curve_of_one(folder: Path, tmp_path: Path) -> None:
    # With diversity and use of the whole batch in its loss: no sum over its parts.
    settings = tokenizer_settings(steps=12, usage_weight=0.1)
    train_tokenizer(settings, open_series(folder), tmp_path / "one")
    train_in_group(2, settings, [folder], tmp_path / "two")
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert len(one) == len(two) == 12
    for name in ("loss", "mse_s1", "mse", "quantizer", "grad_norm"):
        np.testing.assert_allclose(
            [line[name] for line in two], [line[name] for line in one], rtol=2e-4, err_msg=name
        )
    for name in ("later_rmse", "later_s1_perplexity"):
        np.testing.assert_allclose(two[-1][name], one[-1][name], rtol=2e-3, err_msg=name)
