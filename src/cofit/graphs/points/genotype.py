"""Networks on point clouds as sequences of operations: vocabulary, widths, canonical form.

Source: A. Zhou et al., "Hardware-Aware Graph Neural Network Automated Design for Edge Computing
Platforms" (HGNAS), DAC 2023, arXiv 2303.10875, and "Graph Neural Networks Automated Design and
Deployment on Device-Edge Co-Inference Systems" (GCoDE), DAC 2024, arXiv 2404.05605; the numbering
of `decode` is that of the latter's released predictor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cofit.core import ConfigError, UnknownNameError

Op: TypeAlias = Literal["connect", "combine", "aggregate", "sample", "pool", "communicate"]

MESSAGES: Mapping[str, tuple[str, ...]] = {
    "full": ("source", "target", "relative", "distance"),
    "source": ("source",),
    "target|relative": ("target", "relative"),
    "relative": ("relative",),
    "target": ("target",),
    "distance": ("distance",),
    "source|relative": ("source", "relative"),
}
"""Parts of a message from source j to target i: x_j, x_i, x_j - x_i and |x_j - x_i|."""
REDUCERS = ("max", "mean", "add", "min")
WIDTHS = (8, 16, 32, 64, 128, 256, 512)
POOLS = ("max", "mean", "add", "max|mean", "max|add", "mean|add")

ATTRIBUTES: Mapping[Op, tuple[str, ...]] = {
    "connect": ("identity", "skip"),
    "combine": tuple(map(str, WIDTHS)),
    "aggregate": tuple(f"{message}/{reducer}" for message in MESSAGES for reducer in REDUCERS),
    "sample": ("knn", "random"),
    "pool": POOLS,
    "communicate": ("",),
}
"""What each operation may be; "" where there is nothing to choose."""

_PUBLISHED: tuple[Op, ...] = ("connect", "combine", "aggregate", "sample", "pool", "communicate")


@dataclass(frozen=True)
class Gene:
    """One operation with its attribute; `str()` gives for example "aggregate:full/max".

    Raises:
        UnknownNameError: there is no such operation, or it has no such attribute.
    """

    op: Op
    attribute: str = ""

    def __post_init__(self) -> None:
        if self.op not in ATTRIBUTES:
            raise UnknownNameError("operation", self.op, ATTRIBUTES)
        if self.attribute not in ATTRIBUTES[self.op]:
            raise UnknownNameError(f"{self.op} attribute", self.attribute, ATTRIBUTES[self.op])

    def __str__(self) -> str:
        return f"{self.op}:{self.attribute}" if self.attribute else self.op

    @property
    def message(self) -> tuple[str, ...]:
        """Parts of an aggregate's message, in order."""
        return MESSAGES[self.attribute.partition("/")[0]]

    @property
    def reducer(self) -> str:
        """How an aggregate reduces the messages to a point."""
        return self.attribute.partition("/")[2]

    @property
    def pools(self) -> tuple[str, ...]:
        """Reductions of a pool, side by side."""
        return tuple(self.attribute.split("|"))

    @property
    def uses_graph(self) -> bool:
        """Whether the neighbours decide the result."""
        return self.op == "aggregate" and self.message != ("target",)

    @property
    def moves_nothing(self) -> bool:
        """Whether the features leave as they came, whatever stands around."""
        alone = self.op == "aggregate" and self.message == ("target",) and self.reducer != "add"
        return alone or (self.op == "connect" and self.attribute == "identity")

    def width(self, d: int) -> int:
        """Width of the output for inputs of width `d`."""
        if self.op == "combine":
            return int(self.attribute)
        if self.op == "aggregate":
            return message_width(self.message, d)
        return d * len(self.pools) if self.op == "pool" else d


Genes: TypeAlias = tuple[Gene, ...]
"""A network but for its classifier: operations in the order of their execution."""


def message_width(parts: Sequence[str], d: int) -> int:
    """Width of a message of features of width `d`; a distance takes one."""
    return sum(1 if part == "distance" else d for part in parts)


def widths(genes: Sequence[Gene], inputs: int = 3) -> tuple[int, ...]:
    """Width before the first operation and after each; after pooling only combines change it."""
    found, pooled = [inputs], False
    for gene in genes:
        dead = pooled and gene.op in ("aggregate", "pool")
        found.append(found[-1] if dead else gene.width(found[-1]))
        pooled |= gene.op == "pool"
    return tuple(found)


def parse(text: str) -> Genes:
    """Operations of a text such as "sample:knn aggregate:relative/max combine:64".

    Raises:
        UnknownNameError: see `Gene`.
    """
    pairs = (word.partition(":") for word in text.split())
    return tuple(Gene(op, attribute) for op, _, attribute in pairs)  # type: ignore[arg-type]


def spell(genes: Sequence[Gene]) -> str:
    """The text that `parse` reads."""
    return " ".join(map(str, genes))


def decode(ops: Sequence[int], attributes: Sequence[int]) -> Genes:
    """Operations from GCoDE's published numbers: one operation and one attribute per position.

    Raises:
        ConfigError: a number is not in the published tables, or the two differ in length.
    """
    if len(ops) != len(attributes):
        raise ConfigError(f"{len(ops)} operations, {len(attributes)} attributes; give one each")
    return tuple(_decoded(op, attribute) for op, attribute in zip(ops, attributes, strict=True))


def _decoded(op: int, attribute: int) -> Gene:
    if not 0 <= op < len(_PUBLISHED):
        raise ConfigError(f"operation {op}; give 0 to {len(_PUBLISHED) - 1}")
    name = _PUBLISHED[op]
    known = {"aggregate": _published_aggregates(), "sample": ("knn",), "connect": ("identity",)}
    options = known.get(name, ATTRIBUTES[name])
    if len(options) == 1:  # the published lines carry any number where nothing is to choose
        return Gene(name, options[0])
    if not 0 <= attribute < len(options):
        raise ConfigError(f"attribute {attribute} of {name}; give 0 to {len(options) - 1}")
    return Gene(name, options[attribute])


def _published_aggregates() -> tuple[str, ...]:
    messages, reducers = tuple(MESSAGES)[:4], REDUCERS[:3]
    return tuple(f"{message}/{reducer}" for message in messages for reducer in reducers)


def canonical(genes: Sequence[Gene], inputs: int = 3) -> Genes:
    """The one spelling of all sequences that compute the same: nothing in it is without effect.

    Identities, operations on points after pooling, graphs that no aggregate uses and pairs of
    adjacent transfers go. An aggregate before any graph gets one of the input's points, and a
    sequence that does not pool is pooled by max|mean. Applied twice it gives the same.
    """
    kept = _used_samples(_live(genes, inputs))
    before = kept[: next((i for i, gene in enumerate(kept) if gene.uses_graph), 0)]
    if any(gene.uses_graph for gene in kept) and not any(g.op == "sample" for g in before):
        kept = [Gene("sample", "knn"), *kept]
    if not any(gene.op == "pool" for gene in kept):
        kept = [*kept, Gene("pool", "max|mean")]
    return tuple(_without_returns(kept))


def _live(genes: Sequence[Gene], inputs: int) -> list[Gene]:
    """Without what moves nothing: before pooling, and points' operations after it."""
    kept: list[Gene] = []
    d, previous, pooled = inputs, 0, False  # previous: width before the last change of features
    for gene in genes:
        over = pooled and gene.op in ("aggregate", "sample", "pool")
        alone = gene == Gene("connect", "skip") and previous != d
        if over or alone or gene.moves_nothing:
            continue
        kept.append(gene)
        if gene.op in ("sample", "communicate"):
            continue
        pooled |= gene.op == "pool"
        previous, d = (0 if gene.op == "pool" else d), gene.width(d)
    return kept


def _used_samples(genes: list[Gene]) -> list[Gene]:
    """Without graphs that are replaced before an aggregate uses them, or never used."""
    kept: list[Gene] = []
    needed = False
    for gene in reversed(genes):
        if gene.op == "sample" and not needed:
            continue
        needed = gene.uses_graph or (needed and gene.op != "sample")
        kept.append(gene)
    return kept[::-1]


def _without_returns(genes: list[Gene]) -> list[Gene]:
    """Without transfers that are followed by the transfer back."""
    kept: list[Gene] = []
    for gene in genes:
        if gene.op == "communicate" and kept and kept[-1].op == "communicate":
            kept.pop()
        else:
            kept.append(gene)
    return kept
