"""fp32 softmax over the last axis; needs libm."""

from __future__ import annotations

from cofit.codegen.kernel import KernelCode
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op


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
        """Three passes per row."""
        shape = graph.tensors[op.output].shape
        size = shape[-1]
        body = f"""\
for (int row = 0; row < {graph.tensors[op.output].size // size}; ++row) {{
    const float *x = in0 + row * {size};
    float *y = out + row * {size};
    float top = x[0], sum = 0.0f;
    for (int i = 1; i < {size}; ++i) top = x[i] > top ? x[i] : top;
    for (int i = 0; i < {size}; ++i) {{
        y[i] = expf(x[i] - top);
        sum += y[i];
    }}
    for (int i = 0; i < {size}; ++i) y[i] /= sum;
}}"""
        return KernelCode(body, support=("libm.h",), in_place=(0,), variant="libm")
