"""Decisions that gradients pass through, each with its stated derivative.

==================  =======================================  =====================================
function            forward                                  backward
==================  =======================================  =====================================
straight_through    the decision given                       identity on x (biased)
ste_round           nearest integer, half to even            identity (biased)
ste_topk            1 for the k largest, else 0              identity (biased)
gumbel_sigmoid      sigmoid((x + logistic noise) / T)        exact for the noise drawn; with `hard`
                                                             a 0/1 decision, derivative of the soft
bernoulli_policy    actions ~ Bernoulli(sigmoid(x))          exact of the log-probability: a - p
transform_gradient  identity                                 the given function of the gradient
==================  =======================================  =====================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from cofit.core import ConfigError

Transform = Callable[[torch.Tensor], torch.Tensor]


def straight_through(x: torch.Tensor, decision: torch.Tensor) -> torch.Tensor:
    """The value of `decision` with the gradient of `x`; both of one shape."""
    out: torch.Tensor = _StraightThrough.apply(x, decision)  # type: ignore[no-untyped-call]
    return out


def ste_round(x: torch.Tensor) -> torch.Tensor:
    """Round, with the gradient of the identity."""
    return straight_through(x, x.detach().round())


def ste_topk(scores: torch.Tensor, k: int) -> torch.Tensor:
    """0/1 mask of the k largest along the last axis (ties: lower index), gradient of the identity.

    Args:
        scores: (..., n).
        k: from 0 to n.

    Returns:
        (..., n), exactly k ones in each row.
    """
    if not 0 <= k <= scores.shape[-1]:
        raise ConfigError(f"top-{k} of {scores.shape[-1]} scores; k must be from 0 to their number")
    order = scores.detach().argsort(dim=-1, descending=True, stable=True)[..., :k]
    mask = torch.zeros_like(scores).scatter_(-1, order, 1.0)
    return straight_through(scores, mask)


def gumbel_sigmoid(
    logits: torch.Tensor, temperature: float, generator: torch.Generator, hard: bool = False
) -> torch.Tensor:
    """Relaxed Bernoulli sample (Maddison et al. 2017; Jang et al. 2017), same shape as `logits`.

    Args:
        logits: log-odds of a one.
        temperature: T > 0; small values are closer to 0/1 and have larger gradient variance.
        generator: source of the noise.
        hard: give 0/1 values with the gradient of the relaxed ones.
    """
    # clamped, for rand may give exactly 0, whose logarithm is infinite
    u = _uniform(logits, generator).clamp_(1e-12, 1 - 1e-12)
    noise = (torch.log(u) - torch.log1p(-u)).to(logits.dtype)
    soft = torch.sigmoid((logits + noise) / temperature)
    if not hard:
        return soft
    return straight_through(soft, (soft.detach() > 0.5).to(soft.dtype))


def bernoulli_policy(
    logits: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions and their log-probability, for a score-function (REINFORCE) surrogate.

    Args:
        logits: (N, decisions), log-odds of action 1.
        generator: source of the draw.

    Returns:
        0/1 actions (N, decisions) without gradient, and log-probabilities (N,) with gradient
        d log p / d logit = action - sigmoid(logit).
    """
    probability = torch.sigmoid(logits.detach())
    actions = (_uniform(logits, generator) < probability).to(logits.dtype)
    log_probability = -F.binary_cross_entropy_with_logits(logits, actions, reduction="none")
    return actions, log_probability.sum(dim=-1)


def transform_gradient(x: torch.Tensor, transform: Transform) -> torch.Tensor:
    """Identity whose backward passes transform(gradient); the shape must be kept."""
    out: torch.Tensor = _TransformGradient.apply(x, transform)  # type: ignore[no-untyped-call]
    return out


def _uniform(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(like.shape, generator=generator, dtype=torch.float64)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, decision: torch.Tensor) -> torch.Tensor:
        return decision.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


class _TransformGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, transform: Transform) -> torch.Tensor:
        ctx.transform = transform
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.transform(gradient), None
