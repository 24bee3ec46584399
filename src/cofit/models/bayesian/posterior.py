"""A trained Bayesian layer as inference uses it: means and standard deviations as matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError, ModelError
from cofit.models.bayesian.layers import BayesianConv2d, BayesianLinear

Between = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Posterior:
    """Weights W = mu + sigma * E of a layer y = W x, or of a convolution as a matrix.

    Attributes:
        mu, sigma: (M, N); float or integer.
        bias_mu, bias_sigma: (M,), or both None.
        kernel, stride, padding: of a convolution, whose N is C * kernel^2; kernel 0: linear.
        after: what is applied to the outputs before the next layer.

    Raises:
        ConfigError: shapes do not agree, or a sigma is negative or NaN.
    """

    mu: torch.Tensor
    sigma: torch.Tensor
    bias_mu: torch.Tensor | None = None
    bias_sigma: torch.Tensor | None = None
    kernel: int = 0
    stride: int = 1
    padding: int = 0
    after: Between | None = None

    def __post_init__(self) -> None:
        if self.mu.dim() != 2 or self.sigma.shape != self.mu.shape:
            raise ConfigError(
                f"mu {tuple(self.mu.shape)} and sigma {tuple(self.sigma.shape)}; give two "
                "matrices of one shape (outputs, inputs)"
            )
        if (self.bias_mu is None) != (self.bias_sigma is None):
            raise ConfigError("a bias needs both bias_mu and bias_sigma; give both or neither")
        for name, sigma in (("sigma", self.sigma), ("bias_sigma", self.bias_sigma)):
            # NaN is not at least zero either
            if sigma is not None and not bool((sigma >= 0).all()):
                worst = sigma[~(sigma >= 0)][0].item()
                raise ConfigError(f"{name} has {worst}; standard deviations must be >= 0")

    @cached_property
    def variance(self) -> torch.Tensor:
        """Squares of sigma, made once."""
        return self.sigma.square()

    @cached_property
    def bias_variance(self) -> torch.Tensor | None:
        """Squares of bias_sigma, made once."""
        return None if self.bias_sigma is None else self.bias_sigma.square()

    def columns(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs (n, N) or (n, C, H, W) as columns (n, N, P); P is 1 of a linear layer."""
        if not self.kernel:
            return x.flatten(1)[..., None]
        return F.unfold(x, self.kernel, padding=self.padding, stride=self.stride)

    def shaped(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Outputs (n, M, P) as the next layer takes them, for inputs like x."""
        if not self.kernel:
            return y[..., 0]
        height, width = (
            (size + 2 * self.padding - self.kernel) // self.stride + 1 for size in x.shape[-2:]
        )
        return y.reshape(*y.shape[:2], height, width)


def posteriors(model: nn.Sequential) -> list[Posterior]:
    """The layers of a sequence; what stands between them is applied to their outputs.

    Raises:
        ModelError: the first module is not Bayesian, or one between has parameters.
    """
    found: list[tuple[BayesianLinear | BayesianConv2d, list[nn.Module]]] = []
    for name, module in model.named_children():
        if isinstance(module, BayesianLinear | BayesianConv2d):
            found.append((module, []))
        elif not found or any(True for _ in module.parameters()):
            raise ModelError(
                f"module {name!r} is a {type(module).__name__}; votes need Bayesian layers with "
                "parameter-free modules between them"
            )
        else:
            found[-1][1].append(module)
    return [_posterior(layer, between) for layer, between in found]


def _posterior(layer: BayesianLinear | BayesianConv2d, between: list[nn.Module]) -> Posterior:
    window: tuple[int, int, int] = (0, 1, 0)
    if isinstance(layer, BayesianConv2d):
        window = (layer.kernel, layer.stride, layer.padding)
    bias_sigma = layer.bias_sigma
    return Posterior(
        layer.weight.detach().flatten(1), layer.sigma.detach().flatten(1),
        None if layer.bias is None else layer.bias.detach(),
        None if bias_sigma is None else bias_sigma.detach(),
        *window, nn.Sequential(*between) if between else None,
    )  # fmt: skip
