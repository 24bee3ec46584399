"""Aggregation as a list of row operations in the order of execution, which is run and counted."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import DataError
from cofit.graphs.adjacency import Adjacency
from cofit.graphs.graph import Graph
from cofit.graphs.rows import RowStream

_SOURCE = Path(__file__).with_name("operations.c")
COPY = 2
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Operations:
    """Row operations in the order of execution; numbers from `nodes` on are partial sums.

    Attributes:
        nodes: n.
        to: (L,) row that is changed.
        source: (L,) row that is added.
        sign: (L,) 1 adds, -1 subtracts, 2 copies (the first term of a partial sum).
        partial: number of partial sums.
        ends: where each piece of the list ends, the last one at L.
    """

    nodes: int
    to: Ints
    source: Ints
    sign: NDArray[np.int8]
    partial: int
    ends: Ints

    @property
    def additions(self) -> int:
        """Row additions and subtractions, as `execute` counts them."""
        return int((self.sign != COPY).sum())

    @property
    def piecewise(self) -> Ints:
        """(pieces,) additions of each piece."""
        before = np.concatenate([[0], np.cumsum(self.sign != COPY)])
        return np.diff(before[self.ends], prepend=0)

    def execute(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Run on rows (n, d) of float32 or int32; the sums (n, d) and the additions done.

        Sums of int32 are exact unless they overflow; those of float32 differ from plain ones by
        rounding, since terms are subtracted.

        Raises:
            DataError: another shape or type.
        """
        kinds = {torch.float32: "cofit_execute_float", torch.int32: "cofit_execute_int"}
        if x.dim() != 2 or len(x) != self.nodes or x.dtype not in kinds:
            raise DataError(
                f"rows are {x.dtype} of shape {tuple(x.shape)}; give float32 or int32 of shape "
                f"({self.nodes}, d)"
            )
        rows = np.ascontiguousarray(x.detach().numpy())
        partial = np.empty((self.partial, rows.shape[1]), rows.dtype)
        out = np.zeros_like(rows)
        additions = getattr(_library(), kinds[x.dtype])(
            len(self.to), at(self.to), at(self.source), at(self.sign), self.nodes, rows.shape[1],
            at(rows), at(partial), at(out),
        )  # fmt: skip
        return torch.from_numpy(out), int(additions)

    def stream(self, resident: Ints | None = None) -> RowStream:
        """The feature rows in the order in which they are read."""
        return RowStream(self.source[self.source < self.nodes], resident)

    def __add__(self, other: Operations) -> Operations:
        """One after the other."""

        def moved(numbers: Ints) -> Ints:
            return np.where(numbers < other.nodes, numbers, numbers + self.partial)

        return Operations(
            self.nodes,
            np.concatenate([self.to, moved(other.to)]),
            np.concatenate([self.source, moved(other.source)]),
            np.concatenate([self.sign, other.sign]),
            self.partial + other.partial,
            np.concatenate([self.ends, len(self.to) + other.ends]),
        )


def plain_operations(adjacency: Adjacency) -> Operations:
    """One addition per edge, row by row; one piece."""
    return additions(adjacency.num_dst, adjacency.destinations.numpy(), adjacency.indices.numpy())


def additions(nodes: int, to: Ints, source: Ints) -> Operations:
    """One addition each, in this order; one piece."""
    return Operations(nodes, to, source, np.ones(len(to), np.int8), 0, np.array([len(to)]))


def aggregate_normalised(operations: Operations, graph: Graph, x: torch.Tensor) -> torch.Tensor:
    """D^-1/2 (A + I) D^-1/2 x of float32 rows (n, d), with the operations of A + I.

    Scaling rows before and after leaves a matrix of ones between, whose sums can be shared.
    """
    scale = (graph.in_degree + 1).double().rsqrt().to(x.dtype)[:, None]
    return operations.execute(x * scale)[0] * scale


@functools.cache
def _library() -> ctypes.CDLL:
    # here, so that the ranks of a training start a second sooner
    from cofit.codegen import build, machine
    from cofit.codegen.build import WARNINGS

    text = _SOURCE.read_text(encoding="utf-8")
    flags = (*WARNINGS, "-O3", *machine("host").flags, "-shared", "-fPIC")
    found = ctypes.CDLL(str(build({"operations.c": text}, flags, "operations.so")))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    for function in (found.cofit_execute_float, found.cofit_execute_int):
        function.argtypes = [
            integer, pointer, pointer, pointer, integer, integer, pointer, pointer, pointer,
        ]  # fmt: skip
        function.restype = integer
    return found


def at(array: NDArray[np.generic]) -> int:
    """Address of an array's first element."""
    assert array.flags.c_contiguous
    return array.ctypes.data
