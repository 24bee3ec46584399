"""What merging each block of a network saves, measured; blocks that only lose are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from cofit.codegen import compile as compile_program
from cofit.core import Cost
from cofit.ir import Graph, macs, merge, without_activations
from cofit.targets import HostTarget


@dataclass(frozen=True)
class Gain:
    """A block before and after its merge.

    Attributes:
        before_s: time of its ops inside the whole program.
        after_s: time of what it becomes, inside the program in which all are merged.
        before_macs: multiply-accumulates of one inference.
        after_macs: those when merged.
    """

    before_s: float
    after_s: float
    before_macs: int
    after_macs: int

    @property
    def worthwhile(self) -> bool:
        """False if it costs more in multiply-accumulates and in time."""
        return self.after_macs < self.before_macs or self.after_s < self.before_s


def all_linear(graph: Graph, blocks: Iterable[str]) -> Graph:
    """The graph with the blocks' inner activations gone, not merged."""
    return reduce(without_activations, blocks, graph)


def all_merged(graph: Graph, blocks: Iterable[str]) -> Graph:
    """The graph with the blocks' inner activations gone and each block one convolution."""
    chosen = tuple(blocks)
    return reduce(merge, chosen, all_linear(graph, chosen))


def gains(graph: Graph, blocks: Iterable[str]) -> dict[str, Gain]:
    """Time every block in the program of the graph and in that of the merged one, in turn.

    Raises:
        ModelError: a block cannot be merged, naming it.
    """
    chosen = tuple(blocks)
    merged = all_merged(graph, chosen)
    programs = [compile_program(each, "host") for each in (graph, merged)]
    before, after = HostTarget().compare(programs)
    return {
        block: Gain(
            _seconds(before, block), _seconds(after, block),
            _macs(graph, block), _macs(merged, block),
        )
        for block in chosen
    }  # fmt: skip


def refused(found: Mapping[str, Gain]) -> dict[str, str]:
    """Why blocks are not offered for merging, by block."""
    return {
        block: (
            f"block {block!r} would take {gain.after_macs / gain.before_macs:.2f} times the "
            f"multiply-accumulates and {gain.after_s / gain.before_s:.2f} times the time"
        )
        for block, gain in found.items()
        if not gain.worthwhile
    }


def _seconds(cost: Cost, block: str) -> float:
    return sum(row.latency_s for row in cost.rows if row.op.startswith(f"{block}."))


def _macs(graph: Graph, block: str) -> int:
    return sum(macs(graph, op) for op in graph.ops if op.output.startswith(f"{block}."))
