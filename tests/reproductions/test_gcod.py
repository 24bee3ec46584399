"""GCoD: the acceptance checks of its specification, and the smoke run."""

import math
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from provenance import states_sources

from cofit.core import ConfigError, DataError, torch_generator
from cofit.graphs import (
    GNN,
    FullGraph,
    Graph,
    GraphRecipe,
    Scores,
    aggregate_normalised,
    build_gnn,
    evaluate,
    load_graph,
    plain_operations,
    stochastic_block_model,
    train_graph,
)
from cofit.graphs.blocks import (
    Distance,
    EdgeValued,
    Sparsifying,
    Split,
    allocate,
    clear_patches,
    keep_edges,
    layout,
    patch_edges,
    sparsify_edges,
    split_by_degree,
    two_branches,
)
from cofit.graphs.blocks import split as split_module
from cofit.regimes import Context
from cofit.reproductions import reproduce
from cofit.reproductions.gcod.hardware import branch_report, engine_reports, rows_of_blocks
from cofit.reproductions.gcod.study import random_removal


def blocks(seed: int, homophily: float = 0.6) -> tuple[Graph, Split]:
    """600 nodes in the order of a split."""
    graph = stochastic_block_model(
        600, classes=4, degree=6, homophily=homophily, features=16, noise=1.0, seed=seed
    )
    split = split_by_degree(graph, (6,), subgraphs=6, groups=2, seed=seed)
    return split.apply(graph), split


def train(graph: Graph, seed: int, epochs: int = 60) -> tuple[GNN, Scores]:
    model = build_gnn("gcn", [16, 16, 4], seed=seed, dropout=0.3)
    recipe = GraphRecipe(epochs, 0.02, 5e-4, evaluate_every=5)
    trained = train_graph(
        model, FullGraph(graph), recipe, evaluate=partial(evaluate, graph=graph), seed=seed
    )
    assert trained.scores is not None
    return model, trained.scores


@pytest.fixture(scope="module")
def trained() -> tuple[Graph, Split, GNN]:
    graph, split = blocks(0)
    return graph, split, train(graph, 0)[0]


def undirected(graph: Graph) -> set[tuple[int, int]]:
    return {(u, v) for u, v in graph.edge_index.T.tolist() if u < v}


def test_01_a_split_renumbers_and_changes_nothing_else() -> None:
    graph = stochastic_block_model(600, classes=4, degree=6, homophily=0.6, features=16)
    split = split_by_degree(graph, (6,), subgraphs=6, groups=2)
    assert torch.equal(split.order.sort().values, torch.arange(600))
    model = build_gnn("gcn", [16, 16, 4], seed=0).eval().double()
    assert graph.x is not None
    ordered = split.apply(graph)
    assert ordered.x is not None
    expected = model(graph.adjacency, graph.x.double())
    found = split.restore(model(ordered.adjacency, ordered.x.double()))
    assert (found - expected).abs().max() < 1e-6


def test_02_cora_is_split_as_published(data_dir: Path) -> None:
    cora = load_graph("cora")
    split = split_by_degree(cora, (4,))
    sizes, kinds = np.array(split.sizes), np.array(split.classes)
    assert kinds.tolist() == [0, 0, 1, 1, 1, 1] * 2 and split.groups == (0,) * 6 + (1,) * 6
    assert sizes.sum() == 2708 and [sizes[kinds == c].sum() for c in (0, 1)] == [1621, 1087]
    published = [361, 423, 124, 118, 125, 157, 420, 417, 131, 143, 146, 143]
    assert np.abs(sizes / published - 1).max() < 0.25  # METIS breaks ties in its own way
    degree = cora.in_degree[split.order]
    assert ((degree >= 4) == torch.tensor(split.classes)[split.block_of].bool()).all()
    found = layout(split.apply(cora), split)
    assert found.diagonal == pytest.approx(0.527, abs=0.03)
    assert found.area == pytest.approx(0.110, abs=0.005)
    metis = split_by_degree(cora, ())
    alone = layout(metis.apply(cora), metis)
    assert alone.diagonal == pytest.approx(0.865, abs=0.04) and alone.distance < found.distance


@pytest.mark.parametrize("edges", [[10, 20, 30], [1, 1, 1], [100, 1, 0], [7]])
def test_02_allocation_sums_to_what_there_is(edges: list[int]) -> None:
    for count in (1, 2, 5, 6):
        found = allocate(edges, count)
        assert sum(found) == count
        for got, share in zip(found, (count * e / sum(edges) for e in edges), strict=True):
            assert abs(got - share) < 1
    assert allocate([4500, 8100], 6) == [2, 4]


def test_03_admm_converges_and_removes_exactly_its_share(
    trained: tuple[Graph, Split, GNN],
) -> None:
    graph, _, model = trained
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for share, phi in ((0.1, 10.0), (0.1, 0.0), (0.25, 0.1)):
        found = sparsify_edges(model, graph, Sparsifying(share=share, phi=phi))
        assert len(found.gaps) == 4 and found.gaps[-1] <= 0.2 * found.gaps[0]
        whole, left = undirected(graph), undirected(found.graph)
        assert left < whole and len(whole - left) == found.removed == int(share * len(whole))
        assert found.graph.is_symmetric and found.graph.num_nodes == graph.num_nodes
        loops = found.graph.adjacency.looped  # what the network aggregates over
        assert int((loops.indices == loops.destinations).sum()) == graph.num_nodes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def small() -> tuple[Graph, GNN]:
    graph = stochastic_block_model(50, classes=3, degree=4, homophily=0.6, features=8)
    assert graph.x is not None
    graph = Graph(graph.indptr, graph.indices, graph.x.double(), graph.y, graph.train_mask,
                  graph.val_mask, graph.test_mask)  # fmt: skip
    model = build_gnn("gcn", [8, 6, 3], seed=0).double()
    for layer in model.layers:
        torch.nn.init.normal_(layer.bias, generator=torch_generator(0, "bias"))
    return graph, model


def dense_outputs(graph: Graph, model: GNN, values: torch.Tensor) -> torch.Tensor:
    scale = (graph.in_degree + 1).double().rsqrt()
    normalised = scale[:, None] * (values + torch.eye(len(values))) * scale
    first, second = model.layers
    assert graph.x is not None
    h = torch.relu(normalised @ graph.x @ first.weight.T + first.bias)
    outputs: torch.Tensor = normalised @ h @ second.weight.T + second.bias
    return outputs


def test_04_gradients_are_those_of_a_dense_matrix_at_the_present_values() -> None:
    graph, model = small()
    assert graph.train_mask is not None and graph.y is not None
    rows = torch.nonzero(graph.train_mask).squeeze(1)
    valued = EdgeValued(model, graph)
    source, target = graph.edge_index
    drawn = torch.rand(len(valued.values), 1, generator=torch_generator(0, "values")).double()
    gradients = []
    for values in (torch.ones_like(drawn), drawn):
        with torch.no_grad():
            valued.values.copy_(values)
        valued.values.grad = None
        outputs = valued(rows)
        dense = torch.zeros(50, 50, dtype=torch.float64)
        dense[target, source] = values[valued.number, 0]
        dense.requires_grad_()
        expected = dense_outputs(graph, model, dense)[rows]
        assert (outputs - expected).abs().max() < 1e-8
        F.cross_entropy(outputs, graph.y[rows]).backward()
        F.cross_entropy(expected, graph.y[rows]).backward()
        assert dense.grad is not None and valued.values.grad is not None
        both = torch.zeros(len(values)).double()
        both.index_add_(0, valued.number, dense.grad[target, source])  # of both directions
        assert (valued.values.grad[:, 0] - both).abs().max() < 1e-8
        gradients.append(both)
    assert (gradients[0] - gradients[1]).abs().max() > 1e-4  # they follow the values


def test_04_distance_has_the_gradient_of_its_mean() -> None:
    graph, model = small()
    valued = EdgeValued(model, graph)
    regime = Distance(valued.distance, 10.0)
    regime.attach(valued, torch.zeros(1))
    nothing = torch.zeros(0)
    regime.loss(Context(0, nothing, nothing, nothing))["polarisation"].backward()
    assert valued.values.grad is not None
    per_direction = valued.values.grad[valued.number, 0] / 2
    source, target = graph.edge_index
    expected = 10.0 * (source - target).abs() / graph.num_edges
    assert torch.allclose(per_direction, expected.double(), atol=1e-12)


def test_05_patches_are_empty_or_full_and_loops_stay(trained: tuple[Graph, Split, GNN]) -> None:
    graph, split, _ = trained
    looped = Graph.from_edges(torch.cat([graph.edge_index, torch.arange(600).repeat(2, 1)], 1), 600)
    for least in (0, 30, 90, 10_000):
        found = clear_patches(looped, split, least)
        patches, before = patch_edges(found, split), patch_edges(looped, split)
        assert np.array_equal(patches, np.where(before >= least, before, 0))
        source, target = found.edge_index
        assert int((source == target).sum()) == 600 and found.is_symmetric
    assert 0 < patch_edges(clear_patches(looped, split, 90), split).sum() < before.sum()
    with pytest.raises(ConfigError, match="give 0 or more"):
        clear_patches(looped, split, -1)


def test_06_both_branches_together_do_every_edge_once(trained: tuple[Graph, Split, GNN]) -> None:
    graph, split, _ = trained
    dense, sparse = two_branches(graph, split)
    keys = [ops.to * 600 + ops.source for ops in (dense, sparse)]
    looped = graph.adjacency.looped
    whole = (looped.destinations * 600 + looped.indices).numpy()
    assert np.array_equal(np.sort(np.concatenate(keys)), np.sort(whole))
    block = split.block_of.numpy()
    assert (block[dense.to] == block[dense.source]).all()
    assert (block[sparse.to] != block[sparse.source]).all()
    x = torch.randn(600, 5, generator=torch_generator(0, "x"))
    (first, done), (second, more) = dense.execute(x), sparse.execute(x)
    assert done + more == len(whole) and done == dense.piecewise.sum()
    plain = plain_operations(looped).execute(x)[0]
    assert (first + second - plain).norm() <= 1e-5 * plain.norm()
    normalised = aggregate_normalised(dense + sparse, graph, x)
    weight = torch.randn(5, 3, generator=torch_generator(0, "w"))
    degree = (graph.in_degree + 1).double().rsqrt()
    matrix = torch.zeros(600, 600, dtype=torch.float64)
    matrix[looped.destinations, looped.indices] = 1.0
    exact = (degree[:, None] * matrix * degree) @ (x @ weight).double()
    assert (normalised @ weight - exact).norm() <= 1e-5 * exact.norm()


def test_07_chosen_edges_cost_little_and_less_than_random_ones() -> None:
    above_base, above_random = [], []
    for seed in range(3):
        graph, _ = blocks(seed)
        model, base = train(graph, seed)
        chosen = sparsify_edges(model, graph, Sparsifying(share=0.2, phi=0.001))
        left = train(chosen.graph, seed)[1]
        drawn = train(random_removal(graph, chosen.removed, seed), seed)[1]
        above_base.append(100 * (left.test - base.test))
        above_random.append(100 * (left.test - drawn.test))
    assert statistics.fmean(above_base) >= -1.0
    assert statistics.fmean(above_random) > 0


def test_07_random_removal_removes_as_many_in_both_directions() -> None:
    graph, _ = blocks(0)
    left = random_removal(graph, 50, 0)
    assert left.is_symmetric and left.num_edges == graph.num_edges - 100
    assert undirected(left) != undirected(random_removal(graph, 50, 0, draw=1))


def test_07_labels_of_other_nodes_do_not_matter(trained: tuple[Graph, Split, GNN]) -> None:
    graph, _, model = trained
    assert graph.y is not None and graph.train_mask is not None
    wrong = torch.where(graph.train_mask, graph.y, (graph.y + 1) % 4)
    other = Graph(graph.indptr, graph.indices, graph.x, wrong, graph.train_mask, graph.val_mask,
                  graph.test_mask)  # fmt: skip
    settings = Sparsifying(phi=0.001)
    found, again = (sparsify_edges(model, g, settings).graph for g in (graph, other))
    assert undirected(found) == undirected(again)


def test_08_polarising_keeps_near_edges(trained: tuple[Graph, Split, GNN]) -> None:
    graph, split, model = trained
    near, free = (sparsify_edges(model, graph, Sparsifying(phi=phi)).graph for phi in (10.0, 0.0))
    assert near.num_edges == free.num_edges
    assert layout(near, split).distance < 0.95 * layout(free, split).distance


def test_09_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = blocks(0)
    one_way = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), 3)
    with pytest.raises(DataError, match="needs an undirected graph"):
        split_by_degree(one_way, ())
    with pytest.raises(ConfigError, match="12 subgraphs in 5 groups"):
        split_by_degree(graph, (), groups=5)
    with pytest.raises(ConfigError, match="rising"):
        split_by_degree(graph, (5, 3))
    ring = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3).symmetrised()
    with pytest.raises(ConfigError, match="class 0 has 3 nodes with 6 edges and gets 4 subgraphs"):
        split_by_degree(ring, (), subgraphs=4)
    with pytest.raises(ConfigError, match="without edges"):
        split_by_degree(Graph.from_edges(torch.empty(2, 0, dtype=torch.int64), 3), ())
    monkeypatch.setattr(split_module, "LARGEST", 100)
    with pytest.raises(DataError, match="more than 32 bits number"):
        split_by_degree(graph, ())
    model = build_gnn("gcn", [16, 16, 4], seed=0)
    with pytest.raises(ConfigError, match="GCN without norms"):
        sparsify_edges(build_gnn("sage", [16, 16, 4], seed=0), graph, Sparsifying())
    with pytest.raises(ConfigError, match="removes 0; leave some of each"):
        sparsify_edges(model, graph, Sparsifying(share=1e-5))
    with pytest.raises(ConfigError, match="share between 0 and 1"):
        Sparsifying(share=1.0)
    double = Graph.from_edges(graph.edge_index.repeat(1, 2), 600, x=graph.x, y=graph.y)
    with pytest.raises(DataError, match="parallel edges"):
        EdgeValued(model, double)
    half = keep_edges(graph, torch.arange(graph.num_edges) % 2 == 0)
    with pytest.raises(DataError, match="undirected graph with features"):
        EdgeValued(model, half)


def test_cycles_and_rows_are_those_of_the_graph_that_runs(
    trained: tuple[Graph, Split, GNN],
) -> None:
    graph, split, _ = trained
    cleared = clear_patches(graph, split, 90)
    before, after = (branch_report(g, split, 16, 30) for g in (graph, cleared))
    assert after["sparser"] < before["sparser"] and after["total"] < before["total"]
    assert rows_of_blocks(graph, split).misses(600) == 600
    single = engine_reports(graph, 16, 30)
    additions = (graph.num_edges + 600) * 16 / 4096
    assert single["rebalanced compute"] == pytest.approx(additions)
    assert single["row-wise"] >= single["rebalanced"]
    assert before["compute"] >= additions


def test_smoke_run_and_its_steps_are_kept(tmp_path: Path) -> None:
    finding = reproduce("gcod", "smoke", tmp_path, lambda *_: None)
    assert states_sources(finding)
    assert all(math.isfinite(v) for claim in finding.claims for v in claim.measured.values)
    steps = {p: p.stat().st_mtime_ns for p in (tmp_path / "steps").iterdir()}
    (tmp_path / "finding.json").unlink()
    again = reproduce("gcod", "smoke", tmp_path, lambda *_: None)
    assert steps == {p: p.stat().st_mtime_ns for p in (tmp_path / "steps").iterdir()}
    assert again.claims == finding.claims
