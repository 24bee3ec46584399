"""Weights as cells: every sign scheme by which an array holds negative numbers.

split            w = w+ - w-, in two sets of cells                     (PRIME, PUMA)
offset           w = v - 2^(b-1), the sum of the inputs is taken off    (ISAAC)
polarised        w = sign of the group * v                             (FORMS)
twos_complement  the top bit's column counts negative                  (digital SRAM)
complementary    a = u + K_a, b = ~u + K_b from one stored u           (DDC-PIM)
bipolar          w = sum 2^k d_k, d_k in {-1, 1}                       (CAP-RAM)
differential     w = sum 2^k d_k, d_k in {-1, 0, 1}, two cells each    (CAP-RAM)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from cofit.core import StructureError
from cofit.targets.arrays.spec import ArraySpec, Scheme


@dataclass(frozen=True, eq=False)
class Stored:
    """What a matrix (N, K) leaves in an array, and how sums become products again.

    Attributes:
        spec: of the array.
        filters: K.
        cells: (L, N, K') uint8, L cells of a weight, K' columns of K (half as many for pairs).
        gains: (J,) int64, factor of each slice.
        per_input: (K,) int64, factor of the sum of the inputs.
        signs: (G, K) int64 of polarised groups, else None.
        flipped: (J, G, K) of columns stored as their complement, else None.

    Raises:
        StructureError: a cell would hold a level that it does not have.
    """

    spec: ArraySpec
    filters: int
    cells: torch.Tensor
    gains: torch.Tensor
    per_input: torch.Tensor
    signs: torch.Tensor | None = None
    flipped: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if bool((self.cells < 0).any()) or bool((self.cells > self.spec.most).any()):
            raise StructureError(
                f"a cell of {self.spec.cell_bits} bits holds 0 to {self.spec.most}, not "
                f"{int(self.cells.min())} to {int(self.cells.max())}"
            )

    def read(self, levels: torch.Tensor) -> torch.Tensor:
        """What columns multiply with, (J, N, K), where cells are at `levels` (L, N, K')."""
        match self.spec.scheme:
            case "complementary":
                both = torch.stack([levels, 1 - levels], dim=-1)
                return both.flatten(-2)[..., : self.filters]
            case "bipolar":
                return 2 * levels - 1
            case "differential":
                return levels[: len(levels) // 2] - levels[len(levels) // 2 :]
        return levels


def store(matrix: torch.Tensor, spec: ArraySpec) -> Stored:
    """Cells of a matrix.

    Args:
        matrix: (N, K) integers.
        spec: its scheme and widths.

    Raises:
        StructureError: a weight needs more bits, a group holds both signs, a pair is none.
    """
    if matrix.is_floating_point() or matrix.ndim != 2 or not matrix.numel():
        raise StructureError(
            f"an array holds a matrix (N, K) of integers, not {matrix.dtype} of shape "
            f"{tuple(matrix.shape)}; round the weights to levels first"
        )
    return _STORE[spec.scheme](matrix.long(), spec)


def weight_range(spec: ArraySpec) -> tuple[int, int]:
    """Least and largest weight that the scheme can hold."""
    half = 1 << (spec.weight_bits - 1)
    if spec.scheme in ("bipolar", "differential"):
        return 1 - 2 * half, 2 * half - 1
    if spec.scheme in ("split", "polarised"):
        return 1 - half, half - 1
    return -half, half - 1


def _in_range(matrix: torch.Tensor, spec: ArraySpec) -> None:
    low, high = weight_range(spec)
    bad = (matrix < low) | (matrix > high)
    if bool(bad.any()):
        row, column = bad.nonzero()[0].tolist()
        raise StructureError(
            f"weight {int(matrix[row, column])} in row {row} of filter {column} does not fit "
            f"{spec.weight_bits} bits {spec.scheme}; it holds {low} to {high}"
        )


def _sliced(values: torch.Tensor, spec: ArraySpec, slices: int) -> torch.Tensor:
    """(N, K) not negative -> (slices, N, K) of `cell_bits` each, low ones first."""
    shifts = torch.arange(slices).reshape(-1, 1, 1) * spec.cell_bits
    return ((values >> shifts) & spec.most).to(torch.uint8)


def _powers(slices: int, bits: int) -> torch.Tensor:
    return 1 << (torch.arange(slices) * bits)


def _finished(
    spec: ArraySpec,
    cells: torch.Tensor,
    gains: torch.Tensor,
    per_input: torch.Tensor,
    signs: torch.Tensor | None = None,
) -> Stored:
    """Stored levels, in columns that are flipped where that halves their sum."""
    filters = cells.shape[2]
    if not spec.flip:
        return Stored(spec, filters, cells, gains, per_input, signs)
    rows = cells.shape[1]
    padding = (0, 0, 0, -rows % spec.group)
    sums = pad(cells.long(), padding).reshape(len(cells), -1, spec.group, filters).sum(2)
    there = pad(torch.ones(rows, dtype=torch.long), (0, -rows % spec.group))
    there = there.reshape(-1, spec.group).sum(1)
    flipped = 2 * sums > spec.most * there[:, None]
    each = flipped.repeat_interleave(spec.group, dim=1)[:, :rows]
    cells = torch.where(each, spec.most - cells, cells)
    return Stored(spec, filters, cells, gains, per_input, signs, flipped)


def _split(matrix: torch.Tensor, spec: ArraySpec) -> Stored:
    _in_range(matrix, spec)
    half = spec.slices // 2
    cells = [_sliced(part.clamp(min=0), spec, half) for part in (matrix, -matrix)]
    powers = _powers(half, spec.cell_bits)
    none = torch.zeros(matrix.shape[1], dtype=torch.long)
    return _finished(spec, torch.cat(cells), torch.cat([powers, -powers]), none)


def _offset(matrix: torch.Tensor, spec: ArraySpec) -> Stored:
    _in_range(matrix, spec)
    half = 1 << (spec.weight_bits - 1)
    cells = _sliced(matrix + half, spec, spec.slices)
    taken = torch.full((matrix.shape[1],), -half)
    return _finished(spec, cells, _powers(spec.slices, spec.cell_bits), taken)


def _polarised(matrix: torch.Tensor, spec: ArraySpec) -> Stored:
    _in_range(matrix, spec)
    padded = pad(matrix, (0, 0, 0, -len(matrix) % spec.group))
    groups = padded.reshape(-1, spec.group, matrix.shape[1])
    negative = (groups < 0).any(1)
    mixed = negative & (groups > 0).any(1)
    if bool(mixed.any()):
        group, column = mixed.nonzero()[0].tolist()
        first = group * spec.group
        raise StructureError(
            f"rows {first} to {min(first + spec.group, len(matrix)) - 1} of filter {column} hold "
            f"both signs; train with the structure polarised{spec.group}, or choose another scheme"
        )
    cells = _sliced(matrix.abs(), spec, spec.slices)
    none = torch.zeros(matrix.shape[1], dtype=torch.long)
    signs = torch.where(negative, -1, 1)
    return _finished(spec, cells, _powers(spec.slices, spec.cell_bits), none, signs)


def _signed_powers(bits: int) -> torch.Tensor:
    powers = _powers(bits, 1)
    powers[-1] *= -1
    return powers


def _twos_complement(matrix: torch.Tensor, spec: ArraySpec) -> Stored:
    _in_range(matrix, spec)
    cells = _sliced(matrix & ((1 << spec.weight_bits) - 1), spec, spec.weight_bits)
    none = torch.zeros(matrix.shape[1], dtype=torch.long)
    return _finished(spec, cells, _signed_powers(spec.weight_bits), none)


def _complementary(matrix: torch.Tensor, spec: ArraySpec) -> Stored:
    """Columns 2i and 2i+1 from one word; a last odd one is stored as it is."""
    paired = matrix.shape[1] // 2 * 2
    first, second = matrix[:, 0:paired:2], matrix[:, 1:paired:2]
    total = first + second
    off = total != total[:1]
    if bool(off.any()):
        row, pair = off.nonzero()[0].tolist()
        raise StructureError(
            f"filters {2 * pair} and {2 * pair + 1} add up to {int(total[row, pair])} in row {row} "
            f"and to {int(total[0, pair])} in row 0; train them as complementary pairs"
        )
    centre = total[0] // 2
    words = torch.cat([first - centre, matrix[:, paired:]], dim=1)
    _in_range(words, spec)
    constants = torch.zeros(matrix.shape[1], dtype=torch.long)
    constants[0:paired:2] = centre
    constants[1:paired:2] = total[0] - centre + 1
    cells = _sliced(words & ((1 << spec.weight_bits) - 1), spec, spec.weight_bits)
    return Stored(spec, matrix.shape[1], cells, _signed_powers(spec.weight_bits), constants)


def _bipolar(matrix: torch.Tensor, spec: ArraySpec) -> Stored:
    _in_range(matrix, spec)
    even = (matrix % 2 == 0).nonzero()
    if len(even):
        row, column = even[0].tolist()
        raise StructureError(
            f"weight {int(matrix[row, column])} in row {row} of filter {column} is even; digits of "
            "-1 and 1 give odd numbers only, zero is none of them"
        )
    most = (1 << spec.weight_bits) - 1
    cells = _sliced((matrix + most) >> 1, spec, spec.weight_bits)
    none = torch.zeros(matrix.shape[1], dtype=torch.long)
    return _finished(spec, cells, _powers(spec.weight_bits, 1), none)


def _differential(matrix: torch.Tensor, spec: ArraySpec) -> Stored:
    _in_range(matrix, spec)
    cells = [_sliced(part.clamp(min=0), spec, spec.weight_bits) for part in (matrix, -matrix)]
    none = torch.zeros(matrix.shape[1], dtype=torch.long)
    return _finished(spec, torch.cat(cells), _powers(spec.weight_bits, 1), none)


_STORE: dict[Scheme, Callable[[torch.Tensor, ArraySpec], Stored]] = {
    "split": _split,
    "offset": _offset,
    "polarised": _polarised,
    "twos_complement": _twos_complement,
    "complementary": _complementary,
    "bipolar": _bipolar,
    "differential": _differential,
}
