"""Sampled blocks: edges of the graph, uniform subsets, unbiased sums, all of it at full fan-out."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from cofit.core import ConfigError, DataError, numpy_generator, torch_generator
from cofit.graphs import Graph, NeighbourSampler, aggregate, build_gnn, reddit_like
from cofit.graphs.sampling import floyd


@pytest.fixture(scope="module")
def web() -> Graph:
    return reddit_like(2000, classes=4, degree=15, features=6, seed=1)


def test_blocks_hold_edges_of_the_graph_each_once_and_fit_together(web: Graph) -> None:
    seeds = torch.tensor([5, 1999, 0, 42])
    sample = NeighbourSampler(web, (3, 5)).sample(seeds, numpy_generator(0))
    assert torch.equal(sample.nodes[:4], seeds) and sample.num_seeds == 4
    assert len(torch.unique(sample.nodes)) == len(sample.nodes) == sample.blocks[0].num_src
    edges = set(map(tuple, web.edge_index.T.tolist()))
    for block, fanout in zip(sample.blocks, (3, 5), strict=True):
        drawn = torch.stack(
            [sample.nodes[block.indices], sample.nodes[block.destinations]], 1
        ).tolist()
        assert len(drawn) == len(set(map(tuple, drawn)))  # without replacement
        assert set(map(tuple, drawn)) <= edges
        degree = web.in_degree[sample.nodes[: block.num_dst]]
        assert torch.equal(block.counts, degree.clamp(max=fanout))
        assert block.degree is not None
        assert torch.equal(block.degree.long(), web.in_degree[sample.nodes[: block.num_src]])
    assert sample.blocks[0].num_dst == sample.blocks[1].num_src
    # every source is used: a destination, or the other end of an edge
    for block in sample.blocks:
        used = torch.zeros(block.num_src, dtype=torch.bool)
        used[: block.num_dst] = True
        used[block.indices] = True
        assert used.all()


def test_every_subset_is_equally_likely() -> None:
    size, count, draws = 7, 3, 20_000
    chosen = floyd(np.full(draws, size), count, numpy_generator(3)).T
    subsets = {subset: 0 for subset in combinations(range(size), count)}
    for row in np.sort(chosen, 1).tolist():
        subsets[tuple(row)] += 1  # a repeated number would be no key
    expected = draws / len(subsets)
    statistic = sum((n - expected) ** 2 / expected for n in subsets.values())
    assert statistic < chi2.ppf(0.999, len(subsets) - 1)


def test_every_neighbour_is_equally_likely_through_the_sampler() -> None:
    # 5,000 nodes with the same 9 in-neighbours: one call draws 5,000 independent subsets
    stars, leaves, fanout = 5000, 9, 4
    sources = torch.arange(leaves).repeat(stars) + stars
    targets = torch.arange(stars).repeat_interleave(leaves)
    graph = Graph.from_edges(torch.stack([sources, targets]), stars + leaves)
    sample = NeighbourSampler(graph, [fanout]).sample(torch.arange(stars), numpy_generator(4))
    hits = torch.bincount(sample.nodes[sample.blocks[0].indices] - stars, minlength=leaves)
    assert int(hits.sum()) == stars * fanout
    share = fanout / leaves
    # each count is binomial; those of one node exclude each other, which shrinks the sum's spread
    variance = stars * share * (1 - share)
    statistic = float(((hits - stars * share) ** 2 / variance).sum()) * (leaves - 1) / leaves
    assert chi2.ppf(0.001, leaves - 1) < statistic < chi2.ppf(0.999, leaves - 1)


def test_sums_are_unbiased_and_means_are_those_of_the_drawn(web: Graph) -> None:
    assert web.x is not None
    seeds = torch.arange(50)
    sampler = NeighbourSampler(web, [4])
    exact = aggregate(web.adjacency, web.x.double())[:50]
    draws = []
    for number in range(400):
        sample = sampler.sample(seeds, numpy_generator(5, number))
        block, x = sample.blocks[0], web.x[sample.nodes].double()
        draws.append(aggregate(block, x))
        if number == 0:
            for v in range(50):
                drawn = x[block.indices[block.indptr[v] : block.indptr[v + 1]]]
                mean = drawn.mean(0) if len(drawn) else torch.zeros(6, dtype=torch.float64)
                torch.testing.assert_close(aggregate(block, x, "mean")[v], mean)
    found = torch.stack(draws)
    error = found.std(0) / len(draws) ** 0.5
    small = web.in_degree[:50] <= 4
    assert small.any() and (~small).any()
    torch.testing.assert_close(found.mean(0)[small], exact[small])
    assert (((found.mean(0) - exact) / error)[~small].abs() < 4.5).all()


@pytest.mark.parametrize("kind", ["gcn", "sage", "gat", "gin"])
@pytest.mark.parametrize("fanout", [None, 10_000])
def test_all_neighbours_give_what_the_whole_graph_gives(
    web: Graph, kind: str, fanout: int | None
) -> None:
    assert web.x is not None
    model = build_gnn(kind, [6, 8, 4], seed=0).double().eval()
    x = web.x.double()
    seeds = torch.randperm(2000, generator=torch_generator(6))[:100]
    sample = NeighbourSampler(web, [fanout, fanout]).sample(seeds, numpy_generator(0))
    with torch.no_grad():
        torch.testing.assert_close(
            model(sample.blocks, x[sample.nodes]), model(web.adjacency, x)[seeds]
        )


def test_one_generator_one_sample(web: Graph) -> None:
    sampler, seeds = NeighbourSampler(web, (5, 5)), torch.arange(100)
    first = sampler.sample(seeds, numpy_generator(7))
    sampler.sample(torch.arange(100, 300), numpy_generator(8))  # leaves nothing behind
    again, other = (sampler.sample(seeds, numpy_generator(seed)) for seed in (7, 9))
    assert torch.equal(first.nodes, again.nodes)
    assert torch.equal(first.blocks[0].indices, again.blocks[0].indices)
    assert not torch.equal(first.blocks[1].indices, other.blocks[1].indices)


def test_isolated_seeds_give_empty_blocks() -> None:
    graph = Graph.from_edges(torch.tensor([[0], [1]]), 4)
    sample = NeighbourSampler(graph, (2, 2)).sample(torch.tensor([3, 2]), numpy_generator(0))
    assert sample.nodes.tolist() == [3, 2] and sample.blocks[1].num_edges == 0


def test_refused(web: Graph) -> None:
    loop = Graph.from_edges(torch.tensor([[0], [0]]), 2)
    with pytest.raises(DataError, match="without_self_loops"):
        NeighbourSampler(loop, [2])
    for fanouts in ([], [3, 0], [-1]):
        with pytest.raises(ConfigError, match="fan-outs"):
            NeighbourSampler(web, fanouts)
    sampler = NeighbourSampler(web, [2])
    for seeds in ([], [2000], [-1]):
        with pytest.raises(DataError, match="from 0 to 1999"):
            sampler.sample(torch.tensor(seeds, dtype=torch.int64), numpy_generator(0))
    with pytest.raises(DataError, match="twice"):
        sampler.sample(torch.tensor([1, 1]), numpy_generator(0))
    assert sampler.sample(torch.tensor([1]), numpy_generator(0)).num_seeds == 1
