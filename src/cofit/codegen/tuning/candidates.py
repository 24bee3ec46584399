"""What is tried for a layer: the ways of its kernel family, and families that could replace it."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np

from cofit.codegen.kernel import Kernel, TunableKernel
from cofit.codegen.kernels import kernels_for
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op

MOST = 24
MOST_BYTES = 96 << 20
"""Chosen: of the weights of all candidates of a layer, each of which may pack them its own way."""


def candidates(graph: Graph, op: Op, machine: Machine) -> tuple[Kernel, ...]:
    """Kernels to time for an op, the one taken without timing first; none if nothing is to choose.

    At most `MOST`: the formula's choice of every tunable family that takes the op, then the other
    variants, those of families with few first; dense families have one if the weight has a
    structure.
    """
    if machine.freestanding or op.kind not in ("conv2d", "linear"):
        return ()
    taking = [k for k in kernels_for(graph) if k.reject(graph, op, machine) is None]
    if not taking or not isinstance(taking[0], TunableKernel):
        return ()
    lists = [k.variants(graph, op, machine) for k in taking if isinstance(k, TunableKernel)]
    weight = graph.tensors[op.inputs[1]]
    likely = lists if weight.structure is None else lists[:1]
    rest = (kernel for found in sorted(likely, key=len) for kernel in found[1:])
    ordered = [*(found[0] for found in lists), *rest]
    most = min(MOST, MOST_BYTES // max(weight.nbytes, 1))
    return tuple(ordered[:most]) if min(most, len(ordered)) > 1 else ()


def alone(graph: Graph, op: Op, name: str) -> Graph:
    """The graph of one op with its weights."""
    tensors = {each: graph.tensors[each] for each in (*op.inputs, op.output)}
    return Graph.build(name, op.inputs[:1], (op.output,), (op,), tensors, graph.spec)


def shape_class(graph: Graph, op: Op) -> str:
    """What the times of an op depend on beside the code: shapes, structure, kept weights, types."""
    x, weight, y = (graph.tensors[name] for name in (*op.inputs[:2], op.output))
    assert weight.data is not None
    kept = np.count_nonzero(weight.data) / max(weight.size, 1)
    return json.dumps(
        {
            "attributes": [op.kind, asdict(op.attributes)],
            "shapes": [x.shape, weight.shape, y.shape],
            "types": [x.dtype.value, weight.dtype.value],
            "structure": weight.structure,
            "kept_percent": round(100 * kept),
        },
        sort_keys=True,
    )
