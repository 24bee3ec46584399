"""What the trained networks take and cost: bytes, programs of two machines, crossbars."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from cofit.codegen import compile
from cofit.core import numpy_generator
from cofit.fit.peers import one_torch_thread, race
from cofit.fit.precision import Lowering
from cofit.fit.runtimes import Call, runtimes
from cofit.ir import Graph
from cofit.reproductions.equal_rate.arms import kernels
from cofit.structures import parse
from cofit.targets import target
from cofit.targets.arrays import Crossbar, used_matrix

BITS = 8
"""Of a weight on crossbars, sign included."""

FRAGMENT = 8


def footprint(graph: Graph) -> dict[str, float]:
    """Of the structured layers: bytes in fp32 with indices, and crossbars that hold them."""
    nbytes, crossbars = 0, 0
    for name in kernels(graph):
        tensor = graph.tensors[name]
        weight = np.asarray(tensor.data)
        structure = None if tensor.structure is None else parse(tensor.structure)
        nbytes += weight.nbytes if structure is None else structure.encode(weight).nbytes
        one_sign = tensor.structure is not None and "polarised" in tensor.structure
        rows, columns = used_matrix(torch.from_numpy(weight), FRAGMENT if one_sign else 1)
        crossbars += Crossbar().count(rows, columns, BITS, "polarised" if one_sign else "offset")
    return {"bytes": float(nbytes), "crossbars": float(crossbars)}


def on_board(graph: Graph, low: Lowering, board: str) -> dict[str, float]:
    """Of the int8 program on a Cortex-M: retired instructions and linked flash."""
    cost = target(board).cost(low.lower(graph))
    assert cost.instructions is not None
    return {"instructions": float(cost.instructions), "flash": float(cost.flash_bytes)}


def latencies(graphs: Mapping[str, Graph], low: Lowering | None, peers: bool) -> dict[str, float]:
    """Median seconds at batch 1, one thread, all timed in turn; keys "NAME fp32", "NAME int8".

    Args:
        graphs: float graphs; "dense" is also what other runtimes run.
        low: to int8; None leaves int8 out.
        peers: whether other runtimes are timed.
    """
    calls: dict[str, Call] = {}
    for name, graph in graphs.items():
        calls[f"{name} fp32"] = compile(graph).run
        if low is not None:
            calls[f"{name} int8"] = compile(low.lower(graph)).run
    dense = graphs["dense"]
    if peers:
        found = runtimes(dense, None if low is None else low.lower(dense))
        calls |= {runtime.name: runtime.call for runtime in found if runtime.call is not None}
    shape = dense.tensors[dense.inputs[0]].shape
    x = numpy_generator(0, "latencies").standard_normal(shape, np.float32)
    with one_torch_thread():
        return race(calls, x)
