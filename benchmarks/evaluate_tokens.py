"""How good are the tokens, and how well are the next ones known? The tables of a model's card.

    python benchmarks/evaluate_tokens.py --store LAKE [--store LAKE …] [--model FOLDER]
        [--other LAKE --since DATE]

Measures on the validation year of configs/train/*_tokenizer.yaml: symbols trained on at later
dates, and symbols never trained on. Beside the tokenizer stands a scalar quantizer that spends the
same bits evenly on the six features: floor(2^(bits/6)) Lloyd–Max levels each, fitted on training
windows. Other markets and bar lengths are measured beside them on all their windows whose horizon
begins at or after a date; nothing is fitted there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import yaml

from forecaster.interface import CLOSE
from forecaster.kronos import Kronos, KronosTokenizer
from forecaster.registry import resolve_model
from forecaster.training.config import TokenizerTraining
from forecaster.training.data.pools import (
    Pool,
    TrainingBatch,
    View,
    unbroken_runs,
    validation_batches,
)
from forecaster.training.data.sources import history_series
from forecaster.training.data.splits import split_series
from forecaster.training.validation import measure_predictor, measure_tokenizer
from market.fields import FEATURES
from market.lake.history import MarketHistory

Array = npt.NDArray[np.float64]
OTHER_GAP_DAYS = 15
"""Holidays of other markets last longer than the training data's: the Spring Festival of 2020."""
CONFIGS = Path(__file__).parent.parent / "configs" / "train"


def lloyd_max(values: Array, levels: int) -> Array:
    """Levels of the scalar quantizer with the least squared error (Lloyd 1982)."""
    ordered = np.sort(values)
    centres = np.quantile(ordered, (np.arange(levels) + 0.5) / levels)
    for _ in range(200):
        parts = np.split(ordered, np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2))
        centres = np.array([part.mean() for part in parts])
    return centres


def rounded(values: Array, centres: Array) -> Array:
    """Each value's nearest level."""
    return centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, values)]


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--store", type=Path, required=True, action="append")
    parse.add_argument("--other", type=Path, action="append", default=[])
    parse.add_argument("--since", type=np.datetime64, default=np.datetime64("2016-01-01"))
    parse.add_argument("--model", default="nano")
    parse.add_argument("--lookback", type=int, default=256)
    parse.add_argument("--horizon", type=int, default=20)
    parse.add_argument("--windows", type=int, default=400)
    args = parse.parse_args()

    spec = resolve_model(args.model)
    tokenizer = KronosTokenizer.from_pretrained(spec.tokenizer)
    predictor = Kronos.from_pretrained(spec.predictor)
    settings = TokenizerTraining.model_validate(
        yaml.safe_load((CONFIGS / f"{tokenizer.features}_tokenizer.yaml").read_text())
    )
    data = settings.data.model_copy(update={"simulated": None, "simulated_share": 0.0})
    split = split_series(
        history_series([MarketHistory.open(each) for each in args.store]), data, settings.windows
    )

    def batches(pool: Pool) -> list[TrainingBatch]:
        return validation_batches(
            pool,
            lookback=args.lookback,
            horizon=args.horizon,
            view=View(tokenizer.features, settings.windows.clip),
            count=args.windows,
            size=64,
        )

    def flat(parts: list[TrainingBatch]) -> Array:
        x = np.concatenate([batch.x_BTF for batch in parts])
        return x.reshape(-1, len(FEATURES)).astype(np.float64)

    levels = int(2 ** (tokenizer.codebook_dim / len(FEATURES)))
    training = flat(batches(split.train))
    centres = [lloyd_max(training[:, f], levels) for f in range(len(FEATURES))]
    pools = {"later": split.later, "held out": split.held_out}
    rules = data.model_copy(update={"max_gap_days": OTHER_GAP_DAYS})
    for store in args.other:
        series = history_series([MarketHistory.open(store)])
        runs = [run for one in series for run in unbroken_runs(one, rules)]
        pools[store.name] = Pool(runs, args.since.astype("datetime64[us]"))
    for name, pool in pools.items():
        chosen = batches(pool)
        x = flat(chosen)
        close = x[:, CLOSE]
        scalar = np.sqrt(np.mean((rounded(close, centres[CLOSE]) - close) ** 2))
        print(f"\n{name}: {sum(len(batch.x_BTF) for batch in chosen)} windows")
        for label, value in measure_tokenizer(tokenizer, chosen).items():
            print(f"  tokenizer {label:<16} {value:.4f}")
        print(f"  scalar quantizer rmse_close {scalar:.4f} ({levels} levels per feature)")
        with torch.no_grad():
            for label, value in measure_predictor(predictor, tokenizer, chosen).items():
                print(f"  predictor {label:<16} {value:.4f}")


if __name__ == "__main__":
    main()
