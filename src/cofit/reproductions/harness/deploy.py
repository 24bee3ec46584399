"""Trained networks as programs of this machine, timed in turn with other runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from cofit.codegen import compile
from cofit.core import numpy_generator
from cofit.fit.peers import one_torch_thread, race
from cofit.fit.runtimes import Call, runtimes
from cofit.ir import Graph, trace
from cofit.structures import Structure


def structured_graph(
    model: nn.Module, sample: torch.Tensor, structures: Mapping[str, Structure], name: str
) -> Graph:
    """The float graph of a network whose weights bear the structures they are members of."""
    graph = trace(model, sample[:1], name)
    return graph.with_tensors(
        {key: replace(graph.tensors[key], structure=s.text) for key, s in structures.items()}
    )


def latencies(dense: Graph, sparse: Graph, peers: bool) -> dict[str, float]:
    """Median seconds at batch 1, one thread: our programs "dense" and "sparse", and others' dense.

    Args:
        dense: without structures; run by us and by every fp32 runtime that is installed.
        sparse: the same layers with structures.
        peers: whether to time the other runtimes too.
    """
    calls: dict[str, Call] = {"dense": compile(dense).run, "sparse": compile(sparse).run}
    if peers:
        found = runtimes(dense, None)
        calls |= {runtime.name: runtime.call for runtime in found if runtime.call is not None}
    shape = dense.tensors[dense.inputs[0]].shape
    x = numpy_generator(0, "latencies").standard_normal(shape, np.float32)
    with one_torch_thread():
        return race(calls, x)
