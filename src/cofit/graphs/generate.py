"""Seeded graphs with communities, of any size, whose features alone do not tell the classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import ConfigError, numpy_generator
from cofit.graphs.graph import Graph
from cofit.graphs.splits import random_split

TRAIN, VALIDATION = 0.5, 0.25
"""Fractions of the nodes; the rest is the test part."""
STUBS_PER_EDGE = 4
"""Resolution of the degree weights: a node is drawn in whole multiples of one stub."""
HUB = 50
"""Largest expected degree over the mean; Reddit's largest is 44 times its mean."""

Pairs = NDArray[np.int64]


def stochastic_block_model(
    nodes: int,
    *,
    classes: int,
    degree: float,
    homophily: float,
    features: int = 32,
    noise: float = 1.0,
    seed: int = 0,
) -> Graph:
    """Equal communities with equal expected degrees, an undirected graph without self-loops.

    Each edge joins, with probability `homophily`, two nodes of one class, else any two nodes;
    edges are distinct. The features of a node are its class's random unit vector plus Gaussian
    noise, so that with `noise` well above 0.5 the neighbours are needed to tell the classes. Half
    of the nodes train, a quarter validates.

    Args:
        nodes: n.
        classes: communities, of sizes that differ by at most one, in random order.
        degree: mean number of neighbours; nodes * degree / 2 edges are drawn exactly.
        homophily: from 0 to 1.
        features: width d.
        noise: standard deviation of each feature around its class's vector of length one.
        seed: of everything.

    Raises:
        ConfigError: a value out of range, or more edges than distinct pairs can be drawn for.
    """
    return _communities(nodes, classes, degree, homophily, None, features, noise, seed)


def reddit_like(
    nodes: int = 200_000,
    *,
    classes: int = 41,
    degree: float = 60.0,
    homophily: float = 0.75,
    exponent: float = 2.2,
    features: int = 100,
    noise: float = 1.0,
    seed: int = 0,
) -> Graph:
    """Communities as in `stochastic_block_model`, with power-law degrees.

    The expected degree of a node follows a Pareto law of the given exponent, cut at 50 times the
    mean, so that a few hubs see much of the graph. By default 200,000 nodes with 12 million edges.

    Args:
        nodes: n.
        classes: Reddit has 41.
        degree: mean number of neighbours.
        homophily: probability of drawing within a class.
        exponent: of the density of degrees, above 2.
        features: width d.
        noise: standard deviation of each feature.
        seed: of everything.

    Raises:
        ConfigError: a value out of range, or more edges than distinct pairs can be drawn for.
    """
    if exponent <= 2:
        raise ConfigError(f"exponent {exponent}: the mean degree is finite only above 2")
    return _communities(nodes, classes, degree, homophily, exponent, features, noise, seed)


def _communities(
    nodes: int,
    classes: int,
    degree: float,
    homophily: float,
    exponent: float | None,
    features: int,
    noise: float,
    seed: int,
) -> Graph:
    if not (2 <= classes <= nodes // 2 and 0 <= homophily <= 1 and noise >= 0 and features > 0):
        raise ConfigError(
            f"{nodes} nodes in {classes} classes, homophily {homophily}, {features} features, "
            f"noise {noise}; give at least 2 classes of 2 nodes, homophily from 0 to 1, positive "
            "features and noise not below 0"
        )
    count = round(nodes * degree / 2)
    # beyond a quarter of the pairs within classes, drawing until they are distinct takes long
    room = nodes * (nodes / classes) / 8 if homophily else nodes * nodes / 8
    if not 0 <= count <= room:
        raise ConfigError(
            f"degree {degree} of {nodes} nodes in {classes} classes; give from 0 to "
            f"{2 * room / nodes:.4g}"
        )
    generator = numpy_generator(seed, "graph", "edges")
    labels = generator.permutation(np.arange(nodes) % classes)
    draw = _drawing(labels, classes, homophily, exponent, count, generator)
    sources, targets = _distinct(draw, nodes, count, generator)
    edges = np.stack([np.concatenate([sources, targets]), np.concatenate([targets, sources])])
    generator = numpy_generator(seed, "graph", "features")
    centres = generator.standard_normal((classes, features), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    x = generator.standard_normal((nodes, features), np.float32)
    x *= np.float32(noise)
    x += centres[labels]
    graph = Graph.from_edges(
        torch.from_numpy(edges), nodes, x=torch.from_numpy(x), y=torch.from_numpy(labels)
    )
    return random_split(graph, TRAIN, VALIDATION, seed)


def _drawing(
    labels: Pairs,
    classes: int,
    homophily: float,
    exponent: float | None,
    edges: int,
    generator: np.random.Generator,
) -> Callable[[int], tuple[Pairs, Pairs]]:
    """A function that draws pairs of nodes, not yet distinct ones."""
    by_class = np.argsort(labels, kind="stable")
    stubs = by_class
    if exponent is not None:
        weight = generator.random(len(labels)) ** (-1 / (exponent - 1))
        weight = np.minimum(weight, HUB * weight.mean())
        share = weight * (STUBS_PER_EDGE * edges / weight.sum())
        stubs = np.repeat(by_class, np.ceil(share[by_class]).astype(np.int64))
    ends = np.cumsum(np.bincount(labels[stubs], minlength=classes))
    starts = np.concatenate([[0], ends[:-1]])

    def draw(count: int) -> tuple[Pairs, Pairs]:
        first = stubs[generator.integers(0, len(stubs), count)]
        alike = generator.random(count) < homophily
        low = np.where(alike, starts[labels[first]], 0)
        high = np.where(alike, ends[labels[first]], len(stubs))
        return first, stubs[generator.integers(low, high)]

    return draw


def _distinct(
    draw: Callable[[int], tuple[Pairs, Pairs]],
    nodes: int,
    count: int,
    generator: np.random.Generator,
) -> tuple[Pairs, Pairs]:
    """`count` distinct unordered pairs of distinct nodes, of those that `draw` gives."""
    keys = np.empty(0, np.int64)
    while len(keys) < count:
        first, second = draw(count - len(keys) + count // 16 + 8)
        lower, upper = np.minimum(first, second), np.maximum(first, second)
        fresh = (lower * nodes + upper)[lower != upper]
        keys = np.sort(np.concatenate([keys, fresh]))  # np.unique hashes, five times slower
        keys = keys[np.diff(keys, prepend=-1) > 0]
    # which of the surplus is left out must not depend on the numbers of its nodes
    surplus = generator.choice(len(keys), len(keys) - count, replace=False)
    lower, upper = np.divmod(np.delete(keys, surplus), nodes)
    return lower, upper
