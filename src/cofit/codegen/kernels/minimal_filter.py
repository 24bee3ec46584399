"""Minimal filtering over the rationals: outputs of a short kernel with fewer products than taps.

`size` outputs of a kernel of `taps` weights take `size + taps - 1` products of transformed inputs
and weights (Winograd, Arithmetic Complexity of Computations, 1980); over an image both directions
are transformed alike (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016).
The matrices are those of Toom and Cook: polynomials are multiplied at so many points, and taken
back by Lagrange's formula.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cofit.codegen.bounds import EPSILON, TINY

POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-1/2", "-2", "1/2")))
"""Next is always a point whose powers are small, of the other sign than the last of its size.

Sums of magnitudes in F(4x4, 3x3) then grow 97-fold over those of a direct convolution, and 256-fold
were 2 followed by -2.
"""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class MinimalFilter:
    """F(size, taps) at the first `size + taps - 2` points and at infinity.

    For taps g and inputs d, `outputs @ ((weights @ g) * (inputs @ d))` is the correlation
    y[i] = sum of g[j] d[i + j] over j.

    Attributes:
        size: outputs of a tile in each direction.
        taps: weights of the kernel in each direction.
    """

    size: int
    taps: int

    @property
    def edge(self) -> int:
        """Inputs and products of a tile in each direction."""
        return self.size + self.taps - 1

    @property
    def _points(self) -> tuple[Fraction, ...]:
        return POINTS[: self.edge - 1]

    @cached_property
    def outputs(self) -> Matrix:
        """(size, edge): products to outputs."""
        rows = [[p**i for p in self._points] + [i == self.size - 1] for i in range(self.size)]
        return np.array(rows, np.float64)

    @cached_property
    def weights(self) -> Matrix:
        """(edge, taps): weights to the factors of the products."""
        rows = [
            [p**j / math.prod(p - q for q in self._points if q != p) for j in range(self.taps)]
            for p in self._points
        ]
        return np.array([*rows, [j == self.taps - 1 for j in range(self.taps)]], np.float64)

    @cached_property
    def inputs(self) -> Matrix:
        """(edge, edge): inputs to the other factors."""
        others = [[q for q in self._points if q != p] for p in self._points]
        polynomials = [_coefficients(roots) for roots in (*others, list(self._points))]
        rows = [[*row, *[0] * (self.edge - len(row))] for row in polynomials]
        return np.array(rows, np.float64)

    def rounding_bound(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, fold: int,
        padding: tuple[int, int, int, int],
    ) -> torch.Tensor:  # fmt: skip
        """Largest float32 error of a convolution so computed, in any order of its sums.

        As `gamma(n)` times the sum of the magnitudes that are added up, which are those of the
        transformed tiles: more than those of the convolution itself.

        Args:
            x: (1, C, H, W), float64.
            weight: (K, C, R, S), float64.
            bias: (K,), float64.
            fold: stride, whose pixels are folded into channels.
            padding: (top, bottom, left, right).

        Returns:
            (1, K, rows, columns) of whole tiles, at least the outputs.
        """
        g = torch.from_numpy(fold_taps(weight.abs().numpy(), fold))
        top, bottom, left, right = padding
        reach = fold * (self.size + self.taps)
        plane = F.pad(x.abs(), (left, right + reach, top, bottom + reach))
        plane = plane[..., : plane.shape[2] // fold * fold, : plane.shape[3] // fold * fold]
        folded = F.pixel_unshuffle(plane, fold)[0]  # channel, row and column of a folded pixel
        channels = x.shape[1]
        folded = folded.reshape(channels, fold * fold, *folded.shape[1:])
        folded = folded.transpose(0, 1).reshape(-1, *folded.shape[2:])
        tiles = folded.unfold(1, self.edge, self.size).unfold(2, self.edge, self.size)
        a, b, c = (torch.from_numpy(np.abs(m)) for m in (self.outputs, self.inputs, self.weights))
        data = torch.einsum("ir,cyxrs,js->ijcyx", b, tiles, b)
        factors = torch.einsum("ir,krsc,js->ijck", c, g, c)
        products = torch.einsum("ijck,ijcyx->kyxij", factors, data)
        sums = torch.einsum("mi,kyxij,nj->kymxn", a, products, a)
        size = sums.reshape(1, sums.shape[0], self.size * sums.shape[1], -1)
        roundings = len(folded) + 4 * self.edge + 3
        return 2 * roundings * EPSILON * (size + bias.abs()[:, None, None]) + TINY


def fold_taps(weight: NDArray[np.generic], fold: int) -> NDArray[np.generic]:
    """(K, C, R, S) to (K, R / fold, S / fold, fold * fold * C), zeros where it does not divide."""
    k, c, rows, columns = weight.shape
    whole = np.pad(weight, ((0, 0), (0, 0), (0, -rows % fold), (0, -columns % fold)))
    _, _, rows, columns = whole.shape
    apart = whole.reshape(k, c, rows // fold, fold, columns // fold, fold)
    return apart.transpose(0, 2, 4, 3, 5, 1).reshape(k, rows // fold, columns // fold, -1)


def _coefficients(roots: list[Fraction]) -> list[Fraction]:
    """Of the product of x - root, the constant first."""
    found = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *found]
        found = [
            high - root * low for high, low in zip(shifted, [*found, Fraction(0)], strict=True)
        ]
    return found
