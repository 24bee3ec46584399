"""Votes of a Bayesian network on one input: standard flow, memorised flow, or local draws.

The flows of `votes` are written as they would run on a machine without a batch: every
multiplication in them is one that `count_multiplications` sees. With the same noise, standard and
memorised flows give the same votes up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import ConfigError
from cofit.models.bayesian.plan import Flow, Plan, Work
from cofit.models.bayesian.posterior import Posterior

Noise = Callable[[tuple[int, ...]], torch.Tensor]
"""Gives standard normal numbers of a shape; called per layer for weights, then for the bias."""


def normal_noise(generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Noise:
    """Noise from a generator."""

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    return draw


def votes(layers: Sequence[Posterior], x: torch.Tensor, plan: Plan, noise: Noise) -> torch.Tensor:
    """Outputs of all voters on one input.

    Args:
        layers: see `posteriors`.
        x: one input, (N,) or (C, H, W).
        plan: samples and flow per layer.
        noise: called with (n, T, M, N) for the weights of a layer with n distinct inputs and T
            samples each, then with (n, T, M) for its bias; for local draws with (n, T, M, P).

    Returns:
        (voters, outputs of the last layer ...); voters that share early samples are neighbours.

    Raises:
        ConfigError: the plan is for another number of layers.
    """
    plan.check_layers(len(layers))
    values = x[None]
    for layer, flow, samples in zip(layers, plan.flows, plan.samples, strict=True):
        columns = layer.columns(values)
        drawn = _FLOWS[flow](layer, columns, samples, noise)
        values = layer.shaped(drawn.flatten(0, 1), values)
        if layer.after is not None:
            values = layer.after(values)
    return values


def _standard(layer: Posterior, columns: torch.Tensor, samples: int, noise: Noise) -> torch.Tensor:
    n, depth, positions = columns.shape
    rows = len(layer.mu)
    weight = layer.mu + layer.sigma * noise((n, samples, rows, depth))
    out = (weight.flatten(1, 2) @ columns).reshape(n, samples, rows, positions)
    return _biased(layer, out, noise)


def _memorised(layer: Posterior, columns: torch.Tensor, samples: int, noise: Noise) -> torch.Tensor:
    n, depth, _ = columns.shape
    rows = len(layer.mu)
    eta = layer.mu @ columns  # (n, M, P)
    beta = layer.sigma[..., None] * columns[:, None]  # (n, M, N, P)
    drawn = noise((n, samples, rows, depth))
    out = eta[:, None] + torch.einsum("nmjp,ntmj->ntmp", beta, drawn)
    return _biased(layer, out, noise)


def _local(layer: Posterior, columns: torch.Tensor, samples: int, noise: Noise) -> torch.Tensor:
    """Each output is N(mu x, sigma^2 x^2), exactly, if no weight serves two positions."""
    n, _, positions = columns.shape
    mean = layer.mu @ columns
    variance = layer.variance @ (columns * columns)
    if layer.bias_mu is not None and layer.bias_variance is not None:
        mean = mean + layer.bias_mu[:, None]
        variance = variance + layer.bias_variance[:, None]
    drawn = noise((n, samples, len(layer.mu), positions))
    return mean[:, None] + variance.sqrt()[:, None] * drawn


def _biased(layer: Posterior, out: torch.Tensor, noise: Noise) -> torch.Tensor:
    if layer.bias_mu is None or layer.bias_sigma is None:
        return out
    drawn = noise((*out.shape[:2], len(layer.mu)))
    return out + (layer.bias_mu + layer.bias_sigma * drawn)[..., None]


_FLOWS: dict[Flow, Callable[[Posterior, torch.Tensor, int, Noise], torch.Tensor]] = {
    "standard": _standard,
    "memorised": _memorised,
    "local": _local,
}


def sample_votes(
    layers: Sequence[Posterior], x: torch.Tensor, samples: Sequence[int], noise: Noise
) -> torch.Tensor:
    """Votes on a batch whose inputs share the drawn weights, as quickly as a CPU can.

    The distribution of each input's votes is that of `votes`; different inputs see the same
    networks.

    Args:
        layers: linear ones.
        x: (B, N).
        samples: per layer, as in `Plan`.
        noise: see `votes`.

    Returns:
        (voters, B, outputs).

    Raises:
        ConfigError: a layer is a convolution, or sample counts do not fit.
    """
    if len(samples) != len(layers) or min(samples) < 1:
        raise ConfigError(f"samples {tuple(samples)} for {len(layers)} layers; give one >= 1 each")
    values = x.flatten(1)[None]
    for layer, count in zip(layers, samples, strict=True):
        if layer.kernel:
            raise ConfigError("votes on a batch need linear layers; use votes per input")
        n, rows = len(values), len(layer.mu)
        weight = layer.mu + layer.sigma * noise((n * count, *layer.mu.shape))
        values = torch.bmm(values.repeat_interleave(count, 0), weight.transpose(1, 2))
        if layer.bias_mu is not None and layer.bias_sigma is not None:
            values += (layer.bias_mu + layer.bias_sigma * noise((n * count, rows)))[:, None]
        if layer.after is not None:
            values = layer.after(values)
    return values


def works(layers: Sequence[Posterior], x: torch.Tensor) -> list[Work]:
    """Sizes of the layers for one input of the shape of x."""
    found = []
    values = x[None]
    for layer in layers:
        columns = layer.columns(values)
        rows, depth = layer.mu.shape
        found.append(Work(rows, depth, columns.shape[-1], layer.bias_mu is not None))
        values = layer.shaped(layer.mu.new_zeros(1, rows, columns.shape[-1]), values)
        values = values if layer.after is None else layer.after(values)
    return found


def blocked(
    mu: NDArray[Any],
    sigma: NDArray[Any],
    x: NDArray[Any],
    noise: Callable[[int, int], NDArray[Any]],
    voters: int,
    alpha: float = 1 / 16,
) -> NDArray[Any]:
    """The memorised flow of one layer with a buffer of alpha M N products.

    A block of rows is memorised, all voters are computed on it, then comes the next block; the
    work is that of the whole at once.

    Args:
        mu: (M, N).
        sigma: the same shape.
        x: (N,).
        noise: the N numbers of (voter, row); called in the order (block, voter, row).
        voters: samples.
        alpha: share of the rows that is memorised at a time, in (0, 1].

    Returns:
        (voters, M).

    Raises:
        ConfigError: alpha or voters out of range.
    """
    if not 0 < alpha <= 1 or voters < 1:
        raise ConfigError(f"alpha {alpha} and {voters} voters; alpha is in (0, 1], voters >= 1")
    rows = len(mu)
    height = max(1, math.floor(alpha * rows))
    out = np.empty((voters, rows), np.result_type(mu, x))
    beta = np.empty((height, mu.shape[1]), out.dtype)
    eta = np.empty(height, out.dtype)
    for first in range(0, rows, height):
        size = min(height, rows - first)
        for row in range(size):  # NumPy would buffer the whole block beside it
            np.multiply(sigma[first + row], x, out=beta[row])
            eta[row] = mu[first + row] @ x
        for voter in range(voters):
            for row in range(size):
                out[voter, first + row] = eta[row] + beta[row] @ noise(voter, first + row)
    return out
