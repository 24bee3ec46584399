"""One distributed training from names and numbers: what `cofit graph train` runs on every rank."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from cofit.core import ConfigError, read_json, read_tensors, write_json, write_tensors
from cofit.graphs.generate import reddit_like, stochastic_block_model
from cofit.graphs.graph import Graph
from cofit.graphs.halo.emulated import Emulated
from cofit.graphs.halo.launch import launch
from cofit.graphs.halo.partition import partition
from cofit.graphs.halo.parts import PartitionedGraph
from cofit.graphs.halo.policy import Policy, parse_policy
from cofit.graphs.halo.training import train_part
from cofit.graphs.halo.transport import Transport
from cofit.graphs.loading import load_graph
from cofit.graphs.models import GNN, build_gnn
from cofit.graphs.scores import Metric, accuracy, roc_auc
from cofit.graphs.training import GraphRecipe, Progress

JOB, PARTITION, MODEL, SUMMARY = (
    "job.json", "partition.safetensors", "model.safetensors", "summary.json",
)  # fmt: skip


@dataclass(frozen=True)
class GraphJob:
    """A training on the parts of a graph.

    Args:
        graph: a known graph, or "sbm:NODES" or "reddit_like:NODES" for a generated one.
        parts: ranks.
        exchange: see `parse_policy`.
        model: "gcn", "sage", "gat" or "gin".
        method: of partitioning.
        hidden: width of the hidden layers.
        layers: at least one.
        norm: "none", "layer" or "batch", the latter over the nodes of all ranks.
        dropout: probability.
        epochs: steps; each sees the whole graph.
        learning_rate: of Adam.
        weight_decay: of matrices.
        evaluate_every: epochs between evaluations.
        split: of the graph.
        seed: of the partition, the weights, dropout and sampling.
        timeout_s: of every wait for another rank.
        checkpoint_every: epochs between saves.
        bandwidth_Bps: of an emulated link; None for what this machine has.
        latency_s: of an emulated link.

    Raises:
        ConfigError: a value out of range.
    """

    graph: str
    parts: int = 2
    exchange: str = "exact"
    model: str = "gcn"
    method: str = "metis"
    hidden: int = 64
    layers: int = 2
    norm: str = "none"
    dropout: float = 0.5
    epochs: int = 100
    learning_rate: float = 0.01
    weight_decay: float = 5e-4
    evaluate_every: int = 1
    split: int = 0
    seed: int = 0
    timeout_s: float = 60.0
    checkpoint_every: int = 10
    bandwidth_Bps: float | None = None
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("parts", "hidden", "layers", "timeout_s", "checkpoint_every"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a positive number")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout {self.dropout}; choose from 0 to below 1")
        _ = self.policy, self.recipe

    @property
    def policy(self) -> Policy:
        """Of the exchange."""
        return parse_policy(self.exchange, self.seed, attention=self.model == "gat")

    @property
    def recipe(self) -> GraphRecipe:
        """Of the training."""
        return GraphRecipe(self.epochs, self.learning_rate, self.weight_decay, self.evaluate_every)

    @cached_property
    def data(self) -> Graph:
        """The graph.

        Raises:
            ConfigError: the number of nodes cannot be read.
            CofitError: see `load_graph`.
        """
        kind, colon, nodes = self.graph.partition(":")
        if not colon:
            return load_graph(self.graph, self.split)
        if kind not in ("sbm", "reddit_like") or not nodes.isdecimal():
            raise ConfigError(
                f"generated graph {self.graph!r}; give sbm:NODES or reddit_like:NODES"
            )
        if kind == "reddit_like":
            return reddit_like(int(nodes), seed=self.split)
        return stochastic_block_model(
            int(nodes), classes=4, degree=10, homophily=0.8, noise=1.0, seed=self.split
        )

    def build(self) -> GNN:
        """The network, with the same weights on every rank."""
        assert self.data.x is not None
        widths = [
            self.data.x.shape[1], *[self.hidden] * (self.layers - 1), self.data.num_classes
        ]  # fmt: skip
        return build_gnn(self.model, widths, seed=self.seed, dropout=self.dropout, norm=self.norm)

    @property
    def metric(self) -> Metric:
        """The area under the ROC curve where there are two classes, else accuracy."""
        two = self.data.y is not None and self.data.y.dim() == 1 and self.data.num_classes == 2
        return roc_auc if two else accuracy


def run_ranks_of(job: GraphJob, out: Path, progress: Progress) -> dict[str, Any]:
    """Train on gloo ranks started here, and return the summary that rank 0 wrote.

    A training that was interrupted goes on from the last step that all ranks have saved.

    Raises:
        ConfigError: the folder holds another training.
        CommunicationError: a rank failed.
        CofitError: the graph, the partition or the model cannot be had.
    """
    prepare(job, out)

    def listen(line: str) -> None:
        done, total = map(int, line.split())
        progress("train", done, total)

    command = [sys.executable, "-m", "cofit.graphs.halo.rank", str(out)]
    launch(command, job.parts, job.timeout_s, listen)
    summary: dict[str, Any] = read_json(out / SUMMARY)
    return summary


def prepare(job: GraphJob, out: Path) -> torch.Tensor:
    """Check the job, write it to its folder, and give the partition, made once.

    Raises:
        ConfigError: the folder holds another training.
        CofitError: the graph, the partition or the model cannot be had.
    """
    job.build()
    wanted, path = asdict(job), out / JOB
    if path.exists():
        found = read_json(path)
        free = {"timeout_s", "checkpoint_every"}
        changed = sorted(k for k, v in wanted.items() if k not in free and found.get(k) != v)
        if changed:
            raise ConfigError(
                f"{str(out)!r} holds a training with another {', '.join(changed)}; choose another "
                "--out, or remove the folder"
            )
    file = out / PARTITION
    if file.exists():
        part = read_tensors(file)["part"]
    else:
        part = partition(job.data, job.parts, job.method, job.seed).part
        write_tensors(file, {"part": part})
    write_json(path, wanted)
    return part


def run_rank(job: GraphJob, out: Path, transport: Transport, progress: Progress) -> dict[str, Any]:
    """Train as one rank; rank 0 writes the summary and the weights.

    Raises:
        CommunicationError: there are not as many ranks as parts, or one is gone.
        CofitError: see `train_part`.
    """
    part = prepare(job, out)
    shared = PartitionedGraph.build(job.data, part)
    if job.bandwidth_Bps is not None:
        transport = Emulated(transport, job.bandwidth_Bps, job.latency_s)
    result = train_part(
        job.data,
        part,
        job.build(),
        job.recipe,
        transport,
        policy=job.policy,
        seed=job.seed,
        metric=job.metric,
        checkpoint=(out / "checkpoints", job.checkpoint_every),
        progress=progress,
    )
    trained = result.trained
    summary = {
        "job": asdict(job),
        "nodes": job.data.num_nodes,
        "edges": job.data.num_edges,
        "cross_edges": shared.cross_edges,
        "halo_nodes": shared.halo_nodes,
        "epoch": trained.epoch,
        "metric": job.metric.__name__,
        "scores": None if trained.scores is None else asdict(trained.scores),
        "bytes": vars(result.total),
        "peak_bytes": peak_bytes(transport),
        "epoch_s": result.epoch_s,
        "waited_s": result.waited_s,
        "reduced_s": result.reduced_s,
        "losses": trained.history.losses,
    }
    if transport.rank == 0:
        write_tensors(out / MODEL, trained.model.state_dict())
        write_json(out / SUMMARY, summary)
    return summary


def peak_bytes(transport: Transport | None = None) -> int:
    """Memory that this process, or those of all ranks together, held at most.

    By `getrusage`; on Linux a process counts no less than what its parent held when it started it,
    so that a sum over ranks is an upper bound.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if transport is None:
        return peak
    table = torch.zeros(transport.size, 2, dtype=torch.int64)
    table[transport.rank] = torch.tensor([os.getpid(), peak])
    transport.all_reduce(table)
    return sum(dict(table.tolist()).values())  # virtual ranks share a process
