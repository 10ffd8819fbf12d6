"""Training of a tokenizer's decoder alone: better bars from the same tokens."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's customary name

from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.training import TokenizerTraining, TrainingError, train_tokenizer, training_series
from forecaster.training.losses import decoder_loss
from forecaster.training.simulations import SimulatedMarkets

MARKET = SimulatedMarkets(seeds=(1500,), n_symbols=4, n_sessions=320, start=date(2015, 1, 2))


def settings(**changes: Any) -> TokenizerTraining:
    parts: dict[str, Any] = {
        "seed": 5,
        "model": {
            "d_model": 16, "n_heads": 2, "ff_dim": 16, "n_enc_layers": 2, "n_dec_layers": 2,
            "s1_bits": 4, "s2_bits": 4,
        },
        "data": {
            "train_through": "2015-12-31", "validation_through": "2016-12-31", "purge_bars": 8,
            "simulated": MARKET.model_dump(), "simulated_share": 1.0,
        },
        "windows": {"lookbacks": [24], "horizon": 8, "validation_horizon": 8},
        "optimiser": {"steps": 6, "batch_size": 4, "max_lr": 3e-3, "clip_norm": 2.0},
    }  # fmt: skip
    return TokenizerTraining.model_validate(parts | changes)


def test_every_bar_keeps_its_tokens(tmp_path: Path) -> None:
    series = training_series([], MARKET)
    train_tokenizer(settings(), series, tmp_path / "a")
    train_tokenizer(
        settings(decoder_only=True, shape_weight=1.0), series, tmp_path / "b",
        start_from=tmp_path / "a",
    )  # fmt: skip
    before, after = (KronosTokenizer.from_pretrained(tmp_path / name).eval() for name in "ab")
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 20, 6)).astype(np.float32))
    for old, new in zip(before.encode_pair(x), after.encode_pair(x), strict=True):
        assert torch.equal(old, new)
    tokens = before.encode_pair(x)
    assert not torch.equal(before.decode(tokens, half=True), after.decode(tokens, half=True))


def test_a_decoder_needs_tokens_to_decode(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="needs --from"):
        train_tokenizer(settings(decoder_only=True), training_series([], MARKET), tmp_path)


def test_shape_is_the_error_relative_to_the_close() -> None:
    torch.manual_seed(0)
    model = KronosTokenizer(**settings().model.model_dump())
    x = torch.randn(2, 9, 6)
    out = decoder_loss(model, x, shape_weight=2.0)
    found = model.decode(model.encode_pair(x), half=True)
    expected = F.mse_loss(found[..., :3] - found[..., 3:4], x[..., :3] - x[..., 3:4])
    torch.testing.assert_close(out.shape, expected)
    torch.testing.assert_close(out.mse, F.mse_loss(found, x))
    torch.testing.assert_close(out.loss, out.mse + 2 * out.shape)
    out.loss.backward()  # type: ignore[no-untyped-call]
    assert model.embed.weight.grad is None
    assert model.head.weight.grad is not None
