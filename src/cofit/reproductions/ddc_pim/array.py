"""Paired layers on a simulated array: half of the cells, read from both sides, bit by bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cofit.data import Split
from cofit.ir import Graph, Op, Tensor, quantise_input, run_integer
from cofit.ir import attributes as at
from cofit.ir.integer.accumulate import conv_sums
from cofit.targets.arrays import ArraySpec, Clip, layer_matrix, program

SPEC = ArraySpec(
    rows=64, columns=128, group=64, cell_bits=1, input_bits=8, weight_bits=8,
    scheme="complementary",
)  # fmt: skip


@dataclass(frozen=True)
class ArrayLayer:
    """A paired layer on an array.

    Attributes:
        exact: whether all sums are those of integers.
        cells: that hold its weights.
        plain_cells: that a weight of its own per filter would take.
    """

    exact: bool
    cells: int
    plain_cells: int


def array_layers(
    integer: Graph, names: tuple[str, ...], split: Split, count: int
) -> list[ArrayLayer]:
    """Every paired layer of an integer graph on the activations of some examples."""
    stored = quantise_input(integer, split.inputs[:count].numpy())
    values: dict[str, Any] = run_integer(integer, {integer.inputs[0]: stored}, keep=True)
    values[integer.inputs[0]] = stored
    return [
        _layer(integer, op, weight, values[op.inputs[0]])
        for op, weight in integer.weighted()
        if weight.name in names
    ]


def _layer(integer: Graph, op: Op, weight: Tensor, x: Any) -> ArrayLayer:
    conv, grid = op.attributes, integer.tensors[op.inputs[0]].quantisation
    assert isinstance(conv, at.Conv2d) and grid is not None and weight.data is not None
    levels = np.asarray(weight.data)
    expected = conv_sums(
        x, levels, input_offset=-grid.zero_point, stride=conv.stride, padding=conv.padding,
        groups=conv.groups,
    )  # fmt: skip
    words = _words(x, conv, levels.shape, grid.zero_point)
    matrix = layer_matrix(torch.from_numpy(levels.astype(np.int64)))
    sums, cells = (_depthwise if conv.groups > 1 else _dense)(words, matrix)
    sums -= (grid.zero_point + 128) * matrix.sum(0)
    batch, filters, height, width = expected.shape
    found = sums.reshape(batch, height, width, filters).permute(0, 3, 1, 2)
    return ArrayLayer(bool((found.numpy() == expected).all()), cells, 8 * matrix.numel())


def _words(x: Any, conv: at.Conv2d, shape: tuple[int, ...], zero: int) -> torch.Tensor:
    """Unsigned inputs (P, groups, N), rows with channels fastest; padding is the zero point."""
    top, bottom, left, right = conv.padding
    padded = F.pad(torch.from_numpy(np.asarray(x)).float(), (left, right, top, bottom), value=zero)
    found = F.unfold(padded, shape[2:], stride=conv.stride)
    found = found.reshape(len(x), conv.groups, shape[1], -1, found.shape[-1])
    return found.permute(0, 4, 1, 3, 2).flatten(3).flatten(0, 1).long() + 128


def _dense(words: torch.Tensor, matrix: torch.Tensor) -> tuple[torch.Tensor, int]:
    chip = program(matrix, SPEC, Clip(SPEC.lossless_bits()))
    return chip.multiply(words[:, 0], fast=False), chip.stored.cells.numel()


def _depthwise(words: torch.Tensor, matrix: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Two inputs at once: one is read on the side of u, the other on the side of ~u."""
    found, cells = [], 0
    for first in range(0, matrix.shape[1], 2):
        chip = program(matrix[:, first : first + 2], SPEC, Clip(SPEC.lossless_bits()))
        cells += chip.stored.cells.numel()
        found += [
            chip.multiply(words[:, first + side], fast=False)[:, side]
            for side in range(chip.stored.filters)
        ]
    return torch.stack(found, 1), cells
