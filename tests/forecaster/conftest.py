"""Small models and windows for the forecaster's tests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from forecaster import Kronos, KronosTokenizer, SamplingParams, WindowBatch
from forecaster.kronos import tiles
from forecaster.kronos.engine import Engine, Tokens


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Products this small only lose by being split over threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_tokenizer(bits: int = 6, **changes: object) -> KronosTokenizer:
    config = {
        "d_in": 6,
        "d_model": 32,
        "n_heads": 2,
        "ff_dim": 48,
        "n_enc_layers": 3,
        "n_dec_layers": 3,
        "ffn_dropout_p": 0.0,
        "attn_dropout_p": 0.0,
        "resid_dropout_p": 0.0,
        "s1_bits": bits,
        "s2_bits": bits,
        "beta": 0.05,
        "gamma0": 1.0,
        "gamma": 1.1,
        "zeta": 0.05,
        "group_size": 4,
    } | changes
    return KronosTokenizer(**config).eval()  # type: ignore[arg-type]


def small_predictor(bits: int = 6, **changes: object) -> Kronos:
    config = {
        "s1_bits": bits,
        "s2_bits": bits,
        "n_layers": 2,
        "d_model": 32,
        "n_heads": 4,
        "ff_dim": 48,
        "ffn_dropout_p": 0.0,
        "attn_dropout_p": 0.0,
        "resid_dropout_p": 0.0,
        "token_dropout_p": 0.0,
        "learn_te": True,
    } | changes
    return Kronos(**config).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def networks() -> tuple[KronosTokenizer, Kronos]:
    torch.manual_seed(5)
    return small_tokenizer(), small_predictor()


def engine_generate(
    tokenizer: KronosTokenizer,
    predictor: Kronos,
    x_BLF: Tensor,
    stamp_BTC: Tensor,
    u_BSH2: Tensor,
    sampling: SamplingParams,
    max_context: int,
    *,
    reference_rule: bool = False,
    tile: tiles.Tile = tiles.Tile(4, 4),
) -> tuple[Tensor, Tensor, Tensor]:
    """The engine through tiles, with the signature of `reference.generate`."""
    parts = list(
        tiles.generate(
            Engine(tokenizer, predictor, max_context),
            tile,
            x_BLF,
            stamp_BTC,
            lambda rows: u_BSH2[rows],
            u_BSH2.shape[1],
            sampling,
            reference_rule=reference_rule,
        )
    )
    tokens = Tokens(*(torch.cat(half) for half in zip(*(p.tokens for p in parts), strict=True)))
    return torch.cat([part.bars for part in parts]), tokens.s1, tokens.s2


def random_windows(
    count: int, lookback: int, horizon: int, seed: int = 0, scale: float = 100.0
) -> WindowBatch:
    """Random-walk daily bars that keep the rules, with symbols S0, S1, …"""
    rng = np.random.default_rng(seed)
    close = scale * np.exp(rng.normal(0, 0.02, (count, lookback)).cumsum(axis=1))
    open_ = close * np.exp(rng.normal(0, 0.005, close.shape))
    high = np.maximum(open_, close) * 1.01
    low = np.minimum(open_, close) * 0.99
    volume = rng.uniform(1e5, 2e6, close.shape)
    values = np.stack((open_, high, low, close, volume, volume * close), axis=-1)
    days = np.datetime64("2020-01-01", "us") + np.arange(lookback + horizon) * np.timedelta64(
        1, "D"
    )
    times = np.broadcast_to(days, (count, lookback + horizon))
    return WindowBatch(
        symbols=tuple(f"S{i}" for i in range(count)),
        as_of_B=times[:, lookback - 1] + np.timedelta64(21, "h"),
        values_BLF=values,
        timestamps_BL=times[:, :lookback],
        future_BH=times[:, lookback:],
    )
