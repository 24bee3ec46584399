"""Weights on a symmetric integer grid with one scale per output channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from cofit.core import StructureError
from cofit.structures.contract import Array, Encoding, Violation
from cofit.structures.formats import Layout, dense, grid
from cofit.structures.support import member_elements, require, require_finite, unsuited_rank

_SCALE_BITS = 16
_LEAST_SCALE = 2.0**-110


@dataclass(frozen=True)
class FixedPoint:
    """Weights `scale[k] * q` with q in -127..127 (8 bits) or -7..7 (4 bits).

    The scale of a channel is its largest magnitude over 127 (or 7), rounded up to 16 significant
    bits. Every `scale * q` is then an exact float32, so projection is idempotent to the bit and a
    stored weight decodes to itself. Members of int8 elements are the q themselves.
    """

    bits: int

    approximation = "nearest point of the grid that spans each channel's largest weight"

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise StructureError(f"int{self.bits}: fixed point has 8 or 4 bits")

    @property
    def text(self) -> str:
        """Either "int8" or "int4"."""
        return f"int{self.bits}"

    @property
    def rate(self) -> float:
        """1: nothing is removed."""
        return 1.0

    @property
    def largest(self) -> int:
        """Largest q."""
        return (1 << (self.bits - 1)) - 1

    def applies(self, shape: tuple[int, ...]) -> str | None:
        """None for any convolution or linear weight."""
        return unsuited_rank(shape)

    def scale(self, weight: torch.Tensor) -> torch.Tensor:
        """Scale (K,) of each output channel, float64; 1 where a channel is all zero."""
        top = weight.detach().double().abs().flatten(1).amax(1)
        mantissa, exponent = torch.frexp(top / self.largest)
        rounded = torch.ldexp((mantissa * 2**_SCALE_BITS).ceil(), exponent - _SCALE_BITS)
        return torch.where(top > 0, rounded.clamp(min=_LEAST_SCALE), torch.ones_like(top))

    def levels(self, weight: torch.Tensor) -> torch.Tensor:
        """Nearest q of each weight, float64, shape of `weight`; halves go to even."""
        scale = self.scale(weight).reshape(-1, *[1] * (weight.ndim - 1))
        return (weight.detach().double() / scale).round()

    def mask(self, weight: torch.Tensor) -> torch.Tensor:
        """Everything stays trainable."""
        return torch.ones_like(weight, dtype=torch.bool)

    def within(self, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The weight itself: between two roundings values move freely."""
        return weight

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest point of the grid that spans each channel's largest weight.

        Raises:
            StructureError: elements are not float32 or float64, or not finite.
        """
        require(self, tuple(weight.shape))
        if weight.dtype not in (torch.float32, torch.float64):
            raise StructureError(
                f"{self.text} grids need float32 or float64 weights, not {weight.dtype}"
            )
        require_finite(weight)
        scale = self.scale(weight).reshape(-1, *[1] * (weight.ndim - 1))
        return (self.levels(weight) * scale + 0.0).to(weight.dtype)

    def check(self, weight: torch.Tensor) -> Violation | None:
        """None if every weight lies on its channel's grid (int8 elements: within its range)."""
        require(self, tuple(weight.shape))
        if weight.dtype == torch.int8:
            off = (weight > self.largest) | (weight < -self.largest)
            reason = f"outside -{self.largest}..{self.largest}"
        else:
            off = weight != self.project(weight)
            reason = f"not on the {self.text} grid of its channel"
        wrong = off.nonzero()
        if len(wrong) == 0:
            return None
        where = tuple(wrong[0].tolist())
        return Violation(where, f"{weight[where].item():g} is {reason}")

    def encode(self, weight: Array) -> Encoding:
        """The stored form: int8 elements as they are, float32 as levels and scale.

        Raises:
            StructureError: the weight is off the grid, or of another element type.
        """
        return self.store(member_elements(self, weight), dense.encode)

    def store(self, weight: Array, inner: Callable[[Array], Encoding]) -> Encoding:
        """Encode the levels of a member with `inner`, then pack them and add the scale."""
        if weight.dtype == np.int8:
            return grid.wrap(inner(weight), self.bits, None)
        tensor = torch.from_numpy(weight)
        levels: Array = self.levels(tensor).to(torch.int8).numpy()
        scale = self.scale(tensor).to(torch.float32).numpy()
        return grid.wrap(inner(levels), self.bits, scale)

    def nbytes(self, shape: tuple[int, ...], element_bytes: int) -> int:
        """Bytes of the stored form; float32 (4-byte) elements also store 4 bytes per channel."""
        require(self, shape)
        return self.stored_bytes(dense.layout(shape), shape[0], element_bytes)

    def stored_bytes(self, layout: Layout, channels: int, element_bytes: int) -> int:
        """Bytes of a layout whose values are on this grid."""
        packed = layout.packed_bytes() if self.bits == 4 else layout.nbytes(1)
        return packed + (4 * channels if element_bytes > 1 else 0)
