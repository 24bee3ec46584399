"""Bayesian layers: weights are normal distributions, trained by variational inference.

In training, outputs are drawn once per example: by local reparameterisation (Kingma, Salimans,
Welling, NeurIPS 2015), which draws the outputs themselves, or by Flipout (Wen et al., ICLR 2018),
which draws one weight per batch and decorrelates examples by signs. In eval mode a layer is that of
the mean weights; predictions with uncertainty are made by `sample_votes` and `votes`. The prior is
N(0, 1). The draws of training come from the global generator, which `regimes.fit` seeds per step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError

Sampling = Literal["local", "flipout"]
RHO = -5.0
"""Start of rho; sigma = softplus(rho), about 0.0067."""


class _Bayesian(nn.Module, ABC):
    """Parameters of a layer and their divergence from the prior.

    Attributes:
        weight, weight_rho: mean, and softplus^-1 of the standard deviation.
        bias, bias_rho: likewise, or None.
    """

    def __init__(self, shape: tuple[int, ...], bias: bool, sampling: Sampling) -> None:
        super().__init__()
        if sampling not in ("local", "flipout"):
            raise ConfigError(f"sampling {sampling!r}; known: local, flipout")
        self.sampling = sampling
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.weight_rho = nn.Parameter(torch.full(shape, RHO))
        self.bias = nn.Parameter(torch.empty(shape[0]).uniform_(-bound, bound)) if bias else None
        self.bias_rho = nn.Parameter(torch.full(shape[:1], RHO)) if bias else None

    @property
    def sigma(self) -> torch.Tensor:
        """Standard deviations of the weight."""
        return F.softplus(self.weight_rho)

    @property
    def bias_sigma(self) -> torch.Tensor | None:
        """Standard deviations of the bias."""
        return None if self.bias_rho is None else F.softplus(self.bias_rho)

    def kl(self) -> torch.Tensor:
        """Divergence of the posterior from N(0, 1), in nats, summed over all parameters."""
        total = _kl(self.weight, self.sigma)
        if self.bias is not None and self.bias_sigma is not None:
            total = total + _kl(self.bias, self.bias_sigma)
        return total

    @abstractmethod
    def linear_map(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """What the layer does with its weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One draw per example in training, the mean weights' output in eval mode."""
        mean = self.linear_map(x, self.weight, self.bias)
        if not self.training:
            return mean
        if self.sampling == "local":
            bias_variance = None if self.bias_sigma is None else self.bias_sigma.square()
            variance = self.linear_map(x.square(), self.sigma.square(), bias_variance)
            return mean + (variance + 1e-12).sqrt() * torch.randn_like(mean)
        weight = self.sigma * torch.randn_like(self.weight)
        signs = torch.randint(0, 2, x.shape, device=x.device).to(x.dtype).mul(2).sub(1)
        outer = torch.randint(0, 2, mean.shape, device=x.device).to(x.dtype).mul(2).sub(1)
        drawn = mean + outer * self.linear_map(x * signs, weight, None)
        if self.bias_sigma is None:
            return drawn
        # the bias multiplies no input whose sign could turn: it is drawn per example
        each = torch.randn(len(x), len(self.bias_sigma), dtype=x.dtype, device=x.device)
        return drawn + (self.bias_sigma * each).reshape(*each.shape, *[1] * (mean.dim() - 2))


class BayesianLinear(_Bayesian):
    """A linear layer (N, inputs) -> (N, outputs) with normal weights (outputs, inputs)."""

    def __init__(
        self, inputs: int, outputs: int, bias: bool = True, sampling: Sampling = "local"
    ) -> None:
        super().__init__((outputs, inputs), bias, sampling)

    def linear_map(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """A matrix product."""
        return F.linear(x, weight, bias)


class BayesianConv2d(_Bayesian):
    """A convolution (N, C, H, W) -> (N, K, H', W') with normal weights (K, C, kernel, kernel)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0,
        bias: bool = True, sampling: Sampling = "local",
    ) -> None:  # fmt: skip
        super().__init__((outputs, inputs, kernel, kernel), bias, sampling)
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def linear_map(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """A convolution."""
        return F.conv2d(x, weight, bias, self.stride, self.padding)


def _kl(mu: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return (0.5 * (mu.square() + sigma.square() - 1) - sigma.log()).sum()
