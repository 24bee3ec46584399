"""A graph as an ONNX file: float graphs as plain operators, integer graphs in QDQ form.

QDQ form states the arithmetic of an integer graph as real operators between QuantizeLinear and
DequantizeLinear, with int8 weights and int32 biases behind a DequantizeLinear of their own; ONNX
Runtime, OpenVINO and TensorRT fuse that into their int8 kernels. It says where values are rounded,
not how: runtimes scale accumulators in float32 where the integer reference uses a fixed-point
multiplier, so that a layer's output may differ from it by one step.

Activations are written as uint8, stored value and zero point 128 higher than the graph's int8: the
same real numbers, in the only type for which ONNX Runtime fuses every op on x86.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from cofit.codegen.export.onnx_nodes import write_op
from cofit.codegen.export.onnx_sheet import Sheet
from cofit.core import atomic_write
from cofit.ir import attributes as at
from cofit.ir.integer import output_bounds
from cofit.ir.types import DType, Graph, Op, Tensor

Array = NDArray[np.generic]

OPSET, IR_VERSION = 17, 8
"""Operator set of 2022 and its file format: read by every runtime since."""


def export_onnx(graph: Graph, path: Path) -> None:
    """Write a graph as ONNX, whole or not at all.

    Inputs and outputs are float32 (N, C, H, W) as the graph's, N symbolic, whether the graph
    computes in floats or in integers.

    Args:
        graph: a float or an integer graph.
        path: of the file.

    Raises:
        FileError: the file cannot be written.
    """
    blob = onnx_model(graph).SerializeToString(deterministic=True)
    with atomic_write(path) as file:
        file.write(blob)


def onnx_model(graph: Graph) -> onnx.ModelProto:
    """The checked ONNX model of a graph."""
    writer = _Writer(graph)
    for op in graph.ops:
        writer.write(op)
    body = helper.make_graph(
        writer.sheet.nodes,
        graph.name,
        [_port(graph.tensors[name]) for name in graph.inputs],
        [_port(graph.tensors[name]) for name in graph.outputs],
        writer.sheet.constants,
    )
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="cofit",
        producer_version=metadata.version("cofit"),
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _port(tensor: Tensor) -> ValueInfoProto:
    kind = TensorProto.INT32 if tensor.dtype is DType.I32 else TensorProto.FLOAT
    return helper.make_tensor_value_info(tensor.name, kind, ["N", *tensor.shape[1:]])


_OWN_CONSTANTS = ("gru", "lstm")  # whose gates ONNX wants in another order


class _Writer:
    """Writes ops in order; `_values` holds the name of the real value of each tensor."""

    def __init__(self, graph: Graph) -> None:
        self.sheet = Sheet(name for name, t in graph.tensors.items() if t.data is None)
        self._graph = graph
        self._weights = {
            n for op in graph.ops if graph.weight(op) is not None for n in op.inputs[1:]
        }
        # layer norm is computed on real numbers, of which 16 bits have no grid in this opset
        self._norms = {n for op in graph.ops if op.kind == "layernorm" for n in op.inputs[1:]}
        self._grids: dict[str, tuple[str, str]] = {}
        self._values = {
            name: name if graph.tensors[name].dtype is DType.I32 else self._rounded(name, name)
            for name in graph.inputs
        }

    def write(self, op: Op) -> None:
        """Append the nodes of an op whose inputs are there."""
        for name in op.inputs:
            if op.kind in _OWN_CONSTANTS and name in op.inputs[1:5]:
                self._values[name] = name
            elif name not in self._values:
                self._values[name] = self._constant(self._graph.tensors[name])
        inputs = [self._values[name] for name in op.inputs]
        output = op.output
        clamp: at.Fused = getattr(op.attributes, "fused", "none")
        if self._graph.is_integer:
            output = self.sheet.fresh(f"{output}/real")
            if output_bounds(self._graph, op) == (-128, 127):
                clamp = "none"  # QuantizeLinear saturates where it would clamp
        write_op(self.sheet, self._graph, op, inputs, output, clamp, self._rounded)
        if self._graph.is_integer:
            self._quantise(output, op.output, op.output)
        self._values[op.output] = op.output

    def _rounded(self, value: str, tensor: str) -> str:
        if not self._graph.is_integer:
            return value
        return self._quantise(value, tensor, self.sheet.fresh(f"{value}/rounded"))

    def _quantise(self, value: str, tensor: str, output: str) -> str:
        """Round a real value to the grid of a tensor; the result is a real value again."""
        grid = self._grid(tensor)
        stored = self.sheet.fresh(f"{output}/stored")
        self.sheet.node("QuantizeLinear", [value, *grid], stored)
        return self.sheet.node("DequantizeLinear", [stored, *grid], output)

    def _constant(self, tensor: Tensor) -> str:
        assert tensor.data is not None
        if tensor.name in self._norms and tensor.quantisation is not None:
            values = tensor.data.astype(np.float64) * tensor.quantisation.scale[0]
            return self.sheet.constant(tensor.name, values.astype(np.float32))
        if tensor.quantisation is None:
            return self.sheet.constant(tensor.name, tensor.data)
        stored = self.sheet.constant(f"{tensor.name}/stored", self._as_stored(tensor, tensor.data))
        axis = {"axis": 0} if tensor.quantisation.per_channel else {}
        real = self.sheet.fresh(tensor.name)
        return self.sheet.node("DequantizeLinear", [stored, *self._grid(tensor.name)], real, **axis)

    def _grid(self, name: str) -> tuple[str, str]:
        """Names of the scale and the zero point of a tensor."""
        if name not in self._grids:
            tensor = self._graph.tensors[name]
            assert tensor.quantisation is not None
            several = tensor.quantisation.per_channel
            scale = np.array(tensor.quantisation.scale, np.float32)
            zero = np.full(scale.shape, tensor.quantisation.zero_point, tensor.dtype.value)
            zero = self._as_stored(tensor, zero)
            self._grids[name] = (
                self.sheet.constant(f"{name}/scale", scale if several else scale[0]),
                self.sheet.constant(f"{name}/zero_point", zero if several else zero[0]),
            )
        return self._grids[name]

    def _as_stored(self, tensor: Tensor, values: Array) -> Array:
        """Stored values or zero points as the file has them: those of activations + 128."""
        if tensor.name in self._weights:
            return values
        return (values.astype(np.int16) + 128).astype(np.uint8)
