"""What every structure offers. A structure is a set of weights that some hardware likes.

Weights are `(K, C, R, S)` for convolutions (C is channels per group) and `(K, C)` for linear
layers; a structure treats the latter as `(K, C, 1, 1)`. Ragged sizes are padded virtually: the
padding is never kept, never stored more than the format says, never counted.

Required to implement: `mask` (or `project` for structures that change values), `encode`, `text`.
What you get: composition (`a + b`), parsing from text, training regimes, code generation choice,
report rows, and the conformance checks in `cofit.structures.testing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 or int8 weights, unsigned indices


@dataclass(frozen=True)
class Violation:
    """Where and how a weight breaks its structure."""

    where: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        return f"at {list(self.where)}: {self.reason}"


@dataclass(frozen=True)
class Encoding:
    """What is stored and executed for one weight.

    Attributes:
        format: name of the layout, for example "ocb".
        shape: shape of the weight that `decode` gives back.
        arrays: the stored arrays by name; their bytes are `nbytes`, nothing else is stored.
        parameters: integers that the code generator bakes into code (block sizes and the like).
        decoder: rebuilds the weight; `decode()` is bit-exact.
    """

    format: str
    shape: tuple[int, ...]
    arrays: Mapping[str, Array]
    parameters: Mapping[str, int]
    decoder: Callable[[Encoding], Array] = field(repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all stored arrays, indices included."""
        return sum(array.nbytes for array in self.arrays.values())

    def decode(self) -> Array:
        """The weight, bit for bit."""
        return self.decoder(self)


@runtime_checkable
class Structure(Protocol):
    """A frozen, hashable value; `text` is its canonical name, read back by `parse`."""

    @property
    def text(self) -> str:
        """Canonical text, for example "block16x1@4" (form, then pruning rate)."""
        ...

    @property
    def rate(self) -> float:
        """Nominal pruning rate, 1 / density; 1.0 where nothing is removed."""
        ...

    def applies(self, shape: tuple[int, ...]) -> str | None:
        """None if a weight of this shape can carry the structure, else the reason it cannot."""
        ...

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest member of the set (Euclidean); idempotent; ties break to the lower index."""
        ...

    def check(self, weight: torch.Tensor) -> Violation | None:
        """None if the weight is a member of the set."""
        ...

    def encode(self, weight: Array) -> Encoding:
        """The stored form of a member (float32 or int8 elements).

        Raises:
            StructureError: the weight is not a member.
        """
        ...

    def nbytes(self, shape: tuple[int, ...], element_bytes: int) -> int:
        """Closed form of `encode(w).nbytes` for a projected weight without accidental zeros."""
        ...
