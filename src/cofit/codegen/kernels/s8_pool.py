"""int8 pooling over NHWC."""

from __future__ import annotations

from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.s8_elementwise import scaling_text
from cofit.codegen.kernels.s8_layer import requantise_support, rows_text
from cofit.codegen.kernels.shares import count_of, declared, share_rows
from cofit.codegen.kernels.window import Window
from cofit.codegen.machine import Machine
from cofit.core import UnsupportedOpError
from cofit.ir import Graph, Op, attributes
from cofit.ir.integer import kept_quantisation, mean_requant

BYTES_PER_CYCLE = 16  # of inputs, where there are vectors


class S8Pool:
    """maxpool2d, avgpool2d and globalmean."""

    name = "s8-pool"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other ops, and windows that would need another scale."""
        if op.kind not in ("maxpool2d", "avgpool2d", "globalmean"):
            return f"{op.kind} is not pooling"
        try:
            _ = (mean_requant if op.kind == "globalmean" else kept_quantisation)(graph, op)
        except UnsupportedOpError as error:
            return str(error)
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call."""
        return pool_code(graph, op, machine, "s8")


def pool_code(graph: Graph, op: Op, machine: Machine, prefix: str) -> KernelCode:
    """One call of the support function PREFIX_maxpool, _avgpool or _globalmean, from its file."""
    _, channels, height, width = graph.tensors[op.inputs[0]].shape
    if isinstance(op.attributes, attributes.GlobalMean):
        text = scaling_text(graph, op, "mean", op.inputs[0], mean_requant(graph, op))
        return KernelCode(
            f"{text}\n{prefix}_globalmean(&mean, in0, {height * width}, {channels}, out);",
            support=(requantise_support(graph), f"{prefix}_globalmean.h"),
            variant="mean",
        )
    assert isinstance(op.attributes, attributes.MaxPool2d | attributes.AvgPool2d)
    pool = op.attributes
    out = graph.tensors[op.output].shape
    w = Window(
        channels, height, width, channels, out[2], out[3], pool.kernel, pool.stride,
        padding=pool.padding,
    )  # fmt: skip
    products = graph.tensors[op.output].size * w.kernel[0] * w.kernel[1]
    shares = share_rows(machine, w.out_height, products / BYTES_PER_CYCLE)
    text, own, to = rows_text(w, 0, channels, shares)
    if isinstance(pool, attributes.MaxPool2d):
        name, variant, last = f"{prefix}_maxpool", "max", ""
    else:
        name, variant = f"{prefix}_avgpool", "average"
        last = f", {int(pool.count_padding)}, {kept_quantisation(graph, op)[1]}"
    body = declared(shares, f"{text}\n{name}({own}, in0, {to}{last});")
    return KernelCode(body, support=(f"{name}.h",), variant=variant, shares=count_of(shares))
