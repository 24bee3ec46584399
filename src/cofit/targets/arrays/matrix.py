"""Layers as arrays see them: matrices that stay, and inputs that pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cofit.core import TargetError
from cofit.ir import Graph, Op
from cofit.targets.dataflow import Layer
from cofit.targets.dataflow.network import layers_of


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
    """

    rows: int
    filters: int
    positions: int
    copies: int = 1
    input_bits: int = 8
    output_bits: int = 8
    weight_bits: int = 8

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


def matrices_of(graph: Graph, op: Op, float_bits: int = 8) -> tuple[Matrix, ...]:
    """Matrices of an op; nothing if it has no multiply-accumulates.

    Args:
        graph: which the op is of.
        op: any.
        float_bits: width that float32 is taken to be rounded to.

    Raises:
        TargetError: both operands are computed, so that nothing stays in the array.
    """
    layers = layers_of(graph, op, float_bits, psum_bits=32)
    if layers and op.kind == "matmul":
        raise TargetError(
            f"op {op.output!r} (matmul) multiplies two activations; arrays hold weights, so choose "
            "another target for it"
        )
    return tuple(_matrix(layer) for layer in layers)


def _matrix(layer: Layer) -> Matrix:
    return Matrix(
        rows=layer.c // layer.groups * layer.r * layer.s,
        filters=layer.k // layer.groups,
        positions=layer.n * layer.y * layer.x,
        copies=layer.groups,
        input_bits=layer.bits_input,
        output_bits=layer.bits_output,
        weight_bits=layer.bits_weight,
    )
