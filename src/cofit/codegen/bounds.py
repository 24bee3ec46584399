"""Largest float32 rounding errors of ops whose error is more than that of a sum."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cofit.ir import Op, attributes
from cofit.ir.execute import State, gru_step, lstm_step

EPSILON = 2.0**-24  # unit roundoff of float32
TINY = 2.0**-120  # flushed or underflowed results
_FUNCTION = 16 * EPSILON  # of a gate: libm, and the arithmetic around it


def layer_norm_bound(arguments: list[torch.Tensor], eps: float) -> torch.Tensor:
    """Of (x - mean) / sqrt(var + eps) * w + b with the variance from differences.

    The error of the mean enters every difference; those of the differences enter the variance.
    """
    x, weight, bias = arguments
    count = x.shape[-1] + 2
    difference = x - x.mean(-1, keepdim=True)
    wrong = count * EPSILON * x.abs().mean(-1, keepdim=True) + 2 * EPSILON * difference.abs()
    variance = difference.square().mean(-1, keepdim=True)
    wrong_variance = (2 * difference.abs() * wrong + wrong.square()).mean(-1, keepdim=True) + (
        count + 2
    ) * EPSILON * (variance + eps)
    inverse = 1 / torch.sqrt(variance + eps)
    relative = wrong_variance / 2 * inverse.square() + 4 * EPSILON
    size = weight.abs() * inverse
    error = size * (wrong + difference.abs() * relative)
    return 2 * (error + 4 * EPSILON * (size * difference.abs() + bias.abs())) + TINY


def forced_states(
    op: Op, arguments: list[torch.Tensor], got: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each step must give from the state that the program itself gave before it, and bounds.

    Errors of earlier steps are in that state, so that they cannot pile up; only the memory of an
    LSTM, which is not seen, carries its own error on.
    """
    x, w_ih, w_hh, b_ih, b_hh, *first = arguments
    before = torch.cat([first[0] if first else torch.zeros_like(got[:, :1]), got[:, :-1]], 1)
    inner, outer = F.linear(x, w_ih, b_ih), F.linear(before, w_hh, b_hh)
    wrong = (
        2
        * EPSILON
        * (
            (x.shape[-1] + 2) * F.linear(x.abs(), w_ih.abs(), b_ih.abs())
            + (got.shape[-1] + 2) * F.linear(before.abs(), w_hh.abs(), b_hh.abs())
        )
    )
    if isinstance(op.attributes, attributes.Gru):
        (states,) = gru_step(inner, outer, (before,))
        reset, update, new = wrong.chunk(3, -1)
        hidden = outer.chunk(3, -1)[2].abs()
        new = new + (reset / 4 + _FUNCTION) * hidden + _FUNCTION * (1 + hidden)
        # |n - h| <= 1 + |h|, and 1 - z <= 1
        allowed = new + (update / 4 + _FUNCTION) * (1 + before.abs())
        return states.numpy(), (2 * allowed + TINY).numpy()
    state: State = (torch.zeros_like(got[:, 0]), torch.zeros_like(got[:, 0]))
    error = torch.zeros_like(got[:, 0])
    expected, allowed_by_step = [], []
    for t in range(x.shape[1]):
        before_cell = state[1].abs()
        state = lstm_step(inner[:, t], outer[:, t], state)
        i, f, g, o = wrong[:, t].chunk(4, -1)
        error = error + (f / 4 + _FUNCTION) * before_cell + i / 4 + g + 2 * _FUNCTION
        expected.append(state[0])
        allowed_by_step.append(2 * (error + o / 4 + 2 * _FUNCTION) + TINY)
    return torch.stack(expected, 1).numpy(), torch.stack(allowed_by_step, 1).numpy()
