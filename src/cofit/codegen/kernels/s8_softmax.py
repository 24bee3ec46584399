"""int8 softmax in fixed point."""

from __future__ import annotations

import math

from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.shares import count_of, count_text, declared, moved, share_rows
from cofit.codegen.machine import Machine
from cofit.core import UnsupportedOpError
from cofit.ir import Graph, Op
from cofit.ir.integer import softmax_parameters

MAX_CLASSES = 4096  # their exponentials' sum fits 32 bits
CYCLES = 20  # of one element


class S8Softmax:
    """softmax over the last axis."""

    name = "s8-softmax"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other ops, too many classes, scales out of range."""
        if op.kind != "softmax":
            return f"{op.kind} is not softmax"
        classes = graph.tensors[op.output].shape[-1]
        if classes > MAX_CLASSES:
            return f"{classes} classes are more than {MAX_CLASSES}"
        try:
            softmax_parameters(graph, op)
        except UnsupportedOpError as error:
            return str(error)
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call."""
        shape = graph.tensors[op.output].shape
        p = softmax_parameters(graph, op)
        rows, size = math.prod(shape[:-1]), shape[-1]
        shares = share_rows(machine, rows, CYCLES * rows * size)
        body = (
            f"static const s8_exponent exponent = {{.multiplier = {p.multiplier}, "
            f".shift = {p.shift}, .least = {p.diff_min}}};\n"
            f"s8_softmax(&exponent, {moved('in0', shares, size)}, {count_text(shares, rows)}, "
            f"{size}, {moved('out', shares, size)});"
        )
        return KernelCode(
            declared(shares, body),
            support=("s8_softmax.h",),
            in_place=(0,),
            variant="Q5.26",
            shares=count_of(shares),
        )
