"""I-GCN: the acceptance checks of its specification, and the smoke run."""

import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from cofit.core import ConfigError, DataError, numpy_generator
from cofit.graphs import (
    Graph,
    aggregate,
    aggregate_normalised,
    load_graph,
    plain_operations,
    pull_stream,
    stochastic_block_model,
)
from cofit.graphs.islands import (
    EdgeClass,
    bitmap_operations,
    find_islands,
    greedy_pair_savings,
    share_sums,
)
from cofit.reproductions import reproduce
from cofit.reproductions.i_gcn.caves import caves_with_hubs
from cofit.reproductions.i_gcn.study import island_traffic, modelled, resident_lines


def undirected(pairs: list[tuple[int, int]], nodes: int) -> Graph:
    """Every pair in both directions; repeated pairs are parallel edges."""
    edges = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    return Graph.from_edges(torch.cat([edges, edges.flip(0)], 1), nodes)


def star(leaves: int) -> Graph:
    return undirected([(0, leaf) for leaf in range(1, leaves + 1)], leaves + 1)


def clique(size: int) -> Graph:
    return undirected([(a, b) for a in range(size) for b in range(a)], size)


def random_graph(seed: int) -> Graph:
    """Up to 60 nodes; every third one has parallel edges, many have isolated nodes and parts."""
    draw = numpy_generator(seed, "random graph")
    n = int(draw.integers(2, 60))
    pairs = draw.integers(n, size=(int(draw.integers(0, 3 * n)), 2))
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    if seed % 3:
        pairs = np.unique(pairs, axis=0)
    return undirected([(int(a), int(b)) for a, b in pairs], n)


SPECIAL = {
    "star": star(9), "clique": clique(8), "path": undirected([(i, i + 1) for i in range(9)], 10),
    "empty": undirected([], 5), "disconnected": undirected([(0, 1), (2, 3), (3, 4)], 7),
    "multigraph": undirected([(0, 1), (0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], 5),
}  # fmt: skip
GRAPHS = [*SPECIAL.values(), *(random_graph(seed) for seed in range(200))]


def invariant(graph: Graph, islands: object) -> None:
    """Counted anew from the sets, edge by edge."""
    home = {int(v): i for i, island in enumerate(islands) for v in island}  # type: ignore[call-overload,arg-type,var-annotated]
    hubs = set(islands.hubs.tolist())  # type: ignore[attr-defined]
    assert len(home) + len(hubs) == graph.num_nodes and not hubs & home.keys()
    classes = islands.edge_classes()  # type: ignore[attr-defined]
    assert len(classes) == graph.num_edges
    for edge, found in zip(graph.edge_index.T.tolist(), classes, strict=True):
        inside = sum(v in hubs for v in edge)
        assert found == EdgeClass(inside)
        if inside == 0:
            assert home[edge[0]] == home[edge[1]]


def test_01_every_edge_is_in_an_island_beside_a_hub_or_between_hubs() -> None:
    for number, graph in enumerate(GRAPHS):
        found = find_islands(graph, threshold=1 + number % 7, largest=1 + number % 9)
        invariant(graph, found)


def test_02_sums_are_exact_and_counted_where_they_are_done() -> None:
    for number, graph in enumerate(GRAPHS):
        n = graph.num_nodes
        draw = numpy_generator(number, "sums")
        dense = torch.zeros(n, n, dtype=torch.int32)
        source, target = graph.edge_index
        dense.index_put_((target, source), torch.ones(len(source), dtype=torch.int32), True)
        dense += torch.eye(n, dtype=torch.int32)
        x = torch.from_numpy(draw.integers(-999, 999, (n, 3), dtype=np.int32))
        operations = share_sums(find_islands(graph, threshold=1 + number % 7), 1 + number % 6)
        sums, done = operations.execute(x)
        assert torch.equal(sums, dense @ x)
        copies = int((operations.sign == 2).sum())
        assert done == operations.additions == len(operations.to) - copies
        assert operations.piecewise.sum() == done
        floats = torch.from_numpy(draw.standard_normal((n, 3), np.float32))
        exact = aggregate(graph.adjacency.normalised, floats.double())
        error = (aggregate_normalised(operations, graph, floats) - exact).norm() / exact.norm()
        assert error <= 1e-5


def test_02_a_list_that_is_shortened_gives_other_sums() -> None:
    graph = caves_with_hubs(20, 6, 3, 10, 0)
    operations = share_sums(find_islands(graph), 6)
    x = torch.ones(graph.num_nodes, 1, dtype=torch.int32)
    expected = (graph.in_degree + 1).int()[:, None]
    assert torch.equal(operations.execute(x)[0], expected)
    fewer = type(operations)(
        operations.nodes, operations.to[:-9], operations.source[:-9], operations.sign[:-9],
        operations.partial, operations.ends,
    )  # fmt: skip
    sums, done = fewer.execute(x)
    assert done == operations.additions - 9 and not torch.equal(sums, expected)


@pytest.mark.parametrize("m", [3, 8, 20])
def test_03_cliques_cost_the_closed_form(m: int) -> None:
    operations = bitmap_operations(np.ones((m, m), bool), m)
    assert operations.additions == (m - 1) + m
    assert 1 - operations.additions / m**2 == pytest.approx(1 - (2 * m - 1) / m**2)
    # behind a hub: m rows of m + 1 terms and one of m, with the hub's column and row besides
    spokes = [(m, v) for v in range(m)] + [(m, m + 1 + i) for i in range(2 * m)]
    graph = undirected([(a, b) for a in range(m) for b in range(a)] + spokes, 3 * m + 1)
    found = find_islands(graph, threshold=2 * m)
    assert sorted(map(len, found)) == [1] * (2 * m) + [m]
    alone = 2 * m * 3 + 1  # leaf, its hub, and back; the hub itself
    assert share_sums(found, m).additions == (m - 1) + m + 1 + m + alone


def test_03_stars_and_regular_graphs_gain_nothing() -> None:
    leaves = find_islands(star(12))
    assert leaves.hubs.tolist() == [0] and leaves.sizes.tolist() == [1] * 12
    assert share_sums(leaves, 4).additions == star(12).num_edges + 13
    ring = undirected([(i, (i + 1) % 10) for i in range(10)], 10)
    found = find_islands(ring)
    assert len(found) == 0 and len(found.hubs) == 10 and len(found.rounds) == 1
    operations = share_sums(found, 4)
    x = torch.arange(10, dtype=torch.int32)[:, None]
    assert operations.additions == 30
    assert torch.equal(
        operations.execute(x)[0], plain_operations(ring.adjacency.looped).execute(x)[0]
    )


def test_04_sharing_never_costs_and_stays_below_greedy_pairs() -> None:
    for number, graph in enumerate(GRAPHS[:60]):
        base = graph.num_edges + graph.num_nodes
        for window in (1, 2, 3, 8):
            found = find_islands(graph, threshold=1 + number % 7)
            additions = share_sums(found, window).additions
            assert additions <= base
            single = graph.symmetrised()  # parallel edges are no pairs to be merged
            pairs = greedy_pair_savings(single.adjacency.looped)
            assert base - additions <= pairs + 0.02 * base


def test_04_on_cora(data_dir: Path) -> None:
    cora = load_graph("cora")
    found = find_islands(cora, threshold=10, decay=0.8, largest=200)
    base = cora.num_edges + cora.num_nodes
    pairs = greedy_pair_savings(cora.adjacency.looped) / base
    assert pairs * 13264 / 10556 == pytest.approx(0.338, abs=0.01)
    for window in (2, 4):
        pruned = 1 - share_sums(found, window).additions / base
        assert 0.02 < pruned <= pairs + 0.02
    plain = 1 - share_sums(found, 2, sorted_columns=False).additions / base
    assert plain == pytest.approx(0.057, abs=0.015)


@pytest.mark.parametrize("decay", [0.2, 0.5, 0.8])
def test_05_it_ends_and_islands_stay_small(decay: float) -> None:
    for number, graph in enumerate(GRAPHS):
        threshold, largest = 1 + number % 20, 1 + number % 6
        found = find_islands(graph, threshold=threshold, decay=decay, largest=largest)
        thresholds = [r.threshold for r in found.rounds if r.threshold]
        assert len(thresholds) <= math.ceil(math.log(threshold) / math.log(1 / decay)) + 1
        assert thresholds == sorted(set(thresholds), reverse=True)
        assert found.sizes.max(initial=0) <= largest
        assert sorted([*found.members, *found.hubs]) == list(range(graph.num_nodes))


def test_06_island_order_loads_no_more_rows_than_a_random_one(data_dir: Path) -> None:
    graphs = {
        "cora": load_graph("cora"), "citeseer": load_graph("citeseer"),
        "caves": caves_with_hubs(250, 8, 12, 40, 0),
        "blocks": stochastic_block_model(1500, classes=40, degree=4, homophily=0.9),
    }  # fmt: skip
    for name, graph in graphs.items():
        n, looped = graph.num_nodes, graph.adjacency.looped
        drawn = torch.from_numpy(numpy_generator(0, "order").permutation(n))
        island = pull_stream(looped, find_islands(graph).order())
        for share in (0.01, 0.05, 0.1):
            lines = int(share * n)
            rows = island.misses(lines)
            assert n <= rows <= pull_stream(looped, drawn).misses(lines), (name, share)


def test_06_resident_hubs_must_fit() -> None:
    graph = caves_with_hubs(60, 8, 4, 20, 0)
    islands = find_islands(graph)
    lines = resident_lines(islands)
    traffic = island_traffic(islands, 16, lines)
    assert traffic.sum() == 2 * graph.num_nodes * 16 * 4 + graph.num_edges * 4  # each row once
    with pytest.raises(ConfigError, match=f"need {lines}"):
        island_traffic(islands, 16, lines - 1)
    stream = share_sums(islands, 8).stream(resident=islands.hubs)
    assert stream.misses(lines) == graph.num_nodes
    with pytest.raises(ConfigError, match="resident rows"):
        stream.misses(len(islands.hubs) - 1)


def test_07_engines_that_meet_keep_the_invariant() -> None:
    met = 0
    for seed in range(50):
        graph = stochastic_block_model(400, classes=20, degree=2.4, homophily=0.9, seed=seed)
        for threads in (False, True):
            found = find_islands(
                graph, threshold=6, largest=400, engines=4, threads=threads, seed=seed
            )
            invariant(graph, found)
            x = torch.arange(400, dtype=torch.int32)[:, None]
            expected = plain_operations(graph.adjacency.looped).execute(x)[0]
            assert torch.equal(share_sums(found, 2).execute(x)[0], expected)
            met += not threads and sum(r.wasted for r in found.rounds) > 0  # none is too large
    assert met > 25


def test_08_bad_input() -> None:
    one_way = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), 3)
    with pytest.raises(DataError, match="need an undirected graph"):
        find_islands(one_way)
    looped = Graph.from_edges(torch.tensor([[0, 1, 1], [1, 0, 1]]), 2)
    with pytest.warns(UserWarning, match="self-loops are left out"):
        found = find_islands(looped)
    assert not found.graph.has_self_loops
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_islands(found.graph)
    for bad in ({"largest": 0}, {"threshold": 0}, {"decay": 1.0}, {"decay": 0.0}, {"engines": 0}):
        with pytest.raises(ConfigError, match="decay between 0 and 1, the others from 1"):
            find_islands(star(3), **bad)  # type: ignore[arg-type]


def test_cycles_follow_from_executed_additions() -> None:
    graph = caves_with_hubs(60, 8, 4, 20, 0)
    islands = find_islands(graph)
    shared, plain = share_sums(islands, 8), share_sums(islands, 1)
    assert shared.additions < plain.additions == graph.num_edges + graph.num_nodes
    wide = [modelled(graph, islands, each, 16) for each in (shared, plain)]
    assert wide[0]["pull"] == wide[1]["pull"] and wide[0]["islands"] <= wide[1]["islands"]
    assert wide[0]["pull"] < wide[0]["push"]
    visits = sum(r.visits for r in islands.rounds)
    made = np.cumsum([0, *(r.hubs for r in islands.rounds)])[:-1]
    narrow = visits / 2 + int((graph.num_nodes - made).sum()) / 3  # of the public simulator
    assert wide[0]["locator, narrow"] == pytest.approx(narrow) == wide[0]["islands, narrow"]


def test_smoke_run_and_its_steps_are_kept(tmp_path: Path) -> None:
    finding = reproduce("i-gcn", "smoke", tmp_path, lambda *_: None)
    assert all(math.isfinite(v) for claim in finding.claims for v in claim.measured.values)
    steps = {p: p.stat().st_mtime_ns for p in (tmp_path / "steps").iterdir()}
    (tmp_path / "finding.json").unlink()
    again = reproduce("i-gcn", "smoke", tmp_path, lambda *_: None)
    assert steps == {p: p.stat().st_mtime_ns for p in (tmp_path / "steps").iterdir()}
    assert again.claims == finding.claims
    cycles = next(c for c in finding.claims if c.claim.startswith("modelled cycles of pulling"))
    ratio = float(re.search(r"3 and 2 the same is (\S+) x$", cycles.note)[1])  # type: ignore[index]
    assert 0 < ratio < cycles.measured.mean
    held = {claim.claim: claim.holds for claim in finding.claims}
    assert held["integer sums that differ from plain ones"]
    assert held["the same on a graph of cliques of 8 behind hubs, windows of 8"]
