"""Architectures apart from where they run, and all the ways of placing one."""

from __future__ import annotations

from itertools import combinations

from cofit.core import ConfigError
from cofit.graphs.points.genotype import Gene, Genes, canonical, spell
from cofit.graphs.points.network import PointNetwork


def without_transfers(genes: Genes, inputs: int = 3) -> Genes:
    """The architecture of a design: all but where it runs."""
    return canonical([gene for gene in genes if gene.op != "communicate"], inputs)


def mappings(genes: Genes, inputs: int = 3) -> list[Genes]:
    """Every legal way of placing an architecture, device-only first; each design once."""
    bare = without_transfers(genes, inputs)
    move = Gene("communicate")
    found = {bare: None}  # in order
    places = range(len(bare) + 1)
    for count in (1, 2):
        for cut in combinations(places, count):
            made = list(bare)
            for place in reversed(cut):
                made.insert(place, move)
            found[canonical(made, inputs)] = None
    return list(found)


def place(network: PointNetwork, genes: Genes) -> PointNetwork:
    """The same network and weights, cut where `genes` says.

    Args:
        network: without transfers.
        genes: the same operations in canonical form, with transfers.

    Raises:
        ConfigError: the operations differ.
    """
    if tuple(gene for gene in genes if gene.op != "communicate") != network.genes:
        raise ConfigError(
            f"{spell(genes)!r} is no placement of {spell(network.genes)!r}; see mappings"
        )
    classes = len(network.classifier[-1].bias)  # type: ignore[arg-type]
    placed = PointNetwork(genes, classes, network.k, network.widths[0])
    there = [i for i, gene in enumerate(placed.genes) if gene.op != "communicate"]
    for position, layer in zip(there, network.layers, strict=True):
        placed.layers[position].load_state_dict(layer.state_dict())
    placed.classifier.load_state_dict(network.classifier.state_dict())
    return placed.train(network.training)
