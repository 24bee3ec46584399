"""Trainings on the parts of a graph, as reproductions compare them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cofit.graphs import Graph, GraphRecipe, build_gnn, stochastic_block_model
from cofit.graphs.halo import (
    GraphJob,
    HaloResult,
    InProcess,
    PartitionedGraph,
    Policy,
    partition,
    run_ranks,
    run_ranks_of,
    train_part,
)
from cofit.reproductions.harness.study import Step


def crossed_blocks(
    nodes: int, parts: int, degree: float, noise: float, seed: int
) -> tuple[Graph, torch.Tensor]:
    """A graph whose informative neighbours are in other parts, and its random partition.

    Of a block model with 4 classes the edges across parts are kept; within parts there are as many
    edges as in a random graph of that degree, and as uninformative. Where parts follow something
    else than the classes (hosts, regions), a halo matters; on Cora nothing tells whether it does.

    The construction and its degree were chosen so that training without a halo loses: on plain
    block models of degree 8 to 30 it often did not, and p=0.1 lost up to 21 points at degree 8,
    more than p=0 did.
    """
    decoy = _blocks(nodes, degree, 0.0, noise, seed)
    part = partition(decoy, parts, "random", seed)
    blocks = _blocks(nodes, degree, 0.7, noise, seed)
    edges = []
    for graph, inside in ((blocks, False), (decoy, True)):
        ends = graph.edge_index
        same = part.part[ends[0]] == part.part[ends[1]]
        edges.append(ends[:, same == inside])
    mixed = Graph.from_edges(torch.cat(edges, 1), nodes)
    return replace(blocks, indptr=mixed.indptr, indices=mixed.indices), part.part


def _blocks(nodes: int, degree: float, homophily: float, noise: float, seed: int) -> Graph:
    return stochastic_block_model(
        nodes, classes=4, degree=degree, homophily=homophily, features=16, noise=noise, seed=seed
    )


def train_arm(
    graph: Graph,
    part: torch.Tensor,
    policy: Policy,
    step: Step | None = None,
    *,
    hidden: int,
    layers: int,
    epochs: int,
    seed: int,
    learning_rate: float = 0.01,
) -> dict[str, Any]:
    """Train SAGE on virtual ranks; all arms of a comparison differ in `policy` only.

    Returns:
        accuracy: of the test part, at the best validation score.
        final: of the test part, after the last epoch.
        losses: per epoch.
        bytes: exchanged per epoch, by all ranks.
        rows: source rows of an exchanged layer, mean over ranks and epochs.
        inner: the part of these that a rank owns.
    """
    assert graph.x is not None
    widths = [graph.x.shape[1], *[hidden] * (layers - 1), graph.num_classes]
    shared = PartitionedGraph.build(graph, part)

    def work(transport: InProcess) -> HaloResult:
        def progress(stage: str, done: int, total: int) -> None:
            if step is not None and transport.rank == 0:
                step.progress(stage, done, total)

        return train_part(
            graph,
            part,
            build_gnn("sage", widths, seed=seed, dropout=0.0, norm=True),
            GraphRecipe(epochs, learning_rate, evaluate_every=5),
            transport,
            policy=policy,
            seed=seed,
            checkpoint=None if step is None else (step.folder, 50),
            progress=progress,
        )

    result = run_ranks(shared.size, work)[0]
    scores = result.trained.scores
    assert scores is not None
    sent = result.total.exchanged / epochs
    inner = graph.num_nodes / shared.size
    per_row = 2 * hidden * (layers - 1) * graph.x.element_size()
    return {
        "accuracy": scores.test,
        "final": result.trained.history.scores[-1][3],
        "losses": result.trained.history.losses,
        "bytes": sent,
        "rows": inner + sent / per_row / shared.size,
        "inner": inner,
    }


def time_arm(job: GraphJob, step: Step) -> dict[str, float]:
    """Seconds per epoch of real processes on an emulated link, as rank 0 measured them.

    Returns:
        epoch, wait, reduce: in s; `compute` is the rest of the epoch.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = run_ranks_of(job, Path(folder), step.progress)
    epoch, wait, reduce = (float(found[key]) for key in ("epoch_s", "waited_s", "reduced_s"))
    return {"epoch": epoch, "wait": wait, "reduce": reduce, "compute": epoch - wait - reduce}
