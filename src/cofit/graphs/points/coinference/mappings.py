"""Architectures apart from where they run, and all the ways of placing one."""

from __future__ import annotations

from itertools import combinations

from cofit.graphs.points.genotype import Gene, Genes, canonical


def without_transfers(genes: Genes, inputs: int = 3) -> Genes:
    """The architecture of a design: all but where it runs."""
    return canonical([gene for gene in genes if gene.op != "communicate"], inputs)


def mappings(genes: Genes, inputs: int = 3) -> list[Genes]:
    """Every legal way of placing an architecture, device-only first; each design once."""
    bare = without_transfers(genes, inputs)
    move = Gene("communicate")
    found = [bare]
    places = range(len(bare) + 1)
    for count in (1, 2):
        for cut in combinations(places, count):
            made = list(bare)
            for place in reversed(cut):
                made.insert(place, move)
            design = canonical(made, inputs)
            if design not in found:
                found.append(design)
    return found
