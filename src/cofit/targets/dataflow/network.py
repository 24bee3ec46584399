"""The layers of a graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cofit.ir import DType, Graph, Op, Tensor
from cofit.ir import attributes as at
from cofit.targets.dataflow.layer import Layer


def layers_of(graph: Graph, op: Op, float_bits: int, psum_bits: int) -> tuple[Layer, ...]:
    """What an op asks of the array of multipliers; nothing if it has no multiply-accumulates.

    A recurrent layer is products of all its inputs at once, and of its states one by one. Weights
    with a structure are as sparse as their zeros; activations are taken to be dense.

    Args:
        graph: which the op is of.
        op: any.
        float_bits: width that the accelerator gives to float32.
        psum_bits: width of its sums.
    """

    def bits(name: str) -> int:
        tensor = graph.tensors[name]
        if tensor.dtype is DType.F32:
            return float_bits
        return tensor.quantisation.bits if tensor.quantisation else 8 * tensor.dtype.nbytes

    def dressed(layer: Layer, second: str) -> Layer:
        return replace(
            layer,
            bits_weight=bits(second),
            bits_input=bits(op.inputs[0]),
            bits_output=bits(op.output),
            bits_psum=psum_bits,
            density_weight=_density(graph.tensors[second]),
        )

    return tuple(dressed(layer, second) for layer, second in _shapes(graph, op))


def weights_of(graph: Graph, op: Op) -> tuple[str, ...]:
    """Names of what takes the place of weights in each of `layers_of`."""
    return tuple(second for _, second in _shapes(graph, op))


def _shapes(graph: Graph, op: Op) -> Iterator[tuple[Layer, str]]:
    """Loops of an op, with the name of the operand that takes the place of weights."""
    out, first = graph.tensors[op.output].shape, graph.tensors[op.inputs[0]].shape
    match op.attributes:
        case at.Conv2d() as conv:
            k, c, r, s = graph.tensors[op.inputs[1]].shape
            yield (
                Layer(
                    op.output,
                    n=out[0],
                    k=k,
                    c=c * conv.groups,
                    y=out[2],
                    x=out[3],
                    r=r,
                    s=s,
                    stride=conv.stride,
                    dilation=conv.dilation,
                    groups=conv.groups,
                ),
                op.inputs[1],
            )
        case at.Linear():
            yield Layer.gemm(math.prod(out[:-1]), first[-1], out[-1], op.output), op.inputs[1]
        case at.Matmul():
            heads = math.prod(first[:-2])
            layer = Layer.gemm(first[-2], first[-1] * heads, out[-1] * heads, op.output)
            yield replace(layer, groups=heads), op.inputs[1]
        case at.Gru() | at.Lstm():
            (rows, inputs), (_, states) = (graph.tensors[name].shape for name in op.inputs[1:3])
            yield Layer.gemm(out[1], inputs, rows, f"{op.output} inputs"), op.inputs[1]
            for _ in range(out[1]):
                yield Layer.gemm(1, states, rows, f"{op.output} states"), op.inputs[2]


def _density(tensor: Tensor) -> float:
    """Fraction of weights that are not zero, of those with a structure."""
    if tensor.data is None or tensor.structure is None:
        return 1.0
    return max(int(np.count_nonzero(tensor.data)), 1) / tensor.size
