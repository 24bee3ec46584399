"""Reordered channels: the same function, never less energy kept, the best on tiny cases."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from cofit.core import numpy_generator
from cofit.fit.permutation import kept_energy, permute_for_blocks
from cofit.ir import Graph, assert_equivalent, channel_groups, permute, probes, trace
from cofit.models import load_model
from cofit.structures import Block


def chain(outputs: int, seed: int) -> Graph:
    torch.manual_seed(seed)
    first = nn.Conv2d(2, outputs, 2, bias=False)
    with torch.no_grad():  # energies far apart, as training leaves them
        first.weight.copy_(first.weight.sign() * torch.rand_like(first.weight) ** 4)
    network = nn.Sequential(first, nn.ReLU(), nn.Conv2d(outputs, 3, 1))
    return trace(network, torch.zeros(1, 2, 4, 4))


def best(graph: Graph, chosen: dict[str, Block]) -> float:
    (group,) = channel_groups(graph)
    orders = permutations(range(group.size))
    return max(kept_energy(permute(graph, group, order), chosen) for order in orders)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("outputs", "out"), [(4, 2), (6, 2), (6, 3)])
def test_tiny_cases_reach_the_best_order(outputs: int, out: int, seed: int) -> None:
    graph, chosen = chain(outputs, seed), {"0.weight": Block(out, 1, 3.0)}
    found = permute_for_blocks(graph, chosen, numpy_generator(0, "test"))
    assert kept_energy(found, chosen) == pytest.approx(best(graph, chosen), rel=1e-2)
    assert kept_energy(found, chosen) >= kept_energy(graph, chosen)


def test_hidden_blocks_are_found() -> None:
    """Filters of four kinds, shuffled; blocks of 8 lose nothing once they are sorted out."""
    graph = chain(32, 0)
    rng = np.random.default_rng(0)
    kinds = rng.permutation(np.repeat(np.arange(4), 8))
    weight = graph.tensors["0.weight"]
    data = np.zeros_like(weight.data)
    for k, kind in enumerate(kinds):
        data[k].reshape(-1)[2 * kind : 2 * kind + 2] = 1 + rng.random(2)
    graph = graph.with_tensors({"0.weight": replace(weight, data=data)})
    chosen = {"0.weight": Block(8, 1, 4.0)}
    found = permute_for_blocks(graph, chosen, numpy_generator(0, "test"))
    total = float(np.square(data.astype(float)).sum())
    assert kept_energy(graph, chosen) < 0.6 * total
    assert kept_energy(found, chosen) == pytest.approx(total)


@pytest.mark.parametrize("block", [Block(8, 1, 4.0), Block(4, 4, 4.0)])
def test_a_residual_network_keeps_its_function(block: Block) -> None:
    module = load_model("digits_resnet", None, 0).module
    x = torch.zeros(1, 1, 8, 8)
    graph = trace(module, x)
    chosen = {
        weight.name: block
        for _, weight in graph.weighted()
        if len(weight.shape) == 4 and weight.shape[2] == 3 and block.applies(weight.shape) is None
    }
    found = permute_for_blocks(graph, chosen, numpy_generator(0, "test"))
    assert_equivalent(graph, found, probes([x], torch.Generator().manual_seed(0)))
    assert kept_energy(found, chosen) > kept_energy(graph, chosen)
    for _, weight in graph.weighted():
        held = found.tensors[weight.name].data
        assert np.array_equal(np.sort(held, axis=None), np.sort(weight.data, axis=None))


def test_the_same_generator_gives_the_same_order() -> None:
    graph, chosen = chain(48, 1), {"0.weight": Block(16, 1, 4.0)}
    first, second = (
        permute_for_blocks(graph, chosen, numpy_generator(0, "test")) for _ in range(2)
    )
    assert np.array_equal(first.tensors["0.weight"].data, second.tensors["0.weight"].data)


def test_nothing_chosen_changes_nothing() -> None:
    graph = chain(4, 0)
    assert permute_for_blocks(graph, {}, numpy_generator(0, "test")) is graph
