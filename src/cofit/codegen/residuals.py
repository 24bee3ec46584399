"""Additions that need no step: of a convolution's output to what was computed before it."""

from __future__ import annotations

from cofit.codegen.kernel import Residual
from cofit.ir import Graph, attributes


def find_residuals(graph: Graph) -> dict[str, Residual]:
    """The residual of each conv2d and linear op that can have one, by the op's output.

    Nothing else reads that output, and the other operand is an activation of its shape that exists
    when the op runs. So of two convolutions that are added, the later one has the residual.
    """
    age = {name: -1 for name in graph.inputs}
    found: dict[str, Residual] = {}
    for index, op in enumerate(graph.ops):
        age[op.output] = index
        readers = graph.consumers.get(op.output, ())
        if op.kind not in ("conv2d", "linear") or len(readers) != 1 or op.output in graph.outputs:
            continue
        (reader,) = readers
        if not isinstance(reader.attributes, attributes.Add):
            continue
        residual = Residual(reader, reader.inputs.index(op.output))
        shape = graph.tensors[op.output].shape
        # what is added to itself, a constant, and what comes later have no age below this one's
        before = age.get(residual.other, index) < index
        if before and graph.tensors[residual.other].shape == shape:
            found[op.output] = residual
    return found
