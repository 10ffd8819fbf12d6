"""Half of the paths from a window, half from its mirror image, turned back. Knows tiles; no prices.

A network that was trained on mirrored windows is symmetric on average, and a little off in each
single market. Sampled both ways, what it adds to every path in one direction cancels: a forecast
of the mirrored window is the mirrored forecast. The lookback is prefilled twice, paths cost what
they cost.

Legend: B series, S paths, L lookback, H horizon, T = L + H, C time features, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from forecaster.interface import SamplingParams
from forecaster.kronos.engine import Engine
from forecaster.kronos.tiles import Generated, Noise, Tile, generate


class SampledBars(NamedTuple):
    """Some series' paths, in the order asked for."""

    rows: slice
    bars: Tensor
    """(B, S, H, F) normalised units."""


def generate_both_ways(
    engine: Engine,
    tile: Tile,
    x_BLF: Tensor,
    mirror_F: Tensor,
    stamp_BTC: Tensor,
    noise: Noise,
    n_paths: int,
    sampling: SamplingParams,
    *,
    in_flight: int = 1,
    reference_rule: bool = False,
) -> Iterator[SampledBars]:
    """`generate`, with paths 1, 3, 5, … sampled from the mirrored window.

    mirror_F: signed places, 1-based, of a mirrored bar's features: feature f of it is feature
    |mirror_F[f]| - 1 with the sign of mirror_F[f]. Every path keeps the noise of its own number.
    """
    place_F, sign_F = mirror_F.abs() - 1, mirror_F.sign().to(x_BLF)
    both = torch.stack((x_BLF, x_BLF[..., place_F] * sign_F), dim=1).flatten(0, 1)
    stamp = stamp_BTC.repeat_interleave(2, dim=0)
    half = -(-n_paths // 2)

    def noise_of(rows: slice) -> Tensor:
        series = slice(rows.start // 2, -(-rows.stop // 2))
        u_BSH2 = noise(series)
        if n_paths % 2:  # the mirrored half lacks one; its last path is computed and dropped
            u_BSH2 = torch.cat((u_BSH2, u_BSH2[:, -1:]), dim=1)
        ways = torch.stack((u_BSH2[:, 0::2], u_BSH2[:, 1::2]), dim=1).flatten(0, 1)
        first = rows.start - 2 * series.start
        return ways[first : first + rows.stop - rows.start]

    waiting: list[Generated] = []
    for part in generate(
        engine, tile, both, stamp, noise_of, half, sampling,
        in_flight=in_flight, reference_rule=reference_rule,
    ):  # fmt: skip
        waiting.append(part)
        if part.rows.stop % 2:
            continue  # the other way of the last series is still to come
        bars = torch.cat([each.bars for each in waiting])
        rows = slice(waiting[0].rows.start // 2, part.rows.stop // 2)
        waiting = []
        straight, mirrored = bars[0::2], bars[1::2][..., place_F] * sign_F.to(bars)
        paired = torch.stack((straight, mirrored), dim=2).flatten(1, 2)
        yield SampledBars(rows, paired[:, :n_paths])


__all__ = ["SampledBars", "generate_both_ways"]
