"""What every graph must satisfy; a violation is a bug of the pass that built it."""

from __future__ import annotations

from cofit.core import ModelError
from cofit.ir.shapes import output_shape
from cofit.ir.types import Graph


def validate(graph: Graph) -> None:
    """Check names, order, arity, shapes and constants of a graph.

    Raises:
        ModelError: naming the op and what is wrong with it.
    """
    known = set(graph.inputs) | {n for n, t in graph.tensors.items() if t.data is not None}
    for op in graph.ops:
        missing = [name for name in op.inputs if name not in known]
        if missing:
            raise ModelError(f"op {op.output!r} ({op.kind}) reads {missing} before it is produced")
        if op.output in known:
            raise ModelError(f"tensor {op.output!r} is produced twice")
        if op.kind in ("conv2d", "linear"):
            _check_weighted(graph, op.output, op.inputs)
        try:
            shape = output_shape(op.attributes, tuple(graph.tensors[n].shape for n in op.inputs))
        except ValueError as error:
            raise ModelError(f"op {op.output!r}: {error}") from error
        stated = graph.tensors[op.output].shape
        if shape != stated:
            raise ModelError(
                f"op {op.output!r} ({op.kind}) gives {shape}, its tensor says {stated}"
            )
        known.add(op.output)
    for name in graph.outputs:
        if name not in known:
            raise ModelError(f"output {name!r} is never produced")
    for tensor in graph.tensors.values():
        if tensor.data is not None and tensor.data.shape != tensor.shape:
            raise ModelError(
                f"constant {tensor.name!r} holds {tensor.data.shape}, not {tensor.shape}"
            )


def _check_weighted(graph: Graph, name: str, inputs: tuple[str, ...]) -> None:
    if len(inputs) != 3:
        raise ModelError(f"op {name!r} needs input, weight and bias; it has {len(inputs)} inputs")
    for constant in inputs[1:]:
        if graph.tensors[constant].data is None:
            raise ModelError(f"op {name!r}: {constant!r} must be a constant")
