"""The graph: tensors, ops and their attributes. Immutable values; passes build new graphs.

Conventions, everywhere in cofit:

* Shapes are logical and carry the batch: images `(1, C, H, W)`, features `(1, C)`, sequences
  `(1, T, C)` and their heads `(1, 1, H, T, C)` (rank 4 is kept for images), tokens `(1, T)`,
  convolution weights `(K, C/groups, R, S)`, linear weights `(K, C)`. A memory layout is a matter
  of code generation, never of the graph.
* An op has one output tensor and bears that tensor's name, so `graph.producer[name]` and
  `graph.tensors[name]` speak of the same thing.
* Integer graphs are graphs whose tensors carry a `Quantisation`: real = scale * (q - zero_point).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cofit.ir.attributes import Attributes


class DType(StrEnum):
    """Element type of a tensor."""

    F32 = "float32"
    I8 = "int8"
    I16 = "int16"
    I32 = "int32"

    @property
    def nbytes(self) -> int:
        """Bytes of one element."""
        return int(np.dtype(self.value).itemsize)


@dataclass(frozen=True)
class Quantisation:
    """real = scale[k] * (q - zero_point), k the index along axis 0 if more than one scale.

    `bits` narrows the stored range of weights below the dtype's (4 for int4 values held in int8).
    """

    scale: tuple[float, ...]
    zero_point: int = 0
    bits: int = 8

    @property
    def per_channel(self) -> bool:
        """Whether there is a scale per index of axis 0."""
        return len(self.scale) > 1


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value in the graph; `data` holds a constant's elements, None for activations.

    `structure` is the text of the structure (`cofit.structures.parse`) that the zeros of a weight
    were made to obey. Code generation looks at it, never at the zeros themselves.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType = DType.F32
    quantisation: Quantisation | None = None
    data: NDArray[np.generic] | None = None
    structure: str | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements held densely."""
        return self.size * self.dtype.nbytes


@dataclass(frozen=True)
class Op:
    """One operator: `kind` and parameters are in `attributes`, `inputs` are tensor names."""

    output: str
    attributes: Attributes
    inputs: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Field name of the operator, for example "conv2d"."""
        return self.attributes.kind


class Rounding(StrEnum):
    """How a requantised accumulator is scaled and rounded (see `ir.integer.requantise`).

    DOUBLE and SINGLE are the two rules of TFLite and CMSIS-NN. SHORT is SINGLE with multipliers of
    24 bits, which float32 holds too: the same integers come out of float units.
    """

    DOUBLE = "double"
    SINGLE = "single"
    SHORT = "short"

    @property
    def multiplier_bits(self) -> int:
        """Significant bits of a multiplier."""
        return 24 if self is Rounding.SHORT else 31


@dataclass(frozen=True)
class QuantSpec:
    """Choices that make integer arithmetic definite; all of Python, host C and Cortex-M C obey."""

    rounding: Rounding = Rounding.SHORT


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators in execution order. Build with `Graph.build`, which checks the whole.

    `spec` is None for float graphs. An integer graph's tensors are all integers with a
    `Quantisation` (biases: int32 with the scale of input times weight).
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ops: tuple[Op, ...]
    tensors: Mapping[str, Tensor] = field(repr=False)
    spec: QuantSpec | None = None

    @staticmethod
    def build(
        name: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        ops: tuple[Op, ...],
        tensors: Mapping[str, Tensor],
        spec: QuantSpec | None = None,
    ) -> Graph:
        """Make a graph without unused ops and constants, and validate it (see `ir.validate`)."""
        from cofit.ir.validate import validate

        live = set(outputs)
        kept: list[Op] = []
        for op in reversed(ops):
            if op.output in live:
                kept.append(op)
                live.update(op.inputs)
        kept.reverse()
        used = live | set(inputs)
        constants = {n: t for n, t in tensors.items() if n in used}
        graph = Graph(name, inputs, outputs, tuple(kept), constants, spec)
        validate(graph)
        return graph

    @cached_property
    def producer(self) -> dict[str, Op]:
        """Op by the name of its output."""
        return {op.output: op for op in self.ops}

    @cached_property
    def consumers(self) -> dict[str, tuple[Op, ...]]:
        """Ops that read each tensor, in order; absent key means none."""
        users: dict[str, list[Op]] = {}
        for op in self.ops:
            for name in dict.fromkeys(op.inputs):
                users.setdefault(name, []).append(op)
        return {name: tuple(found) for name, found in users.items()}

    @property
    def is_integer(self) -> bool:
        """Whether the graph computes in integers."""
        return self.spec is not None

    def weight(self, op: Op) -> Tensor | None:
        """The weight tensor of a conv2d or linear op, else None."""
        return self.tensors[op.inputs[1]] if op.kind in ("conv2d", "linear") else None

    def weights(self, op: Op) -> tuple[Tensor, ...]:
        """All weight matrices of an op: one of a conv2d or linear, two of a gru or lstm."""
        if op.kind in ("gru", "lstm"):
            return tuple(self.tensors[name] for name in op.inputs[1:3])
        weight = self.weight(op)
        return () if weight is None else (weight,)

    def weighted(self) -> Iterator[tuple[Op, Tensor]]:
        """Every weight of every op, with its op: a recurrent op comes twice."""
        for op in self.ops:
            for weight in self.weights(op):
                yield op, weight

    def with_tensors(self, changed: Mapping[str, Tensor]) -> Graph:
        """The same ops over other tensors (for example new weights)."""
        return replace(self, tensors={**self.tensors, **changed})
