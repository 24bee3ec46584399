"""fp32 softmax over the last axis."""

from __future__ import annotations

from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.shares import count_of, count_text, declared, moved, share_rows
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op

CYCLES = 3  # of one element


class F32Softmax:
    """exp(x - max) / sum."""

    name = "f32-softmax"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """A libm is needed."""
        if op.kind != "softmax":
            return f"{op.kind} is not softmax"
        if machine.freestanding:
            return (
                f"float softmax needs libm, which {machine.name} does not have; "
                "quantise the network or drop its last softmax"
            )
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call; scratch holds the exponentials of a row."""
        size = graph.tensors[op.output].shape[-1]
        rows = graph.tensors[op.output].size // size
        shares = share_rows(machine, rows, CYCLES * rows * size)
        body = (
            f"f32_softmax({moved('in0', shares, size)}, {count_text(shares, rows)}, {size}, "
            f"(float *)(void *)scratch, {moved('out', shares, size)});"
        )
        return KernelCode(
            declared(shares, body),
            support=("f32_softmax.h",),
            scratch_bytes=4 * size,
            in_place=(0,),
            variant="three passes",
            shares=count_of(shares),
        )
