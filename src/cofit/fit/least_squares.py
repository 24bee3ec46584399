"""Least squares on the kept weights of a layer: the equations, and their solution."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cofit.core import torch_generator
from cofit.ir import Op
from cofit.ir import attributes as at

Matrix = NDArray[np.float64]

EQUATIONS = 24
"""Equations per unknown: enough that solving does not learn the sample by heart."""

RIDGE = 1e-4
"""Weight of the starting point, relative to the mean square of the layer's inputs."""


def windows(op: Op, shape: tuple[int, ...], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample of the windows that a layer multiplies its weights with.

    Args:
        op: one that multiplies by weights, a conv2d without groups.
        shape: of the weight, n elements per output.
        x: what is multiplied by it (N, ...).

    Returns:
        Windows (n, M), and the positions (of each input) they belong to; the same ones for the
        same number of positions.
    """
    unknowns = math.prod(shape[1:])
    if not isinstance(op.attributes, at.Conv2d):
        return x.flatten(0, -2).T, torch.arange(math.prod(x.shape[1:-1]))
    a = op.attributes
    top, bottom, left, right = a.padding
    x = F.pad(x, (left, right, top, bottom))
    reach = [d * (k - 1) + 1 for d, k in zip(a.dilation, shape[2:], strict=True)]
    height, across = (
        (size - r) // s + 1 for size, r, s in zip(x.shape[2:], reach, a.stride, strict=True)
    )
    positions = height * across
    share = min(1.0, EQUATIONS * (unknowns + 1) / (positions * len(x)))
    order = torch.randperm(positions, generator=torch_generator(0, "windows", str(positions)))
    pick = order[: math.ceil(share * positions)]
    row, column = pick // across, pick % across
    down = (row * a.stride[0])[:, None] + torch.arange(shape[2]) * a.dilation[0]
    along = (column * a.stride[1])[:, None] + torch.arange(shape[3]) * a.dilation[1]
    taken = x[:, :, down[:, :, None], along[:, None, :]]  # (N, C, positions, R, S)
    return taken.permute(1, 3, 4, 0, 2).reshape(unknowns, -1), pick


def solve_kept(start: Matrix, kept: NDArray[np.bool_], gram: Matrix, moment: Matrix) -> Matrix:
    """W with the least ||W X - Y||^2 + ridge ||W - start||^2, equal to `start` outside of `kept`.

    Args:
        start: (K, n).
        kept: (K, n) entries to solve.
        gram: X X^T (n, n).
        moment: Y X^T (K, n).
    """
    missing = moment - start @ gram
    solution = start.copy()
    for rows, places in _alike(kept):
        part = gram[np.ix_(places, places)]
        part[np.diag_indices_from(part)] += RIDGE * max(np.trace(part) / max(len(part), 1), 1e-30)
        step = np.linalg.solve(part, missing[np.ix_(rows, places)].T)
        solution[np.ix_(rows, places)] += step.T
    return solution


def _alike(kept: NDArray[np.bool_]) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows that keep the same places, and these places."""
    patterns, owner = np.unique(kept, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        yield np.flatnonzero(owner.ravel() == index), np.flatnonzero(pattern)
