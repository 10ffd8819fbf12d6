"""The page of a training run, opened in a browser."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from cluster.training.page import write_training_page
from forecaster.training import Surroundings, TrainingRun, TrainingSeries, training_series
from forecaster.training.examples import gallery
from forecaster.training.simulations import SimulatedMarkets
from tests.browser import drawn_in_a_browser, our_part
from tests.forecaster.training.test_run import predictor_settings, tokenizer_settings

MARKET = SimulatedMarkets(seeds=(1500,), n_symbols=4, n_sessions=320, start=date(2015, 1, 2))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TrainingRun, Path]]:
    series = [
        TrainingSeries(s.symbol, s.timestamps_N, s.values_NF) for s in training_series([], MARKET)
    ]
    root = tmp_path_factory.mktemp("runs")
    tokenizer = TrainingRun(tokenizer_settings(), series)
    tokenizer.train(root / "tokenizer", Surroundings())
    predictor = TrainingRun(predictor_settings(), series, tokenizer=root / "tokenizer")
    predictor.train(root / "predictor", Surroundings())
    return {
        "tokenizer": (tokenizer, root / "tokenizer"),
        "predictor": (predictor, root / "predictor"),
    }


@pytest.mark.parametrize("kind", ["tokenizer", "predictor"])
def test_a_browser_draws_every_plot(
    runs: dict[str, tuple[TrainingRun, Path]], kind: str, tmp_path: Path
) -> None:
    run, out = runs[kind]
    page = write_training_page(run, out, tmp_path / "training.html", workers=2)
    ours = our_part(page)
    assert "default-src 'none'" in ours
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//""", ours)
    text = re.sub(r"<script.*?</script>", "", ours, flags=re.DOTALL).lower()
    assert not re.findall(r"\bnan\b|\binf\b|\bnone\b(?=</dd>)", text)
    for words in ("trained through 2015-12-31", "never used", "optimiser.max_lr", "0.003"):
        assert words in ours
    dom = drawn_in_a_browser(page, tmp_path / "profile")
    plots = re.findall(r'id="plot-([\w-]+)" class="plotly-graph-div js-plotly-plot"', dom)
    examples = [f"example-{i}" for i in range(4)]
    assert plots == ["losses", "groups", "use", *examples, "gradients", "speed"]
    drawn = re.split(r'id="plot-[\w-]+"', dom)[1:]
    assert all('class="main-svg"' in part for part in drawn)
    assert all(re.search(r'class="(trace scatter|trace bars|points)', part) for part in drawn)


def test_codes_are_counted_whole_and_by_groups(
    runs: dict[str, tuple[TrainingRun, Path]],
) -> None:
    run, _ = runs["predictor"]
    assert run.tokenizer is not None
    shown = gallery(run.tokenizer, run.validation["later"])
    assert shown.tokens == 8 * (24 + 8)
    for each in (*shown.halves, *shown.groups):
        assert each.count_V.sum() == shown.tokens
        assert 1 <= each.perplexity <= len(each.count_V) - each.dead + 1e-9
    assert len(shown.groups) == 2
    # groups of four bits are here the halves themselves
    assert [g.count_V.tolist() for g in shown.groups] == [h.count_V.tolist() for h in shown.halves]
