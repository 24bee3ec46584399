"""Programs of pruned networks against every dense peer here, timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import nn

from cofit.codegen import Program
from cofit.codegen import compile as compile_graph
from cofit.core import torch_generator
from cofit.fit.peers import race
from cofit.fit.runtimes import Call, runtimes
from cofit.ir import Graph, trace
from cofit.structures import Structure, parse

OURS = "cofit "
DENSE, PRUNED = f"{OURS}dense fp32", f"{OURS}pruned fp32"


def structured(graph: Graph, pruned: nn.Module, structures: Mapping[str, Structure]) -> Graph:
    """The graph with the weights of a pruned network, which say what structures they obey.

    Args:
        graph: of a network with the same parameters.
        pruned: by whose names `structures` go.
        structures: by parameter.
    """
    changed = {
        name: replace(
            graph.tensors[name],
            data=parameter.detach().numpy(),
            structure=structures[name].text if name in structures else None,
        )
        for name, parameter in pruned.named_parameters()
    }
    return graph.with_tensors(changed)


def race_networks(
    module: nn.Module,
    dense: Graph,
    pruned: Program,
    integer: Graph | None,
    x: NDArray[np.float32],
    rounds: int,
) -> dict[str, float]:
    """Seconds of one call of each contender, one thread each.

    Args:
        module: the dense network as PyTorch runs it by itself.
        dense: its graph.
        pruned: program of the pruned network.
        integer: of the dense network in int8, if there is one.
        x: one input.
        rounds: series of each contender; the median counts.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        calls = {other.name: other.call for other in runtimes(dense, integer) if other.call}
        calls |= {
            "torch module fp32": _torch_call(module),
            DENSE: compile_graph(dense).run,
            PRUNED: pruned.run,
        }
        return race(calls, x, rounds)
    finally:
        torch.set_num_threads(threads)


def speedup(seconds: Mapping[str, float]) -> tuple[str, float]:
    """The best dense peer, and how much longer it takes than the pruned program."""
    peers = {name: value for name, value in seconds.items() if not name.startswith(OURS)}
    best = min(peers, key=lambda name: peers[name])
    return best, peers[best] / seconds[PRUNED]


def race_matvec(shape: tuple[int, int], texts: Mapping[str, str], rounds: int) -> dict[str, float]:
    """Seconds of one product of a random matrix and a vector.

    Args:
        shape: rows and columns.
        texts: structures of our programs, by the name of the contender. Of the one called
            "unstructured", a CSR matrix of scipy has the same zeros.
        rounds: series of each contender; the median counts.
    """
    layer = nn.Linear(shape[1], shape[0])
    generator = torch_generator(0, "matvec", *shape)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(shape, generator=generator) / shape[1] ** 0.5)
        layer.bias.zero_()
    x = torch.randn(1, shape[1], generator=generator)
    graph = trace(layer, x, "matvec")
    (op,) = graph.ops
    weight = graph.tensors[op.inputs[1]]
    calls: dict[str, Call] = {
        other.name: other.call for other in runtimes(graph, None) if other.call is not None
    }
    calls[DENSE] = compile_graph(graph).run
    for name, text in texts.items():
        calls[f"{OURS}{name}"] = _program(graph, weight.name, parse(text)).run
    if "unstructured" in texts:
        zeros = parse(texts["unstructured"]).project(layer.weight.detach()).numpy()
        matrix = scipy.sparse.csr_matrix(zeros)
        calls["scipy csr"] = lambda v: matrix @ v[0]
    return race(calls, x.numpy(), rounds)


def correct(program: Program, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Fraction of inputs that a compiled classifier gets right."""
    found = program.run(np.ascontiguousarray(inputs.numpy())).argmax(axis=1)
    return float((found == targets.numpy()).mean())


def _program(graph: Graph, name: str, structure: Structure) -> Program:
    weight = graph.tensors[name]
    values = structure.project(torch.from_numpy(np.asarray(weight.data))).numpy()
    changed = replace(weight, data=values, structure=structure.text)
    return compile_graph(graph.with_tensors({name: changed}))


def _torch_call(module: nn.Module) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    def call(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            y: NDArray[np.float32] = module(torch.from_numpy(x)).numpy()
        return y

    return call
