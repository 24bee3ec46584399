"""Rows of a table by token, of any element type."""

from __future__ import annotations

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op


class Embedding:
    """A token outside the table is read as the nearest row: no memory beyond it is touched."""

    name = "embedding"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other ops, and tables on another grid than the output's."""
        if op.kind != "embedding":
            return f"{op.kind} is not embedding"
        table, out = (graph.tensors[name] for name in (op.inputs[1], op.output))
        same = table.quantisation == out.quantisation
        return None if same else "the table is quantised otherwise than the output"

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One copy per token."""
        table = graph.tensors[op.inputs[1]]
        assert table.data is not None
        rows, width = table.shape
        body = f"""\
for (int i = 0; i < {graph.tensors[op.inputs[0]].size}; ++i) {{
    const int32_t token = in0[i] < 0 ? 0 : in0[i] < {rows} ? in0[i] : {rows - 1};
    __builtin_memcpy(out + i * {width}, table + token * {width}, {width} * sizeof *out);
}}"""
        constant = Constant("table", table.data.astype(table.dtype.value))
        return KernelCode(body, (constant,), variant=f"{rows} rows")
