"""What is done to every graph: split, polarise, clear, train again, and count."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from cofit.core import torch_generator
from cofit.graphs import (
    GNN,
    FullGraph,
    Graph,
    GraphRecipe,
    Metric,
    accuracy,
    build_gnn,
    evaluate,
    load_graph,
    plain_operations,
    pull_stream,
    roc_auc,
    stochastic_block_model,
    train_graph,
)
from cofit.graphs.blocks import (
    Sparsifying,
    Split,
    clear_patches,
    keep_edges,
    layout,
    sparsify_edges,
    split_by_degree,
    two_branches,
)
from cofit.reproductions.gcod.hardware import branch_report, engine_reports, rows_of_blocks
from cofit.reproductions.harness import Step, Study

Results = dict[str, Any]
BUFFERS = (0.01, 0.05, 0.10)
"""Rows of the cache over nodes; cycles are those of the middle one."""
THRESHOLDS: dict[str, tuple[float, ...]] = {
    "cora": (4,), "citeseer": (3, 6), "tolokers": (40, 150), "blocks": (10,),
}  # fmt: skip
"""Of degree classes: the published ones of Cora and Citeseer, ours of the others."""
GCOD, METIS = "degree classes", "METIS only"


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        graphs: names of published graphs, or "blocks".
        nodes: of the generated graph "blocks".
        epochs: of every training.
        hidden: width of the GCN.
        least: edges of a patch that stays.
        share: of edges that are removed.
        phis: weights of the distance, the published one first; validation chooses, and as many
            random removals are tried.
        subgraphs: blocks.
        groups: of blocks.
    """

    graphs: tuple[str, ...]
    nodes: int
    epochs: int = 400
    hidden: int = 16
    least: int = 40
    share: float = 0.1
    phis: tuple[float, ...] = (10.0, 0.1, 0.001)
    subgraphs: int = 12
    groups: int = 2


def graph_of(settings: Settings, name: str, seed: int) -> Graph:
    """A graph by its name in the tables."""
    if name == "blocks":
        return stochastic_block_model(
            settings.nodes, classes=8, degree=10, homophily=0.7, features=32, noise=1.0, seed=seed
        )
    return load_graph(name, seed) if name == "tolokers" else load_graph(name)


def metric_of(name: str) -> Metric:
    """The metric of a graph's publication."""
    return roc_auc if name == "tolokers" else accuracy


def examine(settings: Settings, name: str, seed: int, step: Step) -> Results:
    """Everything about one graph and seed."""
    graph = graph_of(settings, name, seed)

    def train(arm: str, of: Graph) -> tuple[GNN, Results]:
        assert of.x is not None
        widths = [of.x.shape[1], settings.hidden, of.num_classes]
        model = build_gnn("gcn", widths, seed=seed, dropout=0.5)
        trained = train_graph(
            model, FullGraph(of), GraphRecipe(settings.epochs, 0.01, 5e-4),
            evaluate=partial(evaluate, graph=of, metric=metric_of(name)), seed=seed,
            checkpoint=step.checkpoint(arm), progress=step.progress, stage=arm,
        )  # fmt: skip
        assert trained.scores is not None
        return model, {"test": trained.scores.test, "validation": trained.scores.validation}

    found: Results = {"nodes": graph.num_nodes, "edges": graph.num_edges, "arms": {}}
    lines = [max(1, int(share * graph.num_nodes)) for share in BUFFERS]
    found["baselines"] = engine_reports(graph, settings.hidden, lines[1])
    stored = pull_stream(graph.adjacency.looped)
    found["stored"] = [stored.misses(c) / graph.num_nodes for c in lines]
    model: GNN | None = None
    for kind, thresholds in ((GCOD, THRESHOLDS[name]), (METIS, ())):
        split = split_by_degree(
            graph, thresholds, subgraphs=settings.subgraphs, groups=settings.groups, seed=seed
        )
        ordered = split.apply(graph)
        if model is None:
            model, scores = train("split", ordered)
        arms = {"split": (ordered, scores)}
        choices = [
            sparsify_edges(
                model, ordered, Sparsifying(share=settings.share, phi=phi),
                step.checkpoint(f"{kind} edges {i}"),
            )
            for i, phi in enumerate(settings.phis)
        ]  # fmt: skip
        tried = [(c.graph, train(f"{kind} sparse {i}", c.graph)[1]) for i, c in enumerate(choices)]
        arms["sparse"] = best = max(tried, key=lambda each: each[1]["validation"])
        cleared = clear_patches(best[0], split, settings.least)
        arms["cleared"] = cleared, train(f"{kind} cleared", cleared)[1]
        if kind == GCOD:
            drawn = [
                random_removal(ordered, choices[0].removed, seed, i) for i in range(len(tried))
            ]
            arms["random"] = max(
                ((of, train(f"random {i}", of)[1]) for i, of in enumerate(drawn)),
                key=lambda each: each[1]["validation"],
            )
            plain = sparsify_edges(model, ordered, Sparsifying(share=settings.share, phi=0.0))
            near, far = (layout(of.graph, split).distance for of in (choices[0], plain))
            found["polarised"] = near / far
            found["gaps"] = list(choices[0].gaps)
            found["phi"] = settings.phis[[each[0] for each in tried].index(best[0])]
            found["error"] = branches_error(ordered, split, seed)
        found["arms"][kind] = {
            arm: scores | _described(of, split, settings.hidden, lines)
            for arm, (of, scores) in arms.items()
        }
    return found


def _described(graph: Graph, split: Split, width: int, lines: list[int]) -> Results:
    stream = rows_of_blocks(graph, split)
    return {
        "edges": graph.num_edges,
        **asdict(layout(graph, split)),
        "misses": [stream.misses(c) / graph.num_nodes for c in lines],
        "cycles": branch_report(graph, split, width, lines[1]),
    }


def random_removal(graph: Graph, removed: int, seed: int, draw: int = 0) -> Graph:
    """The graph without `removed` undirected edges, drawn at random."""
    source, target = graph.edge_index
    low, high = torch.minimum(source, target), torch.maximum(source, target)
    pairs, number = torch.unique(low * graph.num_nodes + high, return_inverse=True)
    drawn = torch.randperm(len(pairs), generator=torch_generator(seed, "random edges", draw))
    kept = torch.ones(len(pairs), dtype=torch.bool)
    kept[drawn[:removed]] = False
    return keep_edges(graph, kept[number])


def branches_error(graph: Graph, split: Split, seed: int) -> float:
    """Relative error of the sum of both branches, executed, against plain sums."""
    draw = torch_generator(seed, "branches")
    x = torch.randn(graph.num_nodes, 8, generator=draw)
    dense, sparse = two_branches(graph, split)
    plain = plain_operations(graph.adjacency.looped).execute(x)[0]
    both = dense.execute(x)[0] + sparse.execute(x)[0]
    return float((both - plain).norm() / plain.norm())


def run_steps(study: Study[Settings]) -> dict[str, list[Results]]:
    """All graphs; one result per seed."""
    return {
        name: [
            study.step(f"{name} {seed}", partial(examine, study.settings, name, seed))
            for seed in study.seeds
        ]
        for name in study.settings.graphs
    }
