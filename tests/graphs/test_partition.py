"""Partitions and shares: METIS's own count of the volume, brute force, and what is refused."""

import sys

import pytest
import torch

from cofit.core import ConfigError, DataError, MissingDependencyError, UnknownNameError
from cofit.core import torch_generator as generator_of
from cofit.graphs import Graph, load_graph, stochastic_block_model
from cofit.graphs.halo import METHODS, PartitionedGraph, partition


@pytest.fixture(scope="module")
def blocks() -> Graph:
    return stochastic_block_model(400, classes=4, degree=8, homophily=0.9, features=4, seed=0)


def ring(nodes: int) -> Graph:
    there = torch.arange(nodes)
    edges = torch.stack([there, (there + 1) % nodes])
    return Graph.from_edges(edges, nodes).symmetrised()


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_metis_volume_is_the_sum_of_our_halos(blocks: Graph, parts: int) -> None:
    found = partition(blocks, parts)
    shared = PartitionedGraph.build(blocks, found.part)
    assert found.objective == shared.halo_nodes > 0
    assert shared.halo_nodes == sum(share.num_halo for share in shared.shares)


def test_metis_on_cora_is_as_good_as_published_for_the_library(data_dir: object) -> None:
    graph = load_graph("cora")
    for parts, volume in ((2, 254), (8, 726)):
        found = partition(graph, parts)
        halo = PartitionedGraph.build(graph, found.part).halo_nodes
        assert found.objective == halo < 1.15 * volume


def test_methods_are_balanced_seeded_and_better_than_chance(blocks: Graph) -> None:
    volumes = {}
    for method in METHODS:
        first, again, other = (partition(blocks, 4, method, seed).part for seed in (0, 0, 1))
        assert torch.equal(first, again) and not torch.equal(first, other)
        sizes = torch.bincount(first, minlength=4)
        assert sizes.max() <= 1.1 * 100 and sizes.min() > 0
        volumes[method] = PartitionedGraph.build(blocks, first).halo_nodes
    assert volumes["metis"] < volumes["grow"] < volumes["random"]


def test_grown_regions_of_a_ring_are_arcs() -> None:
    graph = ring(60)
    part = partition(graph, 3, "grow", seed=2).part
    assert torch.bincount(part).tolist() == [20, 20, 20]
    cuts = int((part != part.roll(1)).sum())
    assert cuts <= 6  # chance would give 40


@pytest.mark.parametrize("method", METHODS)
def test_directed_looped_and_isolated(method: str) -> None:
    edges = torch.tensor([[0, 0, 1, 2, 3, 4], [0, 1, 2, 0, 4, 5]])
    graph = Graph.from_edges(edges, 9)  # nodes 6 to 8 are isolated
    part = partition(graph, 2, method).part
    assert part.shape == (9,) and set(part.tolist()) == {0, 1}
    single = partition(graph, 1, method)
    assert single.part.tolist() == [0] * 9


def test_shares_by_brute_force() -> None:
    generator = generator_of(4)
    edges = torch.randint(0, 40, (2, 150), generator=generator)
    graph = Graph.from_edges(edges, 45).without_self_loops()
    part = torch.randint(0, 4, (45,), generator=generator)
    shared = PartitionedGraph.build(graph, part)
    cross = [(int(u), int(v)) for u, v in graph.edge_index.T if part[u] != part[v]]
    assert shared.cross_edges == len(cross)
    for share in shared.shares:
        assert share.inner.tolist() == [v for v in range(45) if part[v] == share.rank]
        for peer in range(4):
            needed = {u for u, v in cross if part[v] == share.rank and part[u] == peer}
            assert share.halo[peer].tolist() == sorted(needed)
            assert int(shared.pairs[share.rank, peer]) == len(needed)
            sent = shared.share(peer).inner[shared.share(peer).send[share.rank]]
            assert torch.equal(sent, share.halo[peer])  # the same order at both ends
        names = torch.cat([share.inner, *share.halo])
        local = share.adjacency
        found = [
            (int(names[u]), int(share.inner[v]))
            for u, v in zip(local.indices, local.destinations, strict=True)
        ]
        whole = [(int(u), int(v)) for u, v in graph.edge_index.T if part[v] == share.rank]
        assert found == whole
        assert local.degree is not None
        assert torch.equal(local.degree, graph.in_degree[names].double())


def test_the_edges_of_some_of_the_halo() -> None:
    graph = ring(12)
    share = PartitionedGraph.build(graph, torch.arange(12) % 3).share(0)
    rows = [None, torch.tensor([1, 3]), torch.tensor([], dtype=torch.int64)]
    local = share.local(rows)
    names = torch.cat([share.inner, share.halo[1][[1, 3]]])
    kept = set(names.tolist())
    found = sorted(
        (int(names[u]), int(share.inner[v]))
        for u, v in zip(local.indices, local.destinations, strict=True)
    )
    assert local.num_src == 6
    assert found == sorted(
        (int(u), int(v)) for u, v in graph.edge_index.T if v % 3 == 0 and int(u) in kept
    )
    assert share.local([None] * 3) is share.adjacency


def test_refused(blocks: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    part = torch.zeros(400, dtype=torch.int64)
    for wrong, text in (
        (part[:-1], "one rank per node"),
        (part.int(), "one rank per node"),
        (part - 1, "number them from 0"),
        (part + 400, "number them from 0"),
        (part + 1, "part 0 of 2 is empty"),
        (part + 2 * (torch.arange(400) % 2), "part 1 of 3 is empty"),
    ):
        with pytest.raises(DataError, match=text):
            PartitionedGraph.build(blocks, wrong)
    looped = Graph.from_edges(torch.tensor([[0, 1], [0, 0]]), 2)
    with pytest.raises(DataError, match="without_self_loops"):
        PartitionedGraph.build(looped, torch.tensor([0, 1]))
    with pytest.raises(DataError, match="rank 2 of 2"):
        PartitionedGraph.build(ring(4), torch.arange(4) % 2).share(2)
    for parts in (0, 401):
        with pytest.raises(ConfigError, match="choose from 1 to 400"):
            partition(blocks, parts)
    with pytest.raises(UnknownNameError, match="known: grow, metis, random"):
        partition(blocks, 2, "metiss")
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with pytest.raises(MissingDependencyError, match=r"cofit\[graphs\]"):
        partition(blocks, 2)
