"""Layers as an accelerator sees them: nested loops over eight dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError

Array = NDArray[np.float64]

DIMS = ("N", "G", "K", "C", "Y", "X", "R", "S")
"""Batch, groups, filters and input channels of a group, output rows and columns, kernel."""

N, G, K, C, Y, X, R, S = range(8)

TENSORS = ("weight", "input", "output")
RELEVANT: dict[str, frozenset[int]] = {
    "weight": frozenset((G, K, C, R, S)),
    "input": frozenset((N, G, C, Y, X, R, S)),
    "output": frozenset((N, G, K, Y, X)),
}
"""Dimensions that select an element of each tensor; loops over others use it again."""


@dataclass(frozen=True)
class Layer:
    """A convolution, or a product of matrices.

    Attributes:
        name: of the op.
        n: batch.
        k: filters, of all groups together.
        c: input channels, of all groups together.
        y: output rows.
        x: output columns.
        r: kernel rows.
        s: kernel columns.
        stride: of rows and columns.
        dilation: of rows and columns.
        groups: k and c are split into so many independent parts.
        bits_weight: of a weight.
        bits_input: of an input element.
        bits_output: of a finished output element.
        bits_psum: of an output element that is not finished.
        density_weight: fraction of weights that are not zero.
        density_input: fraction of input elements that are not zero.

    Raises:
        ConfigError: a size is not positive, or groups do not divide the channels.
    """

    name: str = "layer"
    n: int = 1
    k: int = 1
    c: int = 1
    y: int = 1
    x: int = 1
    r: int = 1
    s: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bits_weight: int = 8
    bits_input: int = 8
    bits_output: int = 8
    bits_psum: int = 32
    density_weight: float = 1.0
    density_input: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("density"):
                if not 0 < value <= 1:
                    raise ConfigError(
                        f"layer {self.name!r}: {field.name} is {value}, not in (0, 1]"
                    )
            elif field.name != "name":
                least = min(value) if isinstance(value, tuple) else value
                if least < 1:
                    raise ConfigError(
                        f"layer {self.name!r}: {field.name} is {value}; it must be at least 1"
                    )
        if self.k % self.groups or self.c % self.groups:
            raise ConfigError(
                f"layer {self.name!r}: groups {self.groups} do not divide k {self.k} and c {self.c}"
            )

    @staticmethod
    def gemm(m: int, k: int, n: int, name: str = "gemm") -> Layer:
        """(m, k) @ (k, n): rows are positions, columns are filters."""
        return Layer(name, k=n, c=k, y=m)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Trips of the loops, in the order of `DIMS`."""
        g = self.groups
        return (self.n, g, self.k // g, self.c // g, self.y, self.x, self.r, self.s)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return math.prod(self.sizes)

    @property
    def input_size(self) -> tuple[int, int]:
        """Rows and columns of input in use, padding included, those a stride jumps over not."""
        sides = zip((self.y, self.x), (self.r, self.s), self.stride, self.dilation, strict=True)
        rows, columns = (
            size * kernel
            if stride > (kernel - 1) * step
            else (size - 1) * stride + (kernel - 1) * step + 1
            for size, kernel, stride, step in sides
        )
        return rows, columns

    @property
    def elements(self) -> dict[str, int]:
        """Elements of each tensor."""
        rows, columns = self.input_size
        return {
            "weight": self.k * self.c // self.groups * self.r * self.s,
            "input": self.n * self.c * rows * columns,
            "output": self.n * self.k * self.y * self.x,
        }


@dataclass(frozen=True, eq=False)
class Layers:
    """Layers in columns, one entry per point of a batch (or one for all).

    Attributes:
        sizes: (8, P) trips by dimension.
        stride: (2, P).
        dilation: (2, P).
        bits: by tensor and for "psum", (P,) each.
        density: of "weight" and "input", (P,) each.
    """

    sizes: Array
    stride: Array
    dilation: Array
    bits: dict[str, Array]
    density: dict[str, Array]

    @staticmethod
    def of(layers: Sequence[Layer]) -> Layers:
        """Columns of some layers."""

        def column(name: str) -> Array:
            return np.array([getattr(layer, name) for layer in layers], float)

        kinds = (*TENSORS, "psum")
        return Layers(
            np.array([layer.sizes for layer in layers], float).T.copy(),
            column("stride").T.copy(),
            column("dilation").T.copy(),
            {kind: column(f"bits_{kind}") for kind in kinds},
            {kind: column(f"density_{kind}") for kind in ("weight", "input")}
            | {"output": np.ones(len(layers))},
        )

    def at(self, index: NDArray[np.intp] | slice) -> Layers:
        """The layers of some points."""
        return Layers(
            self.sizes[:, index],
            self.stride[:, index],
            self.dilation[:, index],
            {name: column[index] for name, column in self.bits.items()},
            {name: column[index] for name, column in self.density.items()},
        )

    @property
    def macs(self) -> Array:
        """Multiply-accumulates (P,)."""
        macs: Array = np.multiply.reduce(self.sizes)
        return macs
