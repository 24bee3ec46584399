"""int8 depthwise convolution over NHWC: four channels at a time, straight from the input."""

from __future__ import annotations

from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.s8_layer import (
    Rows,
    layer_constants,
    reject_weighted,
    requantise_support,
    rows_text,
    weight_values,
)
from cofit.codegen.kernels.shares import count_of, declared, share_rows
from cofit.codegen.kernels.window import window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, kept_macs
from cofit.ir.integer import affine


class S8Depthwise:
    """conv2d with one filter for each channel; always dense, 4-bit weights are held in bytes."""

    name = "s8-depthwise"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """One input and one output channel per group."""
        reason = reject_weighted(graph, op)
        if reason is not None:
            return reason
        w = window(graph, op)
        if not w.groups == w.channels == w.outputs or w.groups == 1:
            return "it is not depthwise with one filter per channel"
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call."""
        w = window(graph, op)
        weight = weight_values(graph, op).transpose(1, 2, 3, 0).ravel()
        declaration, constants = layer_constants(graph, op, Rows(weight))
        shares = share_rows(machine, w.out_height, kept_macs(graph, op))
        offset = -affine(graph, op.inputs[0])[1]
        text, own, to = rows_text(w, offset, w.channels, shares)
        return KernelCode(
            declared(shares, f"{declaration}\n{text}\ns8_depthwise({own}, layers, in0, {to});"),
            constants,
            (requantise_support(graph), "s8_depthwise.h"),
            variant="4 channels",
            shares=count_of(shares),
        )
