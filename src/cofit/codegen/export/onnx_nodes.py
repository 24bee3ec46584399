"""The ONNX form of every op kind, on real numbers; `onnx_file` wraps quantisation around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cofit.codegen.export import onnx_sequences
from cofit.codegen.export.onnx_sheet import Sheet
from cofit.ir import attributes as at
from cofit.ir.types import Graph, Op

Round = Callable[[str, str], str]
"""(value, tensor): the value on the grid of that tensor; in a float graph the value itself."""

_FUNCTIONS: dict[at.Function, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "hardswish": ("HardSwish", {}),
    "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
}


def write_op(
    sheet: Sheet,
    graph: Graph,
    op: Op,
    inputs: Sequence[str],
    output: str,
    clamp: at.Fused,
    rounded: Round,
) -> None:
    """Append the nodes of one op.

    Args:
        sheet: what is written to.
        graph: where the op is from.
        op: which op.
        inputs: names of its real operands in the sheet, weight and bias included.
        output: name that the result must have.
        clamp: the fused activation that is still to be computed.
        rounded: quantises what lies between two nodes, where kernels want it.
    """
    x, y = (graph.tensors[name].shape for name in (op.inputs[0], op.output))
    bare = output if clamp == "none" else sheet.fresh(f"{output}/unclamped")
    match op.attributes:
        case at.Conv2d() as conv:
            sheet.node(
                "Conv", inputs, bare, strides=conv.stride, dilations=conv.dilation,
                pads=_pads(conv.padding), group=conv.groups,
            )  # fmt: skip
        case at.Linear():
            if len(x) == 2:
                sheet.node("Gemm", inputs, bare, transB=1)
            else:  # (N, T, C) as N * T rows: Gemm has an int8 kernel with a bias, MatMul has none
                flat = _reshape(sheet, inputs[0], (-1, x[-1]), sheet.fresh(f"{bare}/rows"))
                operands = [rounded(flat, op.inputs[0]), *inputs[1:]]
                rows = sheet.node("Gemm", operands, sheet.fresh(f"{bare}/product"), transB=1)
                _reshape(sheet, rounded(rows, op.output), (-1, *y[1:]), bare)
        case at.Add():
            sheet.node("Add", inputs, bare)
        case at.Mul():
            sheet.node("Mul", inputs, bare)
        case at.Concat() as concat:
            sheet.node("Concat", inputs, output, axis=concat.axis)
        case at.MaxPool2d() as pool:
            sheet.node(
                "MaxPool", inputs, output, kernel_shape=pool.kernel, strides=pool.stride,
                pads=_pads(pool.padding),
            )  # fmt: skip
        case at.AvgPool2d() as pool:
            sheet.node(
                "AveragePool", inputs, output, kernel_shape=pool.kernel, strides=pool.stride,
                pads=_pads(pool.padding), count_include_pad=int(pool.count_padding),
            )  # fmt: skip
        case at.GlobalMean(keep=True):
            sheet.node("GlobalAveragePool", inputs, output)
        case at.GlobalMean():
            plane = sheet.node("GlobalAveragePool", inputs, sheet.fresh(f"{output}/plane"))
            sheet.node("Flatten", [rounded(plane, op.output)], output)
        case at.Reshape() as reshape:
            _reshape(sheet, inputs[0], (0, *reshape.shape[1:]), output)
        case at.Slice() as cut:
            spans = {
                "starts": cut.start,
                "ends": cut.stop,
                "axes": range(len(x)),
                "steps": cut.step,
            }
            given = [  # the batch stays whole
                sheet.integers(f"{output}/{name}", values[1:]) for name, values in spans.items()
            ]
            sheet.node("Slice", [inputs[0], *given], output)
        case at.Pad() as pad:
            sizes = [before for before, _ in pad.pads] + [after for _, after in pad.pads]
            sheet.node("Pad", [inputs[0], sheet.integers(f"{output}/pads", sizes)], output)
        case at.Activation() as activation:
            _activation(sheet, inputs[0], activation.function, output)
        case at.Softmax():
            sheet.node("Softmax", inputs, output, axis=-1)
        case at.Matmul() as product:
            onnx_sequences.matmul(sheet, product, inputs, len(x), output)
        case at.Transpose() as transpose:
            sheet.node("Transpose", inputs, output, perm=transpose.permutation)
        case at.LayerNorm(eps=eps):
            sheet.node("LayerNormalization", inputs, output, axis=-1, epsilon=eps)
        case at.Embedding():
            sheet.node("Gather", [inputs[1], inputs[0]], output, axis=0)
        case at.Gru() | at.Lstm():
            onnx_sequences.recurrent(sheet, graph, op, [inputs[0], *inputs[5:]], output)
    if clamp != "none":
        _activation(sheet, bare, clamp, output)


def _pads(pads: at.Pads) -> at.Pads:
    top, bottom, left, right = pads
    return top, left, bottom, right


def _reshape(sheet: Sheet, x: str, shape: Sequence[int], output: str) -> str:
    return sheet.node("Reshape", [x, sheet.integers(f"{output}/shape", shape)], output)


def _activation(sheet: Sheet, x: str, function: at.Function, output: str) -> None:
    if function == "relu6":
        bounds = [sheet.constant(f"{output}/{b}", np.array(b, np.float32)) for b in (0, 6)]
        sheet.node("Clip", [x, *bounds], output)
    elif function in ("gelu", "gelu_tanh"):
        onnx_sequences.gelu(sheet, x, function == "gelu_tanh", output)
    else:
        kind, attributes = _FUNCTIONS[function]
        sheet.node(kind, [x], output, **attributes)
