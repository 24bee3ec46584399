"""Variational inference: the divergence of Bayesian layers from their prior joins the loss.

Source: Blundell et al., "Weight uncertainty in neural networks", ICML 2015.
"""

from __future__ import annotations

import torch
from torch import nn

from cofit.core import ConfigError, ModelError
from cofit.models.bayesian import BayesianConv2d, BayesianLinear
from cofit.regimes.contract import Context, Handle, Regime


class Variational(Regime):
    """Makes the mean task loss the negative evidence bound per example.

    Args:
        examples: in the training part; the divergence is counted once over all of them.
    """

    def __init__(self, examples: int) -> None:
        if examples < 1:
            raise ConfigError(f"examples is {examples}; give the size of the training part")
        self._examples = examples
        self._layers: list[BayesianLinear | BayesianConv2d] = []

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Bind to the Bayesian layers; the model is not changed.

        Raises:
            ModelError: it has none.
        """
        self._layers = [
            layer for layer in model.modules() if isinstance(layer, BayesianLinear | BayesianConv2d)
        ]
        if not self._layers:
            raise ModelError(
                "the network has no Bayesian layer; build it of BayesianLinear and BayesianConv2d"
            )
        return Handle()

    def loss(self, context: Context) -> dict[str, torch.Tensor]:
        """The term "kl", in nats per example."""
        return {"kl": torch.stack([layer.kl() for layer in self._layers]).sum() / self._examples}
