"""NLinear and DLinear (Zeng et al. 2023, "Are transformers effective for time series forecasting?",
section 4): one matrix from lookback to horizon. What any larger model has to beat.

Legend: B rows, L lookback, H horizon.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - torch's customary name
from torch import Tensor, nn

TREND_WINDOW = 25
"""Values of DLinear's moving average."""


class NLinear(nn.Module):
    """The last value is taken off, and put back after the matrix."""

    def __init__(self, lookback: int, horizon: int) -> None:
        super().__init__()
        self.linear = nn.Linear(lookback, horizon)

    def forward(self, x_BL: Tensor) -> Tensor:
        last_B1 = x_BL[:, -1:].detach()
        forecast: Tensor = self.linear(x_BL - last_B1) + last_B1
        return forecast


class DLinear(nn.Module):
    """A moving average and what it leaves, each with a matrix of its own."""

    def __init__(self, lookback: int, horizon: int) -> None:
        super().__init__()
        self.trend = nn.Linear(lookback, horizon)
        self.remainder = nn.Linear(lookback, horizon)

    def forward(self, x_BL: Tensor) -> Tensor:
        side = (TREND_WINDOW - 1) // 2
        ends = F.pad(x_BL[:, None], (side, side), mode="replicate")
        trend_BL = F.avg_pool1d(ends, TREND_WINDOW, stride=1)[:, 0]
        forecast: Tensor = self.trend(trend_BL) + self.remainder(x_BL - trend_BL)
        return forecast
