"""The contract between the program emitter and the kernel families.

A kernel turns one op into the body of one C function. The emitter supplies the function, its name,
its buffers, the constants and the shared support code, so a kernel only writes what is particular
to it. One file per family in `codegen/kernels/`; a family is tried in the order of its machine's
list, and the first that does not `reject` the op emits it.

Inside the body these C names are in scope: `in0`, `in1`, ... (const pointers to the activation
inputs, numbered by their position in `op.inputs`, restrict unless in place), `out`, and `scratch`
(uint8_t *, aligned, only where `scratch_bytes` > 0). Every name that is in scope must be used.
The other operand of a residual is the activation input behind the op's own.
Activations of rank 4 lie in NHWC order, unless a family was `laid_out` for planes of channels; all
others in row-major order; batch is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.codegen.layout import PlaneLayout
from cofit.codegen.machine import Machine
from cofit.ir.types import Graph, Op


@dataclass(frozen=True, eq=False)
class Constant:
    """A const array; `name` is a C identifier local to the op's function."""

    name: str
    values: NDArray[np.generic]
    align_bytes: int = 4


@dataclass(frozen=True)
class KernelCode:
    """What a kernel emits for one op.

    Attributes:
        body: C99 statements of the op's function.
        constants: const arrays; the emitter declares each inside the op's function as
            `static const T name[...]`, so names need only be unique within the op.
        support: names of files in `codegen/c/` whose text is included once before the functions,
            in the order first asked for (a file lists its own needs with `#include "other.h"`,
            which the emitter resolves).
        scratch_bytes: bytes needed at `scratch` during the op.
        shares: threads that share the op, each with scratch of its own; above one, `share`
            (int, from 0) is in scope, and the shares may run in any order or at once.
        in_place: positions of activation inputs whose buffer `out` may share (same bytes, read
            before written, element by element).
        variant: short name of the chosen variant for reports, for example "block16x1 s=6".
        bound: largest float32 rounding error of each output for float64 arguments, where the code
            does not add up the products of the op's definition.
    """

    body: str
    constants: tuple[Constant, ...] = ()
    support: tuple[str, ...] = ()
    scratch_bytes: int = 0
    in_place: tuple[int, ...] = ()
    variant: str = ""
    shares: int = 1
    bound: Callable[[Sequence[torch.Tensor]], torch.Tensor] | None = None


@dataclass(frozen=True)
class Residual:
    """An add op that a convolution or linear op makes of its own output, before it is stored.

    Attributes:
        op: the add.
        position: of the convolution's output among the inputs of the add.
    """

    op: Op
    position: int

    @property
    def other(self) -> str:
        """The activation that is added."""
        return self.op.inputs[1 - self.position]


@dataclass(frozen=True)
class Sides:
    """How a kernel meets planes of channels.

    Attributes:
        target: how its output would lie in planes.
        turns: whether input and output may differ: what lies in NHWC is turned.
    """

    target: PlaneLayout
    turns: bool


class Kernel(Protocol):
    """One kernel family."""

    @property
    def name(self) -> str:
        """Family name for reports, for example "f32-block"."""
        ...

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """None if this family can emit the op, else the reason it cannot."""
        ...

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """The op's code; called only if `reject` gave None."""
        ...


@runtime_checkable
class TunableKernel(Kernel, Protocol):
    """A family that can compute an op in several ways, one of which its formula takes for best."""

    def variants(self, graph: Graph, op: Op, machine: Machine) -> Sequence[Kernel]:
        """Families of this name that decide otherwise, each of its own `repr`.

        The formula's choice is the first, then the most promising; called if `reject` gave None.
        """
        ...


@runtime_checkable
class PlaneKernel(Kernel, Protocol):
    """A family whose input or output can lie in planes of channels."""

    def sides(self, graph: Graph, op: Op, machine: Machine) -> Sides | None:
        """What may lie in planes; None if nothing may. Called if `reject` gave None."""
        ...

    def laid_out(self, source: PlaneLayout | None, target: PlaneLayout | None) -> Kernel:
        """The same for such an input and output, None being NHWC; a residual lies as the output."""
        ...


@runtime_checkable
class ResidualKernel(Kernel, Protocol):
    """A family whose code can add another activation to the op's output as it closes a tile."""

    def reject_residual(
        self, graph: Graph, op: Op, residual: Residual, machine: Machine
    ) -> str | None:
        """None if `emit` can take the residual, else the reason; called if `reject` gave None."""
        ...

    def emit(
        self, graph: Graph, op: Op, machine: Machine, residual: Residual | None = None
    ) -> KernelCode:
        """The op's code; `out` is the output of the add where there is a residual."""
        ...
