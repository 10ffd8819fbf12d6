"""Rows through a point model without gradients, a tile at a time. Knows models and tensors.

A tile always has the same number of rows, the last one filled up, and where a backbone pads, rows
that share a tile have prompts of about the same length. A row's products then have a shape that the
row decides by itself, so its forecast has the same bits alone, in any company and in any order.

Legend: N rows, B windows, L lookback, H horizon, F features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from forecaster.interface import FloatArray
from forecaster.normalize import normalise, power_of_ten
from forecaster.timellm.model import PointModel, TimeLLM
from forecaster.timellm.patching import normalise_instances

TILE = 8
"""Rows computed together: enough for the products (each brings a hundred positions or more), few
enough for a processor's cache, and for the last tile of a length to waste little."""

AT_ONCE = 16
"""Rows that a backbone reads together where it needs no padding: bounds memory."""


@torch.inference_mode()
def forecast_rows(model: PointModel, x_NL: Tensor) -> Tensor:
    """(N, H) in the unit of x_NL, float32, on x_NL's device.

    The model must be in evaluation mode.
    """
    x_NL = x_NL.float()
    forecast_NH = x_NL.new_empty(len(x_NL), model.config.horizon)
    if len(x_NL) and isinstance(model, TimeLLM) and model.backbone.packs:
        return torch.cat([_packed(model, part) for part in torch.split(x_NL, AT_ONCE)])
    for chosen in _tiles(model, x_NL):
        filled = torch.cat((chosen, chosen[:1].expand(TILE - len(chosen))))
        forecast_NH[chosen] = model(x_NL[filled].contiguous())[: len(chosen)]
    return forecast_NH


def _packed(model: TimeLLM, x_BL: Tensor) -> Tensor:
    """Rows whose backbone needs no tiles; what stands around it does."""
    level = model.config.level
    instances = [normalise_instances(tile, level) for tile in _filled(x_BL)]
    z_BL = torch.cat([instance.z_BL for instance in instances])[: len(x_BL)]
    patches_BPE = torch.cat([model.reprogrammed(i.z_BL) for i in instances])[: len(x_BL)]
    states_BPD = model.read(model.prompter.ids(z_BL), patches_BPE)
    forecasts = [
        model.head(states) * instance.scale_B1 + instance.loc_B1
        for states, instance in zip(_filled(states_BPD), instances, strict=True)
    ]
    return torch.cat(forecasts)[: len(x_BL)]


def _filled(x_B: Tensor) -> list[Tensor]:
    """In tiles, the last one filled up with the first row."""
    fill = x_B[:1].expand(-len(x_B) % TILE, *x_B.shape[1:])
    return list(torch.split(torch.cat((x_B, fill)), TILE))


def _tiles(model: PointModel, x_NL: Tensor) -> list[Tensor]:
    """Row numbers of each tile."""
    if not isinstance(model, TimeLLM):
        return _split(torch.arange(len(x_NL)))
    kinds: dict[tuple[int, int], list[int]] = {}
    for first in range(0, len(x_NL), TILE):
        z_BL = normalise_instances(x_NL[first : first + TILE], model.config.level).z_BL
        for row, ids in enumerate(model.prompter.ids(z_BL)):
            kinds.setdefault(model.shape_of(ids), []).append(first + row)
    return [tile for _, rows in sorted(kinds.items()) for tile in _split(torch.tensor(rows))]


def _split(rows: Tensor) -> list[Tensor]:
    return [rows[first : first + TILE] for first in range(0, len(rows), TILE)]


def point_bars(model: PointModel, x_BLF: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Point forecasts of normalised windows, feature by feature: (B, H, F)."""
    b, lookback, f = x_BLF.shape
    device = next(model.parameters()).device
    rows_NL = np.ascontiguousarray(x_BLF.transpose(0, 2, 1)).reshape(b * f, lookback)
    y_NH = forecast_rows(model, torch.from_numpy(rows_NL).to(device)).cpu().numpy()
    bars: npt.NDArray[np.float32] = y_NH.reshape(b, f, -1).transpose(0, 2, 1)
    return bars


def forecast_bars(model: PointModel, values_BLF: FloatArray) -> npt.NDArray[np.float64]:
    """Point forecasts of windows of bars in the units of the data, (B, H, F).

    Windows are normalised as in training, by their own past; prices and volumes below 1 are lifted
    by a power of ten while the model sees them.
    """
    factor_BF = power_of_ten(values_BLF)
    found = normalise(values_BLF * factor_BF[:, None], model.config.clip)
    z_BHF = point_bars(model, found.x_BLF).astype(np.float64)
    return (z_BHF * found.scale_BF[:, None] + found.loc_BF[:, None]) / factor_BF[:, None]
