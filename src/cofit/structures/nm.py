"""N:M sparsity: N of each M consecutive weights of an output channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch.nn.functional import pad

from cofit.core import StructureError
from cofit.structures.contract import Array, Encoding, Violation
from cofit.structures.counting import keep_largest
from cofit.structures.formats import Layout, nm
from cofit.structures.support import Support


@dataclass(frozen=True)
class NM(Support):
    """At most `n` of each `m` consecutive weights; consecutive means (c, r, s) in row-major order.

    A last group shorter than `m` keeps `n` too, or all it has.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m <= 256:
            raise StructureError(
                f"nm{self.n}:{self.m}: needs 1 <= N <= M <= 256, for example nm2:4"
            )

    @property
    def text(self) -> str:
        """For example "nm2:4"."""
        return f"nm{self.n}:{self.m}"

    @property
    def rate(self) -> float:
        """M / N."""
        return self.m / self.n

    def fitted(self, weight: torch.Tensor) -> tuple[Self, int] | None:
        """Itself if no group holds more than N, and the elements it keeps."""
        if self.check(weight) is not None:
            return None
        groups, rest = divmod(weight[0].numel(), self.m)
        return self, len(weight) * (groups * self.n + min(self.n, rest))

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Bytes of lanes and values."""
        return nm.layout(shape, self.n, self.m)

    def encode_elements(self, weight: Array) -> Encoding:
        """Store lanes and values."""
        return nm.encode(weight, self.n, self.m)

    def _unsuited(self, shape: tuple[int, int, int, int]) -> str | None:
        length = math.prod(shape[1:])
        if length < self.m:
            return f"an output channel has {length} weights, a group {self.m}"
        return None

    def _groups(self, values: torch.Tensor, fill: float) -> torch.Tensor:
        rows = values.reshape(len(values), -1)
        return pad(rows, (0, -rows.shape[1] % self.m), value=fill).reshape(len(rows), -1, self.m)

    def _mask(self, weight: torch.Tensor) -> torch.Tensor:
        # -1: virtual padding loses even against zeros
        marks = keep_largest(self._groups(weight.double().abs(), fill=-1.0), self.n)
        return marks.reshape(len(weight), -1)[:, : weight[0].numel()].reshape(weight.shape)

    def _violation(self, nonzero: torch.Tensor) -> Violation | None:
        counts = self._groups(nonzero.float(), fill=0.0).sum(-1)
        over = (counts > self.n).nonzero()
        if len(over) == 0:
            return None
        k, group = over[0].tolist()
        first = torch.unravel_index(torch.tensor(group * self.m), nonzero.shape[1:])
        return Violation(
            (k, *map(int, first)),
            f"{int(counts[k, group])} of {self.m} are not zero, {self.n} are allowed",
        )
