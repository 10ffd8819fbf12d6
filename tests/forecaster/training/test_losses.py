"""What the optional terms of the tokenizer's loss measure."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's customary name

from forecaster.kronos.quantizer import entropy
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.training.losses import SHARPNESS, tokenizer_loss, vocabulary_use


def corners(bits: int) -> torch.Tensor:
    """Every code once, (2^bits, bits), on the unit sphere."""
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=bits)))
    return signs / math.sqrt(bits)


def test_vocabulary_use_is_the_entropy_of_the_summed_out_probabilities() -> None:
    torch.manual_seed(3)
    z = F.normalize(torch.randn(2, 50, 7), dim=-1)
    p = torch.sigmoid(2 * SHARPNESS * z * 7**0.5).flatten(0, 1)
    entropies = []
    for half in (p[:, :3], p[:, 3:]):
        codes = torch.tensor(list(itertools.product((0, 1), repeat=half.shape[1])))
        each = torch.where(codes == 1, half[:, None], 1 - half[:, None]).prod(-1)
        entropies.append(entropy(each.mean(0)))
    torch.testing.assert_close(vocabulary_use(z, 3), torch.stack(entropies).mean())


def test_bits_that_repeat_each_other_do_not_pass_for_diverse() -> None:
    even = corners(8)
    repeated = even.clone()
    repeated[:, 1:4] = repeated[:, :1]
    assert vocabulary_use(even, 4).item() == pytest.approx(math.log(16), rel=1e-3)
    s1_of_two_codes = (math.log(2) + math.log(16)) / 2
    assert vocabulary_use(repeated, 4).item() == pytest.approx(s1_of_two_codes, abs=0.05)


def test_feature_weights_count_only_among_themselves() -> None:
    torch.manual_seed(0)
    model = KronosTokenizer(
        d_in=6, d_model=8, n_heads=2, ff_dim=16, n_enc_layers=2, n_dec_layers=2, ffn_dropout_p=0.0,
        attn_dropout_p=0.0, resid_dropout_p=0.0, s1_bits=4, s2_bits=4, beta=0.05, gamma0=1.0,
        gamma=1.1, zeta=0.05, group_size=4,
    )  # fmt: skip
    x = torch.randn(2, 9, 6)
    plain = tokenizer_loss(model, x)
    torch.testing.assert_close(tokenizer_loss(model, x, feature_weights=[3.0] * 6), plain)
    volume_only = tokenizer_loss(model, x, feature_weights=[1e-9] * 4 + [1.0, 1e-9])
    found = model(x)[0][1]
    torch.testing.assert_close(volume_only.mse, F.mse_loss(found[..., 4], x[..., 4]))
