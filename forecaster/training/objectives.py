"""A network and its loss as one module: what is replicated, compiled and differentiated.

Knows models and losses; nothing of loops or files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.timellm.model import PointModel
from forecaster.training.config import PredictorTraining, TokenizerTraining
from forecaster.training.losses import decoder_loss, predictor_loss, tokenizer_loss
from forecaster.training.process_group import Peers

Model = KronosTokenizer | Kronos | PointModel


class Objective(nn.Module):
    """Losses of a batch by name; `loss` is minimised, the others come without gradient."""

    model: Model

    def forward(self, x_BTF: Tensor, stamp_BT: Tensor, lookback: int) -> dict[str, Tensor]:
        raise NotImplementedError


class TokenizerObjective(Objective):
    """Reconstruction and quantizer loss."""

    def __init__(self, model: KronosTokenizer, settings: TokenizerTraining, peers: Peers) -> None:
        super().__init__()
        self.model = model
        self._settings = settings
        self._peers = peers

    def forward(self, x_BTF: Tensor, stamp_BT: Tensor, lookback: int) -> dict[str, Tensor]:
        assert isinstance(self.model, KronosTokenizer)
        weights = self._settings.feature_weights
        if self._settings.decoder_only:
            decoded = decoder_loss(
                self.model,
                x_BTF,
                feature_weights=weights,
                shape_weight=self._settings.shape_weight,
            )
            return _one_with_gradient(decoded._asdict())
        losses = tokenizer_loss(
            self.model,
            x_BTF,
            feature_weights=weights,
            usage_weight=self._settings.usage_weight,
            group_mean=self._peers.group_mean,
        )
        return _one_with_gradient(losses._asdict())


class PredictorObjective(Objective):
    """Next-token losses on the tokens of a frozen tokenizer."""

    def __init__(
        self, model: Kronos, tokenizer: KronosTokenizer, settings: PredictorTraining
    ) -> None:
        super().__init__()
        self.model = model
        self._frozen = (tokenizer,)  # in a tuple: no part of this module's weights
        self._settings = settings

    def forward(self, x_BTF: Tensor, stamp_BT: Tensor, lookback: int) -> dict[str, Tensor]:
        assert isinstance(self.model, Kronos)
        s1_BT, s2_BT = tokens_of(self._frozen[0], x_BTF)
        losses = predictor_loss(
            self.model,
            s1_BT,
            s2_BT,
            stamp_BT,
            lookback=lookback,
            lookback_weight=self._settings.windows.lookback_weight,
            as_decoded=self._settings.dependency_as_decoded,
            s1_conditioning=self._settings.s1_conditioning,
        )
        return _one_with_gradient(losses._asdict())


class PointObjective(Objective):
    """Squared error of the horizon, every feature of every window a row of its own."""

    def __init__(self, model: PointModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BTF: Tensor, stamp_BT: Tensor, lookback: int) -> dict[str, Tensor]:
        rows_NT = x_BTF.transpose(1, 2).flatten(0, 1)
        error_NH = self.model(rows_NT[:, :lookback]) - rows_NT[:, lookback:]
        losses = {"loss": error_NH.square().mean(), "mae": error_NH.abs().mean()}
        return _one_with_gradient(losses)


@torch.no_grad()
def tokens_of(tokenizer: KronosTokenizer, x_BTF: Tensor) -> tuple[Tensor, Tensor]:
    """s1 and s2 of normalised bars, each (B, T); always in float32, as when forecasting."""
    with torch.autocast(x_BTF.device.type, enabled=False):
        return tokenizer.encode_pair(x_BTF)


def _one_with_gradient(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: v if name == "loss" else v.detach() for name, v in losses.items()}
