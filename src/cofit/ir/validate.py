"""What every graph must satisfy; a violation is a bug of the pass that built it."""

from __future__ import annotations

from cofit.core import ModelError
from cofit.ir.shapes import output_shape
from cofit.ir.types import Graph, Op

_LAYER = ("input", "weight", "bias")
_RECURRENT = ("input", "w_ih", "w_hh", "b_ih", "b_hh")
_OPERANDS = {
    "conv2d": _LAYER,
    "linear": _LAYER,
    "layernorm": _LAYER,
    "embedding": ("tokens", "table"),
    "gru": _RECURRENT,
    "lstm": _RECURRENT,
}


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
        if op.kind in _OPERANDS:
            _check_constants(graph, op)
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


def _check_constants(graph: Graph, op: Op) -> None:
    """All operands but the first of these are constants, and none may be left out."""
    operands = _OPERANDS[op.kind]
    stated = op.inputs[: len(operands)] if op.kind == "gru" else op.inputs  # then its first state
    if len(stated) != len(operands) or len(op.inputs) > len(operands) + 1:
        raise ModelError(
            f"op {op.output!r} needs {', '.join(operands)}; it has {len(op.inputs)} inputs"
        )
    for constant in stated[1:]:
        if graph.tensors[constant].data is None:
            raise ModelError(f"op {op.output!r}: {constant!r} must be a constant")
