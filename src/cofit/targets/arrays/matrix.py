"""Layers as arrays see them: matrices that stay, and inputs that pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cofit.core import TargetError
from cofit.ir import Graph, Op, Tensor
from cofit.structures import Complementary, Composition, Polarised, Rows, Structure, parse
from cofit.structures.formats import four
from cofit.structures.formats.matrix import Order, to_columns
from cofit.targets.dataflow import Layer
from cofit.targets.dataflow.network import layers_of, weights_of


@dataclass(frozen=True)
class Matrix:
    """One layer.

    Attributes:
        rows: N, weights of a filter.
        filters: K, of one group of a convolution.
        positions: inputs that pass.
        copies: groups of a convolution, each with rows and filters of its own.
        input_bits: of an input element.
        output_bits: of an output element.
        weight_bits: of a weight.
        mixed: groups of rows that are to hold one sign hold both.
        paired: neighbouring filters of a group are each other's complement, up to a constant.
    """

    rows: int
    filters: int
    positions: int
    copies: int = 1
    input_bits: int = 8
    output_bits: int = 8
    weight_bits: int = 8
    mixed: bool = False
    paired: bool = False

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.rows * self.filters * self.positions * self.copies

    @property
    def weights(self) -> int:
        """Weights that are stored."""
        return self.rows * self.filters * self.copies


@dataclass(frozen=True)
class MatrixCost:
    """What a matrix costs on an array.

    Attributes:
        latency_s: of all positions.
        energy_pj: by component; None where nothing is known of energies.
        arrays: sub-arrays that it takes.
        used: share of their cells that hold a weight.
    """

    latency_s: float
    energy_pj: Mapping[str, float] | None
    arrays: int
    used: float

    @property
    def total_pj(self) -> float | None:
        """Sum over components."""
        return None if self.energy_pj is None else math.fsum(self.energy_pj.values())


def matrices_of(
    graph: Graph, op: Op, float_bits: int = 8, sign_group: int | None = None
) -> tuple[Matrix, ...]:
    """Matrices of an op; nothing if it has no multiply-accumulates.

    Rows that the structure of a weight leaves empty in all columns are not in its matrix.

    Args:
        graph: which the op is of.
        op: any.
        float_bits: width that float32 is taken to be rounded to.
        sign_group: rows of a group that is to hold one sign; rows are then left out by whole
            groups. None where the array does not ask for it.

    Raises:
        TargetError: both operands are computed, so that nothing stays in the array.
    """
    layers = layers_of(graph, op, float_bits, psum_bits=32)
    if layers and op.kind == "matmul":
        raise TargetError(
            f"op {op.output!r} (matmul) multiplies two activations; arrays hold weights, so choose "
            "another target for it"
        )
    weights = (graph.tensors[name] for name in weights_of(graph, op))
    return tuple(
        _matrix(layer, weight, sign_group) for layer, weight in zip(layers, weights, strict=True)
    )


def _matrix(layer: Layer, weight: Tensor, sign_group: int | None) -> Matrix:
    parts = _parts(weight)
    one_sign = sign_group is not None and any(
        isinstance(part, Polarised) and part.m % sign_group == 0 for part in parts
    )
    filters, groups = layer.k // layer.groups, layer.groups
    # pairs of a depthwise layer are of two groups, which its macros are made for
    apart = filters == 1 or groups == 1 or filters % 2 == 0
    return Matrix(
        rows=_kept_rows(weight, parts, sign_group or 1),
        filters=filters,
        positions=layer.n * layer.y * layer.x,
        copies=groups,
        input_bits=layer.bits_input,
        output_bits=layer.bits_output,
        weight_bits=layer.bits_weight,
        mixed=sign_group is not None and not one_sign,
        paired=apart and any(isinstance(part, Complementary) for part in parts),
    )


def _parts(weight: Tensor) -> tuple[Structure, ...]:
    """Structures of a weight; none of a dense one."""
    if weight.structure is None:
        return ()
    found = parse(weight.structure)
    return found.parts if isinstance(found, Composition) else (found,)


def _kept_rows(weight: Tensor, parts: tuple[Structure, ...], group: int) -> int:
    """Rows of the groups in which a structure left something; at least one."""
    rows = math.prod(weight.shape[1:])
    if not parts or weight.data is None:
        return rows
    orders: list[Order] = [part.order for part in parts if isinstance(part, Polarised | Rows)]
    order = orders[0] if orders else "c"
    values = to_columns(np.asarray(weight.data).reshape(four(weight.shape)), group, order)
    places = (np.arange(values.shape[1]) + 1) * group
    sizes = group - np.maximum(places - rows, 0)
    return max(int(sizes[(values != 0).any(axis=(0, 2))].sum()), 1)
