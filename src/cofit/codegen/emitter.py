"""Which kernel family emits an op, and its code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cofit.codegen.chosen import Chosen
from cofit.codegen.kernel import Kernel, KernelCode, PlaneKernel, Residual, ResidualKernel
from cofit.codegen.kernels import kernels_for
from cofit.codegen.layout import PlaneLayout
from cofit.codegen.machine import Machine
from cofit.core import UnsupportedOpError
from cofit.ir import Graph, Op


@dataclass(frozen=True, eq=False)
class Pick:
    """Who emits an op.

    Attributes:
        kernel: the kernel family.
        rejected: families tried before, with their reasons.
        residual: the addition that the code includes.
        chosen: in place of what the formulas take.
    """

    kernel: Kernel
    rejected: tuple[str, ...]
    residual: Residual | None
    chosen: Chosen | None

    @property
    def family(self) -> str:
        """Name of the kernel family."""
        return self.kernel.name


class Emitter:
    """Chooses kernels and emits their code, once for stripes of like shape.

    `chosen` are kernels by op of the given graph, where others than the formulas take are wanted; a
    stripe that such a kernel does not take has the formula's.
    """

    def __init__(self, machine: Machine, chosen: Mapping[str, Chosen] | None = None) -> None:
        self.machine = machine
        self._chosen = chosen or {}
        self._picks: dict[object, Pick] = {}
        self._codes: dict[object, KernelCode] = {}

    def pick(self, graph: Graph, op: Op, layer: str, residual: Residual | None = None) -> Pick:
        """The kernel of an op.

        Args:
            graph: one that differs from others asked about in rows only.
            op: one of its ops.
            layer: the op of the given graph that it belongs to.
            residual: an addition that the family may include.

        Raises:
            UnsupportedOpError: no family takes the op.
        """
        key = _key(graph, op, layer, residual)
        if key not in self._picks:
            kernel, rejected = _choose(graph, op, self.machine)
            chosen = self._chosen.get(layer)
            if chosen is not None and chosen.kernel.reject(graph, op, self.machine) is not None:
                chosen = None
            kernel = kernel if chosen is None else chosen.kernel
            if residual is not None and (
                not isinstance(kernel, ResidualKernel)
                or kernel.reject_residual(graph, op, residual, self.machine) is not None
            ):
                residual = None
            self._picks[key] = Pick(kernel, rejected, residual, chosen)
        return self._picks[key]

    def code(
        self,
        graph: Graph,
        op: Op,
        layer: str,
        residual: Residual | None = None,
        planes: Mapping[str, PlaneLayout] | None = None,
    ) -> tuple[Pick, KernelCode]:
        """As `pick`, with the code for activations of which `planes` do not lie in NHWC."""
        pick = self.pick(graph, op, layer, residual)
        writes = op.output if pick.residual is None else pick.residual.op.output
        layouts = planes or {}
        sides = layouts.get(op.inputs[0]), layouts.get(writes)
        key = (*_key(graph, op, layer, residual), *sides)
        if key not in self._codes:
            kernel = pick.kernel
            if isinstance(kernel, PlaneKernel) and sides != (None, None):
                kernel = kernel.laid_out(*sides)
            self._codes[key] = self._emitted(graph, op, kernel, pick.residual)
        return pick, self._codes[key]

    def _emitted(
        self, graph: Graph, op: Op, kernel: Kernel, residual: Residual | None
    ) -> KernelCode:
        if residual is None or not isinstance(kernel, ResidualKernel):
            return kernel.emit(graph, op, self.machine)
        code = kernel.emit(graph, op, self.machine, residual)
        variant = f"{code.variant}, adds {residual.other}".removeprefix(", ")
        return replace(code, variant=variant)


def _key(graph: Graph, op: Op, layer: str, residual: Residual | None) -> tuple[object, ...]:
    shapes = tuple(graph.tensors[name].shape for name in (*op.inputs, op.output))
    return layer, op.attributes, shapes, residual


def _choose(graph: Graph, op: Op, machine: Machine) -> tuple[Kernel, tuple[str, ...]]:
    reasons: list[str] = []
    for kernel in kernels_for(graph):
        reason = kernel.reject(graph, op, machine)
        if reason is None:
            return kernel, tuple(reasons)
        reasons.append(f"{kernel.name}: {reason}")
    raise UnsupportedOpError(
        f"op {op.output!r} ({op.kind}) of graph {graph.name!r} has no kernel on {machine.name}: "
        + ("; ".join(reasons) or "no kernel family exists for its precision")
    )
