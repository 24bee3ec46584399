"""A graph as a table for people, and the memory its activations need."""

from __future__ import annotations

from cofit.core import format_quantity
from cofit.ir.shapes import macs
from cofit.ir.types import Graph


def live_bytes(graph: Graph) -> dict[str, int]:
    """Bytes of activations that must exist while each op runs, by the op's name.

    That is every tensor already there and still to be read, the op's output, and the graph's
    outputs; a graph input exists from the start to its last reader. Nothing is shared in place, so
    the maximum bounds what a memory planner needs, up to fragmentation.
    """
    last_use = {name: i for i, op in enumerate(graph.ops) for name in (op.output, *op.inputs)}
    last_use |= dict.fromkeys(graph.outputs, len(graph.ops))
    activations = {name for name in last_use if graph.tensors[name].data is None}
    sizes = {name: graph.tensors[name].nbytes for name in activations}
    live = {name for name in graph.inputs if name in last_use}
    found: dict[str, int] = {}
    for i, op in enumerate(graph.ops):
        live.add(op.output)
        found[op.output] = sum(sizes[name] for name in live)
        live = {name for name in live if last_use[name] > i}
    return found


def describe(graph: Graph) -> str:
    """An aligned table of the ops with their sizes, and the totals.

    Columns: name, kind (with what is fused), output shape, MACs, bytes of constants, bytes of the
    output, bytes live at that op. A constant shared by several ops counts in the row of each, and
    once in the total.
    """
    live = live_bytes(graph)
    head = ("op", "kind", "output", "MACs", "params", "activation", "live")
    rows = [head]
    for op in graph.ops:
        fused = getattr(op.attributes, "fused", "none")
        constants = {n for n in op.inputs if graph.tensors[n].data is not None}
        output = graph.tensors[op.output]
        rows.append((
            op.output,
            op.kind if fused == "none" else f"{op.kind}+{fused}",
            "x".join(map(str, output.shape)),
            f"{macs(graph, op):,}",
            f"{sum(graph.tensors[n].nbytes for n in constants):,}",
            f"{output.nbytes:,}",
            f"{live[op.output]:,}",
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    params = sum(t.nbytes for t in graph.tensors.values() if t.data is not None)
    total = (
        f"{graph.name}: {len(graph.ops)} ops, {sum(macs(graph, op) for op in graph.ops):,} MACs, "
        f"parameters {format_quantity(params, 'bytes')}, "
        f"peak activations {format_quantity(max(live.values(), default=0), 'bytes')}"
    )
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], "", total])
