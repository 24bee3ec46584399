"""Knowledge distillation from a frozen teacher (Hinton, Vinyals and Dean 2015)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError
from cofit.regimes.contract import Context, Regime


class Distillation(Regime):
    """Adds alpha T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch.

    The teacher is copied and frozen at construction, so the student may start as the same object;
    it is held outside the student and never enters its state dict. T^2 keeps the size of the
    gradient independent of T.

    Args:
        teacher: a network that gives logits (N, classes).
        temperature: T > 0.
        alpha: weight of the term relative to the task loss.
    """

    def __init__(self, teacher: nn.Module, temperature: float = 4.0, alpha: float = 1.0) -> None:
        if temperature <= 0 or alpha < 0:
            raise ConfigError(
                f"distillation got temperature={temperature}, alpha={alpha}; "
                "it needs temperature > 0 and alpha >= 0"
            )
        self._teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        self._temperature = temperature
        self._alpha = alpha

    def loss(self, context: Context) -> dict[str, torch.Tensor]:
        """The term "kd", in float32.

        Raises:
            ConfigError: teacher and student have outputs of different shapes.
        """
        with torch.no_grad():
            teacher = self._teacher(context.inputs)
        if teacher.shape != context.outputs.shape:
            raise ConfigError(
                f"the teacher gives outputs {tuple(teacher.shape)}, the student "
                f"{tuple(context.outputs.shape)}; distil between networks with the same classes"
            )
        t = self._temperature
        kl = F.kl_div(
            F.log_softmax(context.outputs.float() / t, dim=-1),
            F.log_softmax(teacher.float() / t, dim=-1),
            reduction="batchmean",
            log_target=True,
        )
        return {"kd": self._alpha * t * t * kl}
