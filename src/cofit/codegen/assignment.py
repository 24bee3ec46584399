"""Which activations lie in planes of channels, for the least bytes that are moved to turn them.

Every tensor lies in one way, and every step says what it allows: most read and write NHWC only,
some work in either way but in the same on both sides, and some turn what does not lie as they want.
So tensors that must lie alike form groups, and the bytes of a group do not depend on how another
one lies: the least over the graph is that of each group.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cofit.codegen.layout import PlaneLayout

TURN, COPY = 2, 1
"""Times that a byte is moved: turned into planes or back; copied from planes to padded ones."""


@dataclass(frozen=True)
class Meeting:
    """What one step asks of the layouts of its activations.

    Attributes:
        reads: its inputs.
        writes: its output.
        turns: whether it works on planes, and turns or copies its first input, and turns its
            output; other inputs lie as the output.
        free: whether it works in either way, the same for all.
        target: how its output would lie in planes; None where it cannot.
    """

    reads: tuple[str, ...]
    writes: str
    turns: bool = False
    free: bool = False
    target: PlaneLayout | None = None

    @property
    def alike(self) -> tuple[str, ...]:
        """Tensors that must lie in the same way."""
        return (*self.reads[1:], self.writes) if self.turns else (*self.reads, self.writes)


@dataclass(frozen=True)
class Problem:
    """A graph as `assign_planes` sees it.

    Attributes:
        sizes: bytes by tensor.
        outside: tensors that the caller writes or reads, in NHWC.
        steps: what is executed.
    """

    sizes: Mapping[str, int]
    outside: Collection[str]
    steps: Sequence[Meeting]

    def allows(self, planes: Collection[str]) -> bool:
        """Whether these tensors can lie in planes, and all others in NHWC."""
        written = {step.writes: step.target for step in self.steps}
        if any(name in self.outside or written.get(name) is None for name in planes):
            return False
        for step in self.steps:
            ways = {name in planes for name in step.alike}
            if len(ways) > 1 or (True in ways and not (step.turns or step.free)):
                return False
            # an addition sees both of its operands at the same place
            if step.turns and True in ways and {written[n] for n in step.alike} != {step.target}:
                return False
        return True

    def moved(self, planes: Collection[str]) -> int:
        """Bytes that steps move only to lay tensors out."""
        total = 0
        for step in self.steps:
            if step.turns:
                first, last = step.reads[0], step.writes
                total += self.sizes[first] * (COPY if first in planes else TURN)
                total += 0 if last in planes else self.sizes[last] * TURN
        return total


def assign_planes(problem: Problem) -> frozenset[str]:
    """The tensors that lie in planes: allowed, of least bytes, and as few as that takes."""
    found: frozenset[str] = frozenset()
    for group in _groups(problem):
        if problem.allows(group) and problem.moved(group) < problem.moved(()):
            found |= group
    return found


def _groups(problem: Problem) -> list[frozenset[str]]:
    """Tensors that must lie alike, with what they must lie as."""
    group = {name: {name} for name in problem.sizes}
    for step in problem.steps:
        first, *others = step.alike
        for name in others:
            if group[name] is not group[first]:
                group[first] |= group[name]
                for each in group[name]:
                    group[each] = group[first]
    return list({id(members): frozenset(members) for members in group.values()}.values())
