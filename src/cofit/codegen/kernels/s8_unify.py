"""int8 convolutions and linear layers of unified blocks: signed sums, one multiply per block row.

The program holds signs and values as they are encoded, so it is small; it is no faster than a dense
kernel, whose multiply costs what an addition does.
"""

from __future__ import annotations

import numpy as np

from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.s8_layer import (
    Rows,
    columns_of,
    constant,
    layer_constants,
    pair_call,
    reject_scalar,
    requantise_support,
    weight_values,
)
from cofit.codegen.machine import Machine
from cofit.core import StructureError
from cofit.ir import Graph, Op
from cofit.structures import Encoding, Unify, parse
from cofit.structures.formats.unify import classes

MOST_ROWS = 16
FREE = 0x8000


class S8Unify:
    """Weights of a `Unify` structure, on machines without vectors."""

    name = "s8-unify"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other structures; blocks whose rows are not whole pairs of input channels."""
        reason = reject_scalar(graph, op, machine)
        if reason is not None:
            return reason
        weight = graph.tensors[op.inputs[1]]
        structure = None if weight.structure is None else parse(weight.structure)
        if not isinstance(structure, Unify):
            return "the weight has no unified blocks"
        if getattr(op.attributes, "groups", 1) != 1:
            return "grouped convolutions are computed densely"
        _, channels, r, s = weight_values(graph, op).shape
        if structure.in_ % 2 or channels % structure.in_ or structure.out > MOST_ROWS:
            return (
                f"{structure.text} on {channels} input channels; blocks must have an even number "
                f"of them that divides theirs, and at most {MOST_ROWS} output channels"
            )
        if channels * r * s >= FREE:
            return f"its columns have more than {FREE - 1} elements"
        encoding = _encoding(graph, op, structure)
        return encoding if isinstance(encoding, str) else None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """The encoded blocks in order, for pairs of pixels."""
        weight = graph.tensors[op.inputs[1]]
        structure = parse(str(weight.structure))
        assert isinstance(structure, Unify)
        encoding = _encoding(graph, op, structure)
        assert isinstance(encoding, Encoding)
        columns = columns_of(graph, op)
        declaration, constants = layer_constants(graph, op, _rows(encoding, structure))
        arguments = (str(structure.out), str(structure.in_), "signs")
        loop = columns.loop(pair_call(columns, "s8_unify", arguments), None)
        return KernelCode(
            f"{declaration}\n{loop}",
            (*constants, constant("signs", encoding.arrays["signs"])),
            (requantise_support(graph), "s8_unify.h", *columns.support),
            columns.scratch_bytes,
            variant=structure.text,
        )


def _encoding(graph: Graph, op: Op, structure: Unify) -> Encoding | str:
    """The encoding of the integer weight, or why it has none: its blocks may span scales."""
    values = weight_values(graph, op).reshape(graph.tensors[op.inputs[1]].shape)
    try:
        return structure.encode(values)
    except StructureError as error:
        return str(error)


def _rows(encoding: Encoding, structure: Unify) -> Rows:
    tiles = structure.tiles(encoding.shape)
    groups, slabs, positions = tiles.grid
    kept, free = classes(encoding)
    slab, position = np.divmod(np.arange(slabs * positions), positions)
    place = position * (slabs * tiles.in_) + slab * tiles.in_  # in a (r, s, c) column
    index = np.tile(place, groups) | np.where(free, FREE, 0)
    magnitudes = iter(encoding.arrays["magnitudes"].view(np.int8))
    values = iter(encoding.arrays["values"].reshape(-1, tiles.size))
    parts = [next(values) if is_free else [next(magnitudes)] for is_free in free[kept]]
    return Rows(
        np.concatenate([np.zeros(0, np.int8), *(np.asarray(p, np.int8) for p in parts)]),
        None,
        kept.reshape(groups, -1).sum(axis=1).astype(np.uint16),
        index[kept].astype(np.uint16),
    )
