"""How the threads of a program share one step: contiguous ranges of rows or of blocks of outputs.

Every output is computed by one thread, in the order one thread alone would take, so the shares do
not change a bit of the result. The ranges are constants of the generated code; a step below
`LEAST_CYCLES` stays with the calling thread, for which the others then wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.machine import Machine

LEAST_CYCLES = 20_000  # some 8 us; meeting the other threads takes one or two
BYTES_PER_CYCLE = 16.0  # of weights or inputs that more than one thread reads
COPIES = 2  # times that inputs are touched to be laid out anew


@dataclass(frozen=True)
class Shares:
    """Share i has the items [bounds[i], bounds[i + 1]) of its axis.

    Attributes:
        axis: what is shared out: output rows, or blocks of output channels.
        bounds: ascending, from 0 to the number of items.
    """

    axis: Literal["rows", "outputs"]
    bounds: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of shares."""
        return len(self.bounds) - 1

    @property
    def largest(self) -> int:
        """Most items of a share."""
        return max(np.diff(self.bounds).tolist())

    @property
    def declaration(self) -> str:
        """C of `begin` and `end`, the range of the share at hand."""
        listed = ", ".join(map(str, self.bounds))
        return (
            f"static const int32_t bounds[] = {{{listed}}};\n"
            "const int32_t begin = bounds[share], end = bounds[share + 1];"
        )


def balanced(costs: Sequence[float], parts: int) -> tuple[int, ...]:
    """Bounds of at most `parts` contiguous non-empty ranges of near-equal cost.

    Each bound is the prefix sum nearest to its ideal, so no range costs more than the ideal and the
    largest item together.
    """
    ends = np.concatenate([[0.0], np.cumsum(np.asarray(costs, np.float64))])
    ideal = ends[-1] * np.arange(1, parts) / parts
    after = np.clip(np.searchsorted(ends, ideal), 1, len(costs))
    nearest = after - (ideal - ends[after - 1] < ends[after] - ideal)
    return tuple(np.unique([0, *nearest, len(costs)]).tolist())


def share_rows(machine: Machine, rows: int, cycles: float) -> Shares | None:
    """Equal ranges of rows; None where one thread does."""
    if machine.threads == 1 or cycles < LEAST_CYCLES or rows < 2:
        return None
    return Shares("rows", balanced([1.0] * rows, machine.threads))


def share_outputs(machine: Machine, costs: Sequence[float], cycles: float) -> Shares | None:
    """Ranges of blocks of near-equal cost; None where one thread does."""
    if machine.threads == 1 or cycles < LEAST_CYCLES or len(costs) < 2:
        return None
    return Shares("outputs", balanced(costs, machine.threads))


def share_layer(
    machine: Machine,
    cycles: float,
    rows: int,
    costs: Sequence[float],
    weight_bytes: float,
    input_bytes: float,
) -> Shares | None:
    """The axis whose largest share takes least time; None where one thread does.

    Args:
        machine: gives the number of threads.
        cycles: of the layer on one thread.
        rows: output rows.
        costs: of each block of outputs; fewer than two where they cannot be shared.
        weight_bytes: all of which each thread reads if rows are shared.
        input_bytes: all of which each thread lays out if outputs are shared.
    """
    weights, inputs = weight_bytes / BYTES_PER_CYCLE, COPIES * input_bytes / BYTES_PER_CYCLE
    found = [
        (time(shares, [1.0] * rows, cycles) + weights, shares)
        for shares in [share_rows(machine, rows, cycles)]
        if shares is not None
    ] + [
        (time(shares, costs, cycles) + inputs, shares)
        for shares in [share_outputs(machine, costs, cycles)]
        if shares is not None
    ]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def time(shares: Shares, costs: Sequence[float], cycles: float) -> float:
    """Cycles of the largest share, of a step of so many."""
    ends = np.concatenate([[0.0], np.cumsum(costs)])[list(shares.bounds)]
    return cycles * float(np.diff(ends).max() / max(ends[-1], 1e-9))


def range_of(shares: Shares | None, axis: str, size: object) -> tuple[str, str]:
    """C of the first and the end of an axis of `size` items: those of the share, or all."""
    if shares is None or shares.axis != axis:
        return "0", str(size)
    return "begin", "end"


def count_text(shares: Shares | None, size: int) -> str:
    """C of the number of items of a share, of `size`."""
    return str(size) if shares is None else "end - begin"


def moved(name: str, shares: Shares | None, pitch: int) -> str:
    """C of a pointer to the first item of a share; items lie `pitch` elements apart."""
    if shares is None:
        return name
    return f"{name} + begin" if pitch == 1 else f"{name} + begin * {pitch}"


def filled_range(
    shares: Shares | None, kept: NDArray[np.integer], height: int, outputs: int
) -> tuple[str, str, str]:
    """C of a declaration, the first and the end of the outputs that a share may fill.

    Args:
        shares: of blocks of kept outputs, of rows, or None.
        kept: ascending outputs.
        height: kept outputs of a block.
        outputs: all of them.
    """
    if shares is None or shares.axis == "rows":
        return "", "0", str(outputs)
    inner = (str(kept[bound * height]) for bound in shares.bounds[1:-1])
    listed = ", ".join(("0", *inner, str(outputs)))
    declaration = f"static const int32_t filled[] = {{{listed}}};"
    return declaration, "filled[share]", "filled[share + 1]"


def declared(shares: Shares | None, body: str) -> str:
    """`body` behind the declaration of its range."""
    return body if shares is None else f"{shares.declaration}\n{body}"


def count_of(shares: Shares | None) -> int:
    """Shares of a step; one where nothing is shared."""
    return 1 if shares is None else shares.count
