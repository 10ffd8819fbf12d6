"""Noise is pinned by golden vectors; drawing follows the filtered distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from forecaster import SamplingParams
from forecaster.kronos.sampling import draw, filtered_probs
from forecaster.noise import noise_key, philox4x32, uniforms
from market.errors import ConfigError

AS_OF = np.datetime64("2016-01-08T21:00:00", "us")


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Known answers of the Random123 distribution for philox4x32-10.
        (
            [0, 0, 0, 0],
            [0, 0],
            [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        ),
        (
            [0xFFFFFFFF] * 4,
            [0xFFFFFFFF] * 2,
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    assert [int(word) for word in philox4x32(counter, key)] == expected


def test_noise_is_pinned() -> None:
    """Changing any of these numbers changes every forecast ever made with a seed."""
    assert noise_key(7, "BRK.B", AS_OF) == (1066592367, 3246414026)
    u = uniforms(7, ["BRK.B"], np.array([AS_OF]), n_paths=2, horizon=2)
    assert (u[0] * 2**25).astype(np.int64).tolist() == [
        [[8023917, 12500677], [25989157, 28295745]],
        [[20918587, 17020447], [25593417, 22969399]],
    ]


def test_noise_depends_on_its_key_alone() -> None:
    times = np.array([AS_OF, AS_OF + 1, AS_OF])
    together = uniforms(1, ["A", "A", "B"], times, 4, 5)
    for i, (symbol, time) in enumerate(zip("AAB", times, strict=True)):
        assert np.array_equal(uniforms(1, [symbol], np.array([time]), 4, 5)[0], together[i])
    assert len(np.unique(together)) > 0.99 * together.size
    assert not np.array_equal(uniforms(2, ["A"], times[:1], 4, 5)[0], together[0])
    assert np.array_equal(uniforms(1, ["A"], times[:1], 9, 7)[0][:4, :5], together[0])


def test_uniforms_are_uniform() -> None:
    u = uniforms(0, ["X"], np.array([AS_OF]), 300, 200).ravel()
    assert (u > 0).all()
    assert (u < 1).all()
    assert stats.kstest(u, "uniform").pvalue > 1e-3


@given(
    st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=30),
    st.integers(0, 6),
    st.floats(0.05, 1.0),
)
def test_filter_keeps_the_smallest_sufficient_set(
    logits: list[float], top_k: int, top_p: float
) -> None:
    x = torch.tensor([logits])
    probs = filtered_probs(x, SamplingParams(1.0, top_k, top_p))[0].double()
    assert probs.sum().item() == pytest.approx(1, abs=1e-5)
    kept = probs > 0
    if top_k:
        ties = (x[0] == x[0].sort(descending=True).values[min(top_k, len(logits)) - 1]).sum()
        assert kept.sum() <= top_k + ties
    full = filtered_probs(x, SamplingParams(1.0, top_k, 1.0))[0].double()
    if (~kept).any():
        assert full[kept].min() >= full[~kept].max()
    assert full[kept].sum() >= top_p - 1e-5
    if kept.sum() > 1:
        assert full[kept].sum() - full[kept].min() <= top_p + 1e-5


def test_reference_rule_ignores_top_p_with_top_k() -> None:
    logits = torch.randn(4, 40, generator=torch.Generator().manual_seed(0))
    both = SamplingParams(0.8, 7, 0.3)
    expected = filtered_probs(logits, SamplingParams(0.8, 7, 1.0))
    assert torch.equal(filtered_probs(logits, both, reference_rule=True), expected)
    assert (filtered_probs(logits, both) > 0).sum() < (expected > 0).sum()


def test_draws_follow_the_distribution() -> None:
    logits = torch.randn(60, generator=torch.Generator().manual_seed(1)) * 2
    probs = filtered_probs(logits, SamplingParams(1.0, 0, 0.9))
    u = uniforms(3, ["X"], np.array([AS_OF]), 400, 300).reshape(-1)
    ids = draw(probs.expand(len(u), -1), torch.from_numpy(u).float())
    counts = np.bincount(ids.numpy(), minlength=60)
    live = probs.numpy() > 0
    assert counts[~live].sum() == 0
    expected = probs.double().numpy()[live] / probs.double().numpy()[live].sum() * len(u)
    assert stats.chisquare(counts[live], expected).pvalue > 1e-3


@pytest.mark.parametrize("u", [0.0, 0.5, 1.0])
def test_extreme_uniforms_hit_live_tokens(u: float) -> None:
    probs = torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0])
    assert draw(probs, torch.tensor(u)).item() in (1, 3)


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", 0.0), ("top_k", -1), ("top_p", 1.5), ("top_p", 0.0)]
)
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{field}={value}"):
        SamplingParams(**{field: value})
