"""The spaces of the two stages: functions shared by halves, then types of operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from cofit.graphs.points import MESSAGES, REDUCERS, Gene, Genes, canonical, widths
from cofit.search import Candidate, Decision, Space

IDENTITY = Gene("connect", "identity")
SAMPLE = Gene("sample", "knn")


@dataclass(frozen=True)
class Limits:
    """Bounds of all designs.

    Attributes:
        positions: operations of a design; a graph of the input and a pool come on top.
        combine: widths of combines.
        widest: most features of a point.
    """

    positions: int = 12
    combine: tuple[int, ...] = (8, 16, 32, 64)
    widest: int = 256

    @property
    def length(self) -> int:
        """Most operations of a canonical design."""
        return self.positions + 2


@dataclass(frozen=True)
class Functions:
    """The attributes that all operations of one half of the positions share."""

    combine: int
    message: str
    reducer: str
    connect: str

    def genes(self) -> tuple[Gene, ...]:
        """Those of each type; an idle one besides where connecting means a skip."""
        skip = () if self.connect == "identity" else (Gene("connect", self.connect),)
        aggregate = Gene("aggregate", f"{self.message}/{self.reducer}")
        return (IDENTITY, *skip, Gene("combine", str(self.combine)), aggregate, SAMPLE)


def aggregates() -> tuple[Gene, ...]:
    """All that use the graph; a message that is the target alone does not."""
    return tuple(
        Gene("aggregate", f"{message}/{reducer}")
        for message in MESSAGES if message != "target" for reducer in REDUCERS
    )  # fmt: skip


def full_space(limits: Limits) -> Space:
    """Every operation with every attribute at every position."""
    combines = tuple(Gene("combine", str(width)) for width in limits.combine)
    options = (IDENTITY, Gene("connect", "skip"), *combines, *aggregates(), SAMPLE)
    return design_space([options] * limits.positions, limits)


def type_space(upper: Functions, lower: Functions, limits: Limits) -> Space:
    """Types of operations only, their attributes given by the halves."""
    half = limits.positions // 2
    return design_space(
        [upper.genes()] * half + [lower.genes()] * (limits.positions - half), limits
    )


def function_space(limits: Limits) -> Space:
    """The settings of both halves."""
    messages = tuple(message for message in MESSAGES if message != "target")
    return Space(
        [
            Decision(f"{half} {name}", options)
            for half in ("upper", "lower")
            for name, options in (
                ("combine", limits.combine), ("message", messages), ("reducer", REDUCERS),
                ("connect", ("identity", "skip")),
            )
        ]
    )  # fmt: skip


def functions_of(space: Space, candidate: Candidate) -> tuple[Functions, Functions]:
    """Upper and lower settings of a candidate of `function_space`."""
    chosen = list(space.values(candidate).values())
    upper, lower = (Functions(*half) for half in (chosen[:4], chosen[4:]))  # type: ignore[arg-type]
    return upper, lower


def design_space(options: Sequence[Sequence[Gene]], limits: Limits) -> Space:
    """Designs within the widest features that aggregate over a graph at least once.

    Args:
        options: of each position; each holds an identity, a kNN and an aggregate that uses it.
        limits: bounds.
    """
    rows = [tuple(row) for row in options]

    def genes(candidate: Candidate) -> Genes:
        return tuple(rows[i][choice] for i, choice in enumerate(candidate))

    def allowed(prefix: Candidate) -> list[bool]:
        made, following = genes(prefix), rows[len(prefix)]
        d = widths(made)[-1]
        fits = [gene.width(d) <= limits.widest for gene in following]
        if any(gene.uses_graph for gene in made):
            return fits
        if len(prefix) == len(rows) - 1:
            return [f and gene.uses_graph for f, gene in zip(fits, following, strict=True)]
        return fits  # no aggregate yet, so that features are narrow and one will fit

    def shortest(candidate: Candidate) -> Candidate:
        body = canonical(genes(candidate))[:-1]
        if body[0] == SAMPLE and canonical(body[1:])[:-1] == body:
            body = body[1:]
        return _placed(body, rows)

    decisions = [Decision(f"position {i}", row) for i, row in enumerate(rows)]
    return Space(decisions, allowed, shortest)


def _placed(body: Genes, rows: Sequence[tuple[Gene, ...]]) -> Candidate:
    """Each operation at the first position that offers it, idle ones in between."""
    made: list[int] = []
    for gene in body:
        while gene not in rows[len(made)]:
            made.append(rows[len(made)].index(IDENTITY))
        made.append(rows[len(made)].index(gene))
    return (*made, *(row.index(IDENTITY) for row in rows[len(made) :]))


def genes_of(space: Space, candidate: Candidate) -> Genes:
    """The canonical design of a candidate."""
    return canonical(cast(Genes, tuple(space.values(candidate).values())))


def magnitudes(limits: Limits, types: Space) -> dict[str, float]:
    """Sizes of the spaces as powers of ten: all, settings of both halves, types."""
    spaces = {"all": full_space(limits), "functions": function_space(limits), "types": types}
    return {name: math.log10(space.size) for name, space in spaces.items()}
