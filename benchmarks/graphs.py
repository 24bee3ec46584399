"""Graph training and sampling beside PyG: `python -m benchmarks.graphs [GRAPH ...]`.

An epoch is forward, loss on the training nodes, backward and a step of Adam on the whole graph,
with the same weights and data. Contenders take turns, epoch by epoch, in one run. PyG runs in both
of its forms, on an edge_index and on a `torch.sparse` adjacency, with GCN's normalisation cached;
the ratio is our median over the median of its faster form: below one we are faster, the bar is 1.2.

Sampling takes batches of 1,024 nodes with fan-outs 10 and 10. Its contenders are a Python loop over
nodes, and PyG's loader where its extension is installed; the bar is 3 times the loop's rate.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.stamp import stamp
from cofit.core import CofitError, numpy_generator, torch_generator, write_json
from cofit.graphs import Graph, NeighbourSampler, build_gnn, load_graph, reddit_like, to_pyg

GRAPHS = ("cora", "tolokers", "generated")
HIDDEN = {"gcn": 64, "sage": 64}
FANOUTS, BATCH = (10, 10), 1024
TURN = 8
"""Batches that a sampler draws before the next has its turn: its data are then in the cache."""
OURS, EDGES, SPARSE = "cofit", "PyG edge_index", "PyG sparse"
LOOP, LOADER = "Python loop", "PyG loader"


EPOCH_BAR, SAMPLING_BAR = 1.2, 3.0


@dataclass(frozen=True)
class Row:
    """One contender: seconds per epoch, or sampled edges per second.

    `ratio` is ours over PyG's faster epoch, or our rate over this sampler's; `bar` is what it may
    be at most (epochs) or must be at least (the Python loop).
    """

    graph: str
    task: str
    contender: str
    value: float | None
    ratio: float | None
    bar: float | None = None
    note: str = ""

    @property
    def meets(self) -> str:
        """In words, where there is a bar."""
        if self.ratio is None or self.bar is None:
            return ""
        met = self.ratio >= self.bar if self.task == "sampling" else self.ratio <= self.bar
        return f"{'meets' if met else 'misses'} {self.bar:g}"


class TheirNetwork(nn.Module):
    """Two layers of PyG."""

    def __init__(self, kind: str, widths: tuple[int, int, int]) -> None:
        super().__init__()
        from torch_geometric.nn import GCNConv, SAGEConv

        make = (lambda a, b: GCNConv(a, b, cached=True)) if kind == "gcn" else SAGEConv
        self.first, self.second = make(*widths[:2]), make(*widths[1:])

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """As in PyG's introduction."""
        return self.second(self.first(x, edges).relu(), edges)


def same_weights(theirs: TheirNetwork, ours: nn.Module, kind: str) -> None:
    for conv, layer in zip((theirs.first, theirs.second), ours.layers, strict=True):
        if kind == "gcn":
            conv.load_state_dict({"lin.weight": layer.weight, "bias": layer.bias})
        else:
            conv.load_state_dict(
                {
                    "lin_l.weight": layer.neighbours.weight,
                    "lin_l.bias": layer.neighbours.bias,
                    "lin_r.weight": layer.own.weight,
                }
            )


def epochs_of(graph: Graph, kind: str) -> dict[str, Callable[[], float]]:
    """For each contender a function that trains one epoch and gives its loss."""
    assert graph.x is not None and graph.y is not None and graph.train_mask is not None
    x, rows = graph.x, torch.nonzero(graph.train_mask).squeeze(1)
    targets = graph.y[rows]
    widths = (x.shape[1], HIDDEN[kind], graph.num_classes)
    sparse = torch.sparse_csr_tensor(
        graph.indptr,
        graph.indices,
        torch.ones(graph.num_edges),
        (graph.num_nodes,) * 2,
        check_invariants=False,
    )
    inputs: dict[str, tuple[Any, ...]] = {
        OURS: (graph.adjacency, x),
        EDGES: (x, graph.edge_index),
        SPARSE: (x, sparse),
    }

    def trainer(name: str) -> Callable[[], float]:
        model: nn.Module = build_gnn(kind, widths, seed=0)
        if name != OURS:
            theirs = TheirNetwork(kind, widths)
            same_weights(theirs, model, kind)
            model = theirs
        optimiser = torch.optim.Adam(model.parameters(), 0.01)

        def epoch() -> float:
            optimiser.zero_grad()
            loss = F.cross_entropy(model(*inputs[name])[rows], targets)
            loss.backward()
            optimiser.step()
            return float(loss.detach())

        return epoch

    return {name: trainer(name) for name in inputs}


def time_epochs(name: str, graph: Graph, kind: str, seconds: float) -> list[Row]:
    """Median epoch of every contender, in turns for about `seconds`, at least three rounds."""
    epochs = epochs_of(graph, kind)
    losses = {contender: [epoch(), epoch()] for contender, epoch in epochs.items()}  # warm-up too
    for contender, found in losses.items():
        difference = max(abs(a - b) for a, b in zip(found, losses[OURS], strict=True))
        assert difference < 1e-3, f"{contender} trains another network: {found}"
    times: dict[str, list[float]] = {contender: [] for contender in epochs}
    end = time.perf_counter() + seconds
    while len(times[OURS]) < 3 or time.perf_counter() < end:
        for contender, epoch in epochs.items():
            start = time.perf_counter()
            epoch()
            times[contender].append(time.perf_counter() - start)
    medians = {contender: statistics.median(found) for contender, found in times.items()}
    best = min(medians[EDGES], medians[SPARSE])
    ours = {OURS: (medians[OURS] / best, EPOCH_BAR)}
    return [
        Row(name, f"{kind} epoch", contender, value, *ours.get(contender, (None, None)))
        for contender, value in medians.items()
    ]


def loop_sample(
    neighbours: Callable[[int], list[int]], seeds: list[int], draw: random.Random
) -> int:
    """What a plain program does: node by node, hop by hop; gives the number of edges."""
    nodes, number, total = list(seeds), {v: i for i, v in enumerate(seeds)}, 0
    for fanout in reversed(FANOUTS):
        edges = []
        for target in range(len(nodes)):
            found = neighbours(nodes[target])
            for source in found if len(found) <= fanout else draw.sample(found, fanout):
                if source not in number:
                    number[source] = len(nodes)
                    nodes.append(source)
                edges.append((number[source], target))
        total += len(edges)
    return total


def time_sampling(name: str, graph: Graph, seconds: float) -> list[Row]:
    """Sampled edges per second, batch by batch in turns."""
    order = torch.randperm(graph.num_nodes, generator=torch_generator(0))
    batches = order.split(min(BATCH, graph.num_nodes))
    sampler, draw = NeighbourSampler(graph, FANOUTS), random.Random(0)
    indptr, indices = graph.indptr.tolist(), graph.indices.tolist()
    contenders: dict[str, Callable[[int], int]] = {
        OURS: lambda i: sum(
            block.num_edges
            for block in sampler.sample(batches[i % len(batches)], numpy_generator(0, i)).blocks
        ),
        LOOP: lambda i: loop_sample(
            lambda v: indices[indptr[v] : indptr[v + 1]], batches[i % len(batches)].tolist(), draw
        ),
    }
    note = pyg_loader(graph, order, contenders)
    edges, spent = dict.fromkeys(contenders, 0), dict.fromkeys(contenders, 0.0)
    end, number = time.perf_counter() + seconds, 0
    for sample in contenders.values():
        sample(0)
    while number < 3 * TURN or time.perf_counter() < end:
        for contender, sample in contenders.items():
            start = time.perf_counter()
            edges[contender] += sum(sample(number + i) for i in range(TURN))
            spent[contender] += time.perf_counter() - start
        number += TURN
    rates = {contender: edges[contender] / spent[contender] for contender in contenders}
    bars = {LOOP: SAMPLING_BAR}
    rows = [
        Row(
            name, "sampling", contender, rate, None if contender == OURS else rates[OURS] / rate,
            bars.get(contender),
        )
        for contender, rate in rates.items()
    ]  # fmt: skip
    if LOADER not in rates:
        rows.append(Row(name, "sampling", LOADER, None, None, note=note))
    return rows


def pyg_loader(
    graph: Graph, order: torch.Tensor, contenders: dict[str, Callable[[int], int]]
) -> str:
    """Add PyG's loader to the contenders; else its own words why not."""
    from torch_geometric.loader import NeighborLoader

    try:
        loader = NeighborLoader(
            to_pyg(graph), list(reversed(FANOUTS)), input_nodes=order, batch_size=BATCH
        )
        batches = iter(loader)
        next(batches)
    except ImportError as error:
        return str(error)

    def sample(number: int) -> int:
        nonlocal batches
        try:
            return int(next(batches).num_edges)
        except StopIteration:
            batches = iter(loader)
            return int(next(batches).num_edges)

    contenders[LOADER] = sample
    return ""


def table(rows: list[Row], threads: int) -> Table:
    """For people."""
    shown = Table(title=f"{threads} thread(s), contenders in turns")
    for column in ("graph", "task", "contender", "ms or edges/s", "ratio", "bar", "note"):
        shown.add_column(
            column, justify="right" if column in ("ms or edges/s", "ratio") else "left"
        )
    for row in rows:
        value = "–"
        if row.value is not None:
            value = f"{row.value:,.0f}" if row.task == "sampling" else f"{row.value * 1e3:,.2f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        shown.add_row(row.graph, row.task, row.contender, value, ratio, row.meets, row.note)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("graphs", nargs="*", default=GRAPHS, help="known graphs, or 'generated'")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="per comparison")
    parser.add_argument("--nodes", type=int, default=200_000, help="of the generated graph")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", "Sparse ")  # beta state, and invariants that PyG leaves open
    warnings.filterwarnings("ignore", "Using 'NeighborSampler' without")
    rows: list[Row] = []
    console = Console(width=max(Console().width, 100))
    for name in arguments.graphs:
        try:
            graph = reddit_like(arguments.nodes) if name == "generated" else load_graph(name)
        except CofitError as error:
            parser.error(str(error))
        own: list[Row] = []
        for kind in HIDDEN:
            own += time_epochs(name, graph, kind, arguments.seconds)
        own += time_sampling(name, graph, arguments.seconds / 4)
        console.print(table(own, arguments.threads))
        rows += own
    if arguments.json is not None:
        run = {"threads": str(arguments.threads), "torch_geometric": version("torch_geometric")}
        write_json(arguments.json, {"stamp": stamp() | run, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
