"""The joint space of GCoDE: operations, their attributes, and where the network is cut."""

from __future__ import annotations

from collections.abc import Sequence

from cofit.graphs.points import POOLS, Gene, Genes, Op, canonical, widths
from cofit.search import Candidate, Decision, Space

MESSAGES = ("full", "source", "target|relative", "relative")
REDUCERS = ("max", "mean", "add")
"""The published ones; see `decode`."""
OPS: tuple[Op, ...] = ("connect", "combine", "aggregate", "sample", "pool", "communicate")
IDENTITY = Gene("connect", "identity")


class DesignSpace(Space):
    """Two decisions per position, the operation and its attribute, masked to designs that work.

    Nothing aggregates before a graph is built; pooling comes once, after an aggregate; after it
    only combines and transfers follow; there are at most two transfers, not next to each other;
    features of points are never wider than `widest`.

    Args:
        positions: operations of a design, pooling and transfers included.
        combines: output widths that a combine may have.
        widest: of the features of a point.
        transfers: allow `communicate`.
        inputs: width of a point.
    """

    def __init__(
        self,
        positions: int = 12,
        combines: Sequence[int] = (8, 16, 32, 64, 128, 256, 512),
        widest: int = 512,
        transfers: bool = True,
        inputs: int = 3,
    ) -> None:
        self.positions, self._widest, self._inputs = positions, widest, inputs
        self._most_moves = 2 if transfers else 0
        aggregates = tuple(f"{m}/{r}" for m in MESSAGES for r in REDUCERS)
        self.options: dict[Op, tuple[str, ...]] = {
            "connect": ("identity",), "combine": tuple(map(str, combines)),
            "aggregate": aggregates, "sample": ("knn",), "pool": POOLS, "communicate": ("",),
        }  # fmt: skip
        most = max(map(len, self.options.values()))
        decisions = []
        for place in range(positions):
            decisions.append(Decision(f"operation {place}", OPS))
            decisions.append(Decision(f"attribute {place}", tuple(range(most))))
        super().__init__(decisions, self._mask, self._representative)

    def genes(self, candidate: Candidate) -> Genes:
        """The canonical design of a candidate."""
        return canonical(self._spelled(candidate), self._inputs)

    def candidate(self, genes: Genes) -> Candidate:
        """The candidate of a design of this space, filled up with identities."""
        padded = [*genes, *[IDENTITY] * (self.positions - len(genes))]
        pairs = [(OPS.index(g.op), self.options[g.op].index(g.attribute)) for g in padded]
        return tuple(number for pair in pairs for number in pair)

    def _spelled(self, candidate: Candidate) -> list[Gene]:
        pairs = zip(candidate[::2], candidate[1::2], strict=False)
        return [Gene(OPS[op], self.options[OPS[op]][attribute]) for op, attribute in pairs]

    def _representative(self, candidate: Candidate) -> Candidate:
        return self.candidate(self.genes(candidate))

    def _mask(self, prefix: Candidate) -> list[bool]:
        if len(prefix) % 2:
            return self._attributes(prefix)
        made = self._spelled(prefix)
        ops = [gene.op for gene in made]
        pooled, aggregated = "pool" in ops, "aggregate" in ops
        d, left = widths(made, self._inputs)[-1], self.positions - len(made)
        graph = "sample" in ops
        needed = (not graph) + (not aggregated) + (not pooled)  # operations that must still come
        effective = [op for op in ops if op != "connect"]
        free = left > needed
        allowed: dict[Op, bool] = {
            "connect": free,
            "combine": free,
            "sample": not pooled and (free or not graph),
            "aggregate": not pooled and graph and d <= self._widest and (free or not aggregated),
            "pool": aggregated and not pooled,
            "communicate": free
            and ops.count("communicate") < self._most_moves
            and (not effective or effective[-1] != "communicate"),
        }
        return [allowed[op] for op in OPS]

    def _attributes(self, prefix: Candidate) -> list[bool]:
        op = OPS[prefix[-1]]
        options = self.options[op]
        mask = [True] * len(options)
        if op == "aggregate":
            d = widths(self._spelled(prefix[:-1]), self._inputs)[-1]
            mask = [Gene(op, attribute).width(d) <= self._widest for attribute in options]
        most = len(self.decisions[1].options)
        return mask + [False] * (most - len(mask))
