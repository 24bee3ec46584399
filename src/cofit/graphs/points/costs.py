"""What operations of point networks cost: MACs, bytes, comparisons, memory; and table targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from cofit.graphs.nearest import TILE_BYTES
from cofit.graphs.points.dgcnn import EDGE_WIDTHS, EMBEDDING
from cofit.graphs.points.execution import needs
from cofit.graphs.points.genotype import Gene, Genes, widths
from cofit.graphs.points.network import HEAD

FLOAT, INDEX = 4, 8


@dataclass(frozen=True)
class OpCost:
    """One operation on one cloud.

    Attributes:
        kind: "combine", "aggregate", "sample", "pool", "connect" or "edge".
        macs: multiply-accumulates.
        moved_bytes: read and written, every gathered row counted.
        compares: of the selection of neighbours.
        live_bytes: inputs, output and working memory while it runs.
        parameters: weights, biases, and the four vectors of a normalisation.
    """

    kind: str
    macs: int = 0
    moved_bytes: int = 0
    compares: int = 0
    live_bytes: int = 0
    parameters: int = 0


@dataclass(frozen=True)
class TableTarget:
    """A machine as a table of speeds; what it gives is modelled, not measured.

    Attributes:
        name: as shown.
        macs_per_s: of matrix products.
        bytes_per_s: of everything that moves.
        compares_per_s: of the selection of neighbours.
        overhead_s: per operation.
        memory_bytes: capacity.
    """

    name: str
    macs_per_s: float
    bytes_per_s: float
    compares_per_s: float
    overhead_s: float
    memory_bytes: int

    def latency_s(self, costs: Sequence[OpCost]) -> float:
        """Operations after each other; each is bound by arithmetic or by memory."""
        bound = (max(c.macs / self.macs_per_s, c.moved_bytes / self.bytes_per_s) for c in costs)
        chosen = sum(c.compares for c in costs) / self.compares_per_s
        return sum(bound) + chosen + self.overhead_s * len(costs)


PI_LIKE = TableTarget("pi-like", 1.6e9, 0.8e9, 3e8, 60e-6, 256 << 20)
"""About twelve times slower than one core of a server, 256 MiB."""
ACCELERATOR_LIKE = TableTarget("accelerator-like", 1e12, 2e11, 2e8, 5e-6, 8 << 30)
"""Products are nearly free; selecting neighbours is as slow as on a small processor."""


def design_costs(genes: Genes, n: int, k: int, classes: int, inputs: int = 3) -> tuple[OpCost, ...]:
    """Of every operation of a canonical design that computes, and of the classifier's layers."""
    found: list[OpCost] = []
    pooled = False
    sizes = widths(genes, inputs)
    for position, gene in enumerate(genes):
        rows = 1 if pooled else n
        if gene.op != "communicate":
            kept = _kept_bytes(genes, position, sizes, n, k)
            found.append(_cost(gene, rows, n, k, sizes[position], sizes[position + 1], kept))
        pooled |= gene.op == "pool"
    return (*found, *_head_costs((sizes[-1], *HEAD, classes), biased=1))


def dgcnn_costs(
    n: int, k: int, classes: int, inputs: int = 3, *, rewritten: bool = False
) -> tuple[OpCost, ...]:
    """Of DGCNN; rewritten, products are on points and messages have the width of the result."""
    found: list[OpCost] = []
    kept = 0  # earlier results wait for their concatenation
    for d_in, d_out in zip((inputs, *EDGE_WIDTHS), EDGE_WIDTHS, strict=False):
        found.append(_sample(n, k, d_in, kept))
        rows = n if rewritten else n * k
        # sources, differences and both together; product, normalised and activated of edges
        widest = d_out if rewritten else max(4 * d_in, 2 * d_in + d_out, 3 * d_out)
        live = (n * (d_in + 2 * d_out) + n * k * widest) * FLOAT + n * k * INDEX + kept
        moved = (n * k * widest + n * (d_in + d_out)) * FLOAT + n * k * INDEX
        found.append(
            OpCost("edge", rows * 2 * d_in * d_out, moved, 0, live, 2 * d_in * d_out + 4 * d_out)
        )
        kept += n * d_out * FLOAT
    found.append(_combine(n, sum(EDGE_WIDTHS), EMBEDDING, kept))
    found.append(_pool(n, EMBEDDING, 2, 0))
    return (*found, *_head_costs((2 * EMBEDDING, *HEAD, classes), biased=2))


def macs(costs: Sequence[OpCost], *, selection: bool = False) -> int:
    """Multiply-accumulates of the network, or with `selection` of its distances alone."""
    return sum(cost.macs for cost in costs if (cost.kind == "sample") == selection)


def parameters(costs: Sequence[OpCost]) -> int:
    """Parameters and the running statistics of normalisations."""
    return sum(cost.parameters for cost in costs)


def peak_bytes(costs: Sequence[OpCost], *, weights: bool = True) -> int:
    """Weights, and the most that is alive at once."""
    held = FLOAT * parameters(costs) if weights else 0
    return held + max(cost.live_bytes for cost in costs)


def floor_bytes(n: int, d_in: int, d_out: int, weights: int) -> int:
    """No design holds less than its parameters, and input and output of one operation."""
    return FLOAT * (weights + n * (d_in + d_out))


def _kept_bytes(genes: Genes, position: int, sizes: Sequence[int], n: int, k: int) -> int:
    """Bytes of the state that wait while an operation runs, besides its own input and output."""
    later = needs(genes[position:])
    kept = n * INDEX if "batch" in later else 0
    kept += n * k * INDEX if "neighbours" in later else 0
    return kept + (n * sizes[position] * FLOAT if "previous" in later else 0)


def _cost(gene: Gene, rows: int, n: int, k: int, d_in: int, d_out: int, kept: int) -> OpCost:
    if gene.op == "combine":
        return _combine(rows, d_in, d_out, kept)
    if gene.op == "pool":
        return _pool(n, d_in, len(gene.pools), kept)
    if gene.op == "sample":
        return _sample(n, k, d_in, kept) if gene.attribute == "knn" else _random(n, k, kept)
    if gene.op == "connect" or not gene.uses_graph:
        moved = 3 * rows * d_in * FLOAT
        return OpCost("connect", 0, moved, 0, moved + kept)
    formed = "distance" in gene.message or gene.reducer in ("max", "min")
    wide = n * k * d_in * (2 if "distance" in gene.message else 1)
    moved = (n * k * d_in + n * (d_in + d_out)) * FLOAT + n * k * INDEX
    columns = n * d_out if len(gene.message) > 1 else 0  # reduced parts before they stand together
    live = (n * (d_in + d_out) + (wide if formed else 0) + columns) * FLOAT + kept
    return OpCost("aggregate", 0, moved, 0, live)


def _combine(rows: int, d_in: int, d_out: int, kept: int) -> OpCost:
    weights = d_in * d_out + 4 * d_out
    moved = (rows * (d_in + d_out) + weights) * FLOAT
    live = rows * (d_in + 2 * d_out) * FLOAT + kept  # the product while it is normalised
    return OpCost("combine", rows * d_in * d_out, moved, 0, live, weights)


def _sample(n: int, k: int, d_in: int, kept: int) -> OpCost:
    rows = min(n, max(1, TILE_BYTES // (n * FLOAT)))
    tile = rows * n * (FLOAT + 2 * INDEX)  # distances, and the keys of their selection
    live = n * d_in * FLOAT + n * k * INDEX + tile + kept
    moved = n * d_in * FLOAT + n * k * INDEX
    compares = round(n * n * max(1.0, math.log2(k)))
    return OpCost("sample", n * n * d_in, moved, compares, live)


def _random(n: int, k: int, kept: int) -> OpCost:
    return OpCost("sample", 0, 2 * n * k * INDEX, 0, 2 * n * k * INDEX + kept)


def _pool(n: int, d: int, parts: int, kept: int) -> OpCost:
    moved = (parts * n * d + parts * d) * FLOAT
    return OpCost("pool", 0, moved, 0, (n * d + 2 * parts * d) * FLOAT + kept)


def _head_costs(sizes: tuple[int, ...], biased: int) -> list[OpCost]:
    """The last layer has a bias and no normalisation; of two biased ones, the one before too."""
    *hidden, last = (_combine(1, a, b, 0) for a, b in pairwise(sizes))
    if biased == 2:
        hidden[-1] = replace(hidden[-1], parameters=hidden[-1].parameters + sizes[-2])
    return [*hidden, replace(last, parameters=last.parameters - 3 * sizes[-1])]
