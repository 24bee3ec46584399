"""Islands against connected components, and shared sums against dense products."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from cofit.core import ConfigError, DataError, VerificationError, numpy_generator
from cofit.graphs import (
    Graph,
    load_graph,
    plain_operations,
    pull_stream,
    stochastic_block_model,
)
from cofit.graphs.islands import (
    Islands,
    bitmap_operations,
    find_islands,
    greedy_pair_savings,
    share_sums,
)


def expected_islands(graph: Graph, threshold: int, decay: float, largest: int) -> set[frozenset]:
    """Each round: components of what is no hub, of at most `largest` nodes, beside a new hub."""
    degree = graph.in_degree.numpy()
    n = graph.num_nodes
    ones = np.ones(graph.num_edges)
    matrix = csr_array((ones, graph.indices.numpy(), graph.indptr.numpy()), shape=(n, n))
    free, found = np.ones(n, bool), set()
    while (free & (degree > 0)).any():
        hubs = free & (degree > 0) & (degree >= threshold)
        free &= ~hubs
        rest = np.flatnonzero(free)
        beside = matrix[:, np.flatnonzero(hubs)].sum(1)[rest] > 0
        _, labels = connected_components(matrix[rest][:, rest])
        for label in np.unique(labels):
            inside = labels == label
            if inside.sum() <= largest and beside[inside].any():
                found.add(frozenset(rest[inside].tolist()))
                free[rest[inside]] = False
        threshold = max(1, int(decay * threshold))
    return found | {frozenset([v]) for v in np.flatnonzero(free).tolist()}


def sets(islands: Islands) -> set[frozenset]:
    return {frozenset(island.tolist()) for island in islands}


@pytest.mark.parametrize("seed", range(12))
def test_one_engine_finds_the_components_between_hubs(seed: int) -> None:
    graph = stochastic_block_model(120, classes=3, degree=2 + seed % 5, homophily=0.9, seed=seed)
    for threshold, decay, largest in ((12, 0.5, 64), (6, 0.8, 9), (4, 0.3, 1), (1, 0.5, 5)):
        found = find_islands(graph, threshold=threshold, decay=decay, largest=largest)
        assert sets(found) == expected_islands(graph, threshold, decay, largest)
        again = find_islands(graph, threshold=threshold, decay=decay, largest=largest, seed=seed)
        assert sets(again) == sets(found)  # with one engine the order of tasks does not matter


def test_islands_of_cora_are_those_of_the_literature(data_dir: object) -> None:
    cora = load_graph("cora")
    found = find_islands(cora, threshold=10, decay=0.8, largest=200)
    sizes = found.sizes
    assert (len(found.hubs), len(found), (sizes > 1).sum(), sizes.max()) == (626, 761, 330, 50)
    assert [r.threshold for r in found.rounds] == [10, 8, 6, 4, 3, 2, 1]
    assert sets(found) == expected_islands(cora, 10, 0.8, 200)
    other = find_islands(cora, threshold=16, decay=0.5, largest=64)
    assert (len(other.hubs), len(other), len(other.rounds)) == (1018, 940, 5)


def test_visits_are_counted_and_vain_ones_apart(data_dir: object) -> None:
    cora = load_graph("cora")
    found = find_islands(cora, threshold=16)
    kept = found.graph.in_degree.numpy()[found.members].sum()
    assert sum(r.visits - r.wasted for r in found.rounds) == kept
    assert sum(r.wasted for r in found.rounds) > 0
    assert sum(r.hubs for r in found.rounds) == len(found.hubs)
    assert sum(r.islands for r in found.rounds) == len(found)


def test_island_order_is_a_permutation_with_islands_together(data_dir: object) -> None:
    found = find_islands(load_graph("cora"), threshold=10)
    order = found.order()
    assert torch.equal(order.sort().values, torch.arange(2708))
    island = found.island_of[order.numpy()]
    island = island[island >= 0]
    assert (np.diff(island) >= 0).all()


def test_a_broken_island_is_refused() -> None:
    path = Graph.from_edges(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)
    good = find_islands(path, threshold=2)
    assert sets(good) == {frozenset([0]), frozenset([2])} and good.hubs.tolist() == [1]
    torn = Islands(path, np.arange(3), np.array([0, 1, 3]), np.empty(0, np.int64), ())
    with pytest.raises(VerificationError, match="joins two islands"):
        torn.edge_classes()
    with pytest.raises(VerificationError, match="every node once"):
        share_sums(Islands(path, np.arange(2), np.array([0, 2]), np.empty(0, np.int64), ()), 2)


@pytest.mark.parametrize("window", [1, 2, 3, 5, 64, 100])
def test_bitmap_sums_are_exact_and_cost_what_the_rule_says(window: int) -> None:
    draw = numpy_generator(window, "bitmap")
    for m in (1, 7, 70):
        for density in (0.1, 0.5, 0.9):
            bitmap = draw.random((m, m)) < density
            ops = bitmap_operations(bitmap, window)
            x = torch.from_numpy(draw.integers(-1000, 1000, size=(m, 3), dtype=np.int32))
            out, additions = ops.execute(x)
            assert torch.equal(out, torch.from_numpy(bitmap.astype(np.int32)) @ x)
            cost = 0
            for first in range(0, m, window):
                part = bitmap[:, first : first + window]
                count, k = part.sum(1), part.shape[1]
                cost += min(count.sum(), np.minimum(count, 1 + k - count).sum() + k - 1)
            assert additions == ops.additions == cost


def test_similar_columns_next_to_each_other_save_more(data_dir: object) -> None:
    islands = find_islands(load_graph("cora"), threshold=10, decay=0.8, largest=200)
    by_similarity, as_found = (
        share_sums(islands, 2, sorted_columns=kind).additions for kind in (True, False)
    )
    assert by_similarity < as_found < 13264


def test_streams_of_operations_read_what_is_added(data_dir: object) -> None:
    cora = load_graph("cora")
    plain = plain_operations(cora.adjacency.looped)
    pulled = pull_stream(cora.adjacency.looped)
    assert plain.stream().misses(1) == pytest.approx(pulled.misses(1), rel=0.01)
    assert np.array_equal(np.sort(plain.stream().rows), np.sort(pulled.rows))
    shared = share_sums(find_islands(cora), 2)
    assert shared.stream().distinct == cora.num_nodes
    assert shared.stream().accesses < plain.stream().accesses


def test_greedy_pairs_of_known_graphs() -> None:
    def ones(rows: int, columns: int) -> Graph:
        to = torch.arange(rows).repeat_interleave(columns)
        source = torch.arange(columns).repeat(rows)
        return Graph.from_edges(torch.stack([source, to]), max(rows, columns))

    # r equal rows of c terms need c - 1 additions once instead of r times
    assert greedy_pair_savings(ones(5, 4).adjacency) == 4 * 3
    assert greedy_pair_savings(ones(1, 6).adjacency) == 0


def test_bad_requests() -> None:
    path = Graph.from_edges(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)
    islands = find_islands(path)
    with pytest.raises(ConfigError, match="window of 0 columns"):
        share_sums(islands, 0)
    with pytest.raises(ConfigError, match="square"):
        bitmap_operations(np.ones((2, 3), bool), 2)
    with pytest.raises(DataError, match=r"float64.*\(3, d\)"):
        share_sums(islands, 2).execute(torch.ones(3, 1, dtype=torch.float64))
