"""What is done to every graph: islands, shared sums, row streams, cycles, and wall time."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from cofit.core import ConfigError, VerificationError, numpy_generator
from cofit.graphs import (
    Graph,
    Operations,
    RowStream,
    aggregate,
    aggregate_normalised,
    load_graph,
    metis_parts,
    plain_operations,
    pull_stream,
    rcm_order,
    reddit_like,
)
from cofit.graphs.islands import Islands, find_islands, greedy_pair_savings, share_sums
from cofit.reproductions.harness import Step, Study
from cofit.reproductions.i_gcn.caves import caves_with_hubs
from cofit.targets.graph_engines import (
    GraphEngine,
    Locator,
    Work,
    graph_engine,
    island_cycles,
    single_cycles,
)

Results = dict[str, Any]
BUFFERS = (0.01, 0.05, 0.10)
"""Rows of the cache over nodes."""
ELEMENT_BYTES, INDEX_BYTES = 4, 4
PART_NODES = 256
"""Nodes of a part of METIS on average."""
NARROW = Locator(detectors=3, searches=2, edges_per_cycle=1)
"""That of the public simulator handengke/IU-GCN_sim; the engine's file chooses a wider one."""


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        graphs: names: of published graphs, "caves" or "reddit-like".
        caves: cliques of 8 nodes of the first.
        nodes: of the second.
        degree: of the second, on average.
        width: of the rows that are summed.
        windows: columns of a window.
        window: the one that claims are about.
        pairs: most edges of a graph that is also merged greedily, pair by pair.
        repeats: of timed runs.
        threshold: first threshold of hubs; None is the 99th percentile of the degrees.
        decay: of the threshold.
        largest: nodes of an island.
    """

    graphs: tuple[str, ...]
    caves: int
    nodes: int
    degree: float
    width: int = 16
    windows: tuple[int, ...] = (2, 4, 8)
    window: int = 2
    pairs: int = 50_000
    repeats: int = 5
    threshold: int | None = None
    decay: float = 0.5
    largest: int = 64


def generated(name: str) -> bool:
    """Whether a graph is drawn anew for every seed."""
    return name in ("caves", "reddit-like")


def graph_of(settings: Settings, name: str, seed: int) -> Graph:
    """A graph by its name in the tables."""
    if name == "caves":
        return caves_with_hubs(settings.caves, 8, max(2, settings.caves // 20), 40, seed)
    if name == "reddit-like":
        return reddit_like(settings.nodes, degree=settings.degree, features=1, seed=seed)
    return load_graph(name)


def examine(settings: Settings, name: str, seed: int, step: Step) -> Results:
    """Everything about one graph."""
    graph = graph_of(settings, name, seed)
    start = time.perf_counter()
    islands = find_islands(
        graph, threshold=settings.threshold, decay=settings.decay, largest=settings.largest
    )
    located = time.perf_counter() - start
    classes = np.bincount(islands.edge_classes(), minlength=3)
    base = plain_operations(graph.adjacency.looped)
    shared = {k: share_sums(islands, k) for k in settings.windows}
    found: Results = {
        "nodes": graph.num_nodes, "edges": graph.num_edges, "hubs": len(islands.hubs),
        "islands": len(islands), "largest": int(islands.sizes.max(initial=0)),
        "rounds": len(islands.rounds), "classes": classes.tolist(), "seconds": located,
        "visits": sum(r.visits for r in islands.rounds),
    }  # fmt: skip
    step.progress("sums", 1, 4)
    found |= _sums(settings, graph, base, shared, seed)
    step.progress("rows", 2, 4)
    found["misses"] = _misses(graph, islands, seed)
    step.progress("cycles", 3, 4)
    found["cycles"] = modelled(graph, islands, shared[settings.window], settings.width)
    found["seconds_of"] = _timed(settings, graph, islands, shared[settings.window], seed)
    return found


def _sums(
    settings: Settings, graph: Graph, base: Operations, shared: dict[int, Operations], seed: int
) -> Results:
    """Executed additions, and whether the sums are those of plain aggregation."""
    draw = numpy_generator(seed, "i-gcn", "rows")
    shape = (graph.num_nodes, settings.width)
    whole = torch.from_numpy(draw.integers(-1000, 1000, shape, dtype=np.int32))
    x = torch.from_numpy(draw.standard_normal(shape, np.float32))
    expected, count = base.execute(whole)
    exact = aggregate(graph.adjacency.normalised, x.double())
    pruned, differing, error = {}, 0, 0.0
    for window, operations in shared.items():
        sums, additions = operations.execute(whole)
        differing += int((sums != expected).sum())
        pruned[str(window)] = 1 - additions / count
        result = aggregate_normalised(operations, graph, x)
        error = max(error, float((result - exact).norm() / exact.norm()))
    found: Results = {"base": count, "pruned": pruned, "differing": differing, "error": error}
    if graph.num_edges <= settings.pairs:
        found["pairs"] = greedy_pair_savings(graph.adjacency.looped) / count
    return found


def _misses(graph: Graph, islands: Islands, seed: int) -> Results:
    """Rows loaded by order and buffer, over nodes, and the bound of the best replacement."""
    n, looped = graph.num_nodes, graph.adjacency.looped
    parts, _ = metis_parts(graph, max(2, n // PART_NODES))
    drawn = torch.from_numpy(numpy_generator(seed, "i-gcn", "order").permutation(n))
    orders = {
        "random": drawn, "as stored": None, "METIS": parts.argsort(stable=True),
        "RCM": rcm_order(graph), "islands": islands.order(),
    }  # fmt: skip
    streams = {name: pull_stream(looped, order) for name, order in orders.items()}
    found: Results = {
        name: [s.misses(max(1, int(share * n))) / n for share in BUFFERS]
        for name, s in streams.items()
    }
    best = streams["islands"]
    found["islands, optimal"] = [best.fewest_misses(max(1, int(c * n))) / n for c in BUFFERS]
    return found


def resident_lines(islands: Islands) -> int:
    """Rows on chip so that every other row moves once: hubs, their sums, the largest island twice.

    An island's rows come in and its sums go out; partial sums take rows of nodes already read.
    """
    return 2 * len(islands.hubs) + 2 * int(islands.sizes.max(initial=1))


def island_traffic(islands: Islands, width: int, lines: int) -> np.ndarray:
    """(islands + 1,) bytes: rows in and out and edges of each island; then the hubs'.

    Raises:
        ConfigError: the buffer does not hold hubs and the largest island.
    """
    if lines < resident_lines(islands):
        raise ConfigError(
            f"a buffer of {lines} rows; {len(islands.hubs)} hubs with their sums and the largest "
            f"island need {resident_lines(islands)}"
        )
    degree, island_of = islands.graph.in_degree.numpy(), islands.island_of
    edges = np.bincount(island_of[island_of >= 0], degree[island_of >= 0], len(islands))
    rows = np.concatenate([islands.sizes, [len(islands.hubs)]])
    read = np.concatenate([edges, [degree[islands.hubs].sum()]])
    found: np.ndarray = 2 * rows * width * ELEMENT_BYTES + read * INDEX_BYTES
    return found


def modelled(graph: Graph, islands: Islands, shared: Operations, width: int) -> Results:
    """Cycles of islands, and of pulling and pushing with as many elements, bandwidth and buffer."""
    engine: GraphEngine = graph_engine("i-gcn")
    lines = resident_lines(islands)
    row = width * ELEMENT_BYTES
    made = np.cumsum([0, *(r.hubs for r in islands.rounds)])[:-1]
    compared = int((graph.num_nodes - made).sum())
    by_islands, by_narrow = (
        island_cycles(
            shared.piecewise * width,
            island_traffic(islands, width, lines),
            sum(r.visits for r in islands.rounds),
            compared,
            replace(engine, locator=locator),
        )
        for locator in (engine.locator, NARROW)
    )
    stream: RowStream = pull_stream(graph.adjacency.looped)
    misses, n, base = stream.misses(lines), graph.num_nodes, stream.accesses
    index = graph.num_edges * INDEX_BYTES
    pulled = single_cycles(Work(base * width, (misses + n) * row + index), engine)
    pushed = single_cycles(Work(base * width, (2 * misses + n) * row + index), engine)
    return {
        "islands": by_islands.total, "locator": by_islands.hidden, "memory": by_islands.memory,
        "pull": pulled.total, "push": pushed.total, "lines": lines,
        "islands, narrow": by_narrow.total, "locator, narrow": by_narrow.hidden,
    }  # fmt: skip


def _timed(
    settings: Settings, graph: Graph, islands: Islands, shared: Operations, seed: int
) -> Results:
    """Median seconds of the sums in C: as stored, in island order, and with shared sums."""
    draw = numpy_generator(seed, "i-gcn", "timed")
    x = torch.from_numpy(draw.standard_normal((graph.num_nodes, settings.width), np.float32))
    order = islands.order()
    renumbered = plain_operations(graph.permute(order).adjacency.looped)
    stored = plain_operations(graph.adjacency.looped)
    runs = {
        "as stored": partial(stored.execute, x),
        "island order": partial(renumbered.execute, x[order]),
        "islands, shared": partial(shared.execute, x),
    }
    first, second = runs["as stored"]()[0][order], runs["island order"]()[0]
    if not torch.allclose(first, second, rtol=1e-4, atol=1e-4):
        raise VerificationError("sums in island order differ from those as stored")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(settings.repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def run_steps(study: Study[Settings]) -> dict[str, list[Results]]:
    """All graphs; one result per seed."""
    return {
        name: [
            study.step(f"{name} {seed}", partial(examine, study.settings, name, seed))
            for seed in study.seeds
        ]
        for name in study.settings.graphs
    }
