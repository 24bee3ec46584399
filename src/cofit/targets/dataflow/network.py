"""The layers of a graph."""

from __future__ import annotations

import math

import numpy as np

from cofit.ir import DType, Graph, Op, Tensor
from cofit.ir import attributes as at
from cofit.targets.dataflow.layer import Layer


def layers_of(graph: Graph, op: Op, float_bits: int, psum_bits: int) -> tuple[Layer, ...]:
    """What an op asks of the array of multipliers; nothing if it has no multiply-accumulates.

    A recurrent layer is two products: of all inputs at once, and of the states one by one. Weights
    are as sparse as their zeros; activations are taken to be dense.

    Args:
        graph: which the op is of.
        op: any.
        float_bits: width that the accelerator gives to float32.
        psum_bits: width of its sums.
    """
    out, first = graph.tensors[op.output], graph.tensors[op.inputs[0]]

    def bits(tensor: Tensor) -> int:
        if tensor.dtype is DType.F32:
            return float_bits
        return tensor.quantisation.bits if tensor.quantisation else 8 * tensor.dtype.nbytes

    def common(second: Tensor) -> dict[str, int]:
        return {
            "bits_weight": bits(second),
            "bits_input": bits(first),
            "bits_output": bits(out),
            "bits_psum": psum_bits,
        }

    match op.attributes:
        case at.Conv2d() as conv:
            weight = graph.tensors[op.inputs[1]]
            k, c, r, s = weight.shape
            return (
                Layer(
                    op.output,
                    n=out.shape[0],
                    k=k,
                    c=c * conv.groups,
                    y=out.shape[2],
                    x=out.shape[3],
                    r=r,
                    s=s,
                    stride=conv.stride,
                    dilation=conv.dilation,
                    groups=conv.groups,
                    density_weight=_density(weight),
                    **common(weight),
                ),
            )
        case at.Linear():
            weight = graph.tensors[op.inputs[1]]
            k, c = weight.shape
            rows = math.prod(out.shape[:-1])
            return (
                Layer(
                    op.output, k=k, c=c, y=rows, density_weight=_density(weight), **common(weight)
                ),
            )
        case at.Matmul():
            second = graph.tensors[op.inputs[1]]
            heads, inner = math.prod(first.shape[:-2]), first.shape[-1]
            return (
                Layer(
                    op.output,
                    k=heads * out.shape[-1],
                    c=heads * inner,
                    y=first.shape[-2],
                    groups=heads,
                    **common(second),
                ),
            )
        case at.Gru() | at.Lstm():
            w_ih, w_hh = (graph.tensors[name] for name in op.inputs[1:3])
            steps = out.shape[1]
            return (
                Layer(
                    f"{op.output} inputs",
                    k=w_ih.shape[0],
                    c=w_ih.shape[1],
                    y=steps,
                    density_weight=_density(w_ih),
                    **common(w_ih),
                ),
                *(
                    Layer(
                        f"{op.output} states",
                        k=w_hh.shape[0],
                        c=w_hh.shape[1],
                        density_weight=_density(w_hh),
                        **common(w_hh),
                    ),
                )
                * steps,
            )
        case _:
            return ()


def _density(weight: Tensor) -> float:
    """Fraction of weights that are not zero, of a weight that has a structure."""
    if weight.data is None or weight.structure is None:
        return 1.0
    kept = int(np.count_nonzero(weight.data))
    return max(kept, 1) / weight.size
