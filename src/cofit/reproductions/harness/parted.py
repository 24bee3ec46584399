"""Trainings on the parts of a graph, as reproductions compare them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    peak_bytes,
    run_ranks,
    run_ranks_of,
    train_part,
)
from cofit.reproductions.harness.outcome import Table
from cofit.reproductions.harness.study import Step

LATENCY_S = 50e-6
"""Of the emulated links."""
BYTES_PER_GBIT = 125e6
CHOSEN = (
    "a graph made so that the halo matters, its construction and degree chosen by looking at "
    "results: on plain block models of degree 8 to 30 training without a halo often lost nothing; "
    "at degree 8, one seed, p=0.1 lost 21 points and p=0 16"
)
"""What a claim on `crossed_blocks` has to say."""


@dataclass(frozen=True)
class PartedSettings:
    """What is trained and timed.

    Attributes:
        nodes, degree, noise: of the blocks; see `crossed_blocks`.
        cora: also train on Cora.
        parts: virtual ranks.
        hidden: width.
        layers: of SAGE.
        epochs: of every arm.
        timed_nodes: of the graph of the timed processes; 0 times nothing.
        timed_hidden: width there.
        timed_epochs: there.
    """

    nodes: int = 4000
    degree: float = 60.0
    noise: float = 1.5
    cora: bool = True
    parts: int = 4
    hidden: int = 64
    layers: int = 3
    epochs: int = 100
    timed_nodes: int = 20_000
    timed_hidden: int = 256
    timed_epochs: int = 8

    def blocks(self, seed: int) -> tuple[Graph, torch.Tensor]:
        """The graph and the partition of a seed."""
        return crossed_blocks(self.nodes, self.parts, self.degree, self.noise, seed)

    def timed(self, exchange: str, gbps: float) -> GraphJob:
        """A training of two processes on an emulated link."""
        return GraphJob(
            f"sbm:{self.timed_nodes}", 2, exchange, "sage", "random",
            hidden=self.timed_hidden, layers=4, dropout=0.0, epochs=self.timed_epochs,
            evaluate_every=self.timed_epochs, checkpoint_every=self.timed_epochs,
            bandwidth_Bps=gbps * BYTES_PER_GBIT, latency_s=LATENCY_S,
        )  # fmt: skip


def crossed_blocks(
    nodes: int, parts: int, degree: float, noise: float, seed: int
) -> tuple[Graph, torch.Tensor]:
    """A graph whose informative neighbours are in other parts, and its random partition.

    Of a block model with 4 classes the edges across parts are kept; within parts there are as many
    edges as in a random graph of that degree, and as uninformative. Where parts follow something
    else than the classes (hosts, regions), a halo matters; on Cora nothing tells whether it does.

    How it was chosen: see `CHOSEN`.
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
            build_gnn("sage", widths, seed=seed, dropout=0.0, norm="layer"),
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


def memory_arm(job: GraphJob, step: Step) -> dict[str, int]:
    """Memory that a training holds at most, its ranks each a process of its own.

    Returns:
        peak: bytes of all ranks at most, and of this process, which started them.
        graph: bytes of the graph and its features, once per rank and once here.
        nodes, edges, epochs: of the training; edges are undirected.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = run_ranks_of(job, Path(folder), step.progress)
    assert job.data.x is not None
    once = sum(t.nbytes for t in (job.data.indptr, job.data.indices, job.data.x))
    return {
        "peak": found["peak_bytes"] + peak_bytes(),
        "graph": (job.parts + 1) * once,
        "nodes": found["nodes"],
        "edges": found["edges"] // 2,
        "epochs": len(found["losses"]),
    }


def times_table(columns: Sequence[str], times: Mapping[tuple[str, ...], dict[str, float]]) -> Table:
    """What `time_arm` found, by the values of `columns`."""
    parts = ("epoch", "compute", "wait", "reduce")
    return Table(
        title="Seconds per epoch of two processes",
        columns=(*columns, *parts),
        rows=tuple((*key, *(f"{t[part]:.3g}" for part in parts)) for key, t in times.items()),
    )
