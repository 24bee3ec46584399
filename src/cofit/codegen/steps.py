"""The steps of a program and where its buffers lie, before any of its text is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cofit.codegen import convert, threads
from cofit.codegen.c_text import program_name, unique_identifiers
from cofit.codegen.chosen import Chosen
from cofit.codegen.kernel import Kernel, KernelCode, Residual, ResidualKernel
from cofit.codegen.kernels import kernels_for
from cofit.codegen.layout import same_bytes, same_bytes_turned
from cofit.codegen.machine import Machine
from cofit.codegen.planner import MemoryPlan, plan_memory
from cofit.codegen.residuals import find_residuals
from cofit.codegen.storage import Access, Storage, activation_sizes, assign
from cofit.codegen.stripes import Schedule
from cofit.core import UnsupportedOpError
from cofit.ir import DType, Graph, Op, attributes, kept_macs

INPUT, OUTPUT = "(input)", "(output)"
ENTRY_POINTS = ("run", "step", "profile", "batch", "now")  # NAME_run and so on


@dataclass(frozen=True)
class Step:
    """One generated function, in execution order.

    Attributes:
        name: the op's output tensor, or "(input)" / "(output)" for the conversions.
        layer: the op it belongs to: itself, or the whole op that it computes a stripe of.
        function: name of the C function; stripes of an op share one.
        part: which of the function's bodies; None if it has one.
        residual: the addition that the step includes; it writes the output of that.
        kind: the op's kind, or "convert".
        kernel: kernel family.
        op: the op; None for conversions.
        reads: activation tensors read.
        writes: tensor written.
        code: what the kernel emitted.
        macs: multiply-accumulates with kept weights.
        rejected: families tried before, with their reasons.
        chosen: in place of what the formulas take.
    """

    name: str
    layer: str
    function: str
    kind: str
    kernel: str
    op: Op | None
    reads: tuple[str, ...]
    writes: str
    code: KernelCode
    macs: int
    rejected: tuple[str, ...]
    part: int | None = None
    residual: Residual | None = None
    chosen: Chosen | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs of the op and its residual, constants included."""
        inputs = self.reads if self.op is None else self.op.inputs
        return inputs if self.residual is None else (*inputs, self.residual.other)

    @property
    def constant_bytes(self) -> int:
        """Bytes of the step's const arrays."""
        return sum(constant.values.nbytes for constant in self.code.constants)


@dataclass(frozen=True, eq=False)
class Layout:
    """Steps in order, and the arena they work in.

    Attributes:
        steps: in execution order.
        sizes: bytes of every activation tensor, "(input)" and "(output)" included.
        storage: the buffer of each.
        plan: where the buffers lie.
        entry: tensor that the caller writes.
        exit: tensor that the caller reads.
    """

    steps: tuple[Step, ...]
    sizes: Mapping[str, int]
    storage: Storage
    plan: MemoryPlan
    entry: str
    exit: str


@dataclass(frozen=True, eq=False)
class Emitted:
    """Code of an op.

    Attributes:
        family: the kernel family.
        code: what it emitted.
        rejected: families tried before, with their reasons.
        residual: the addition that the code includes.
        chosen: in place of what the formulas take.
    """

    family: str
    code: KernelCode
    rejected: tuple[str, ...]
    residual: Residual | None = None
    chosen: Chosen | None = None


class Emitter:
    """Chooses kernels and emits their code, once for stripes of like shape.

    `chosen` are kernels by op of the given graph, where others than the formulas take are wanted; a
    stripe that such a kernel does not take has the formula's.
    """

    def __init__(self, machine: Machine, chosen: Mapping[str, Chosen] | None = None) -> None:
        self.machine = machine
        self._chosen = chosen or {}
        self._known: dict[object, Emitted] = {}

    def code(self, graph: Graph, op: Op, layer: str, residual: Residual | None = None) -> Emitted:
        """Kernel family and code.

        Args:
            graph: one that differs from others asked about in rows only.
            op: one of its ops.
            layer: the op of the given graph that it belongs to.
            residual: an addition that the family may include.

        Raises:
            UnsupportedOpError: no family takes the op.
        """
        shapes = tuple(graph.tensors[name].shape for name in (*op.inputs, op.output))
        key = (layer, op.attributes, shapes, residual)
        if key not in self._known:
            kernel, rejected = _choose(graph, op, self.machine)
            chosen = self._chosen.get(layer)
            if chosen is not None and chosen.kernel.reject(graph, op, self.machine) is None:
                kernel = chosen.kernel
            else:
                chosen = None
            found = self._emitted(graph, op, kernel, rejected, residual)
            self._known[key] = replace(found, chosen=chosen)
        return self._known[key]

    def _emitted(
        self, graph: Graph, op: Op, kernel: Kernel, rejected: tuple[str, ...],
        residual: Residual | None,
    ) -> Emitted:  # fmt: skip
        if (
            residual is None
            or not isinstance(kernel, ResidualKernel)
            or kernel.reject_residual(graph, op, residual, self.machine) is not None
        ):
            return Emitted(kernel.name, kernel.emit(graph, op, self.machine), rejected)
        code = kernel.emit(graph, op, self.machine, residual)
        variant = f"{code.variant}, adds {residual.other}".removeprefix(", ")
        return Emitted(kernel.name, replace(code, variant=variant), rejected, residual)


def lay_out(schedule: Schedule, emitter: Emitter) -> Layout:
    """Steps of a schedule, and their arena.

    Raises:
        UnsupportedOpError: no kernel takes an op; the text names it and every family's reason.
    """
    graph = schedule.graph
    steps, views, entry, exit_ = _steps(schedule, emitter)
    included = {step.op.output for step in steps if step.op and step.residual}
    sizes = {n: size for n, size in activation_sizes(graph).items() if n not in included}
    for name, tensor in ((INPUT, graph.inputs[0]), (OUTPUT, graph.outputs[0])):
        if name in (entry, exit_):
            sizes[name] = graph.tensors[tensor].size * DType.F32.nbytes
    accesses = [
        Access(
            step.reads,
            step.writes,
            threads.scratch_bytes(step.code),
            tuple(step.inputs[i] for i in step.code.in_place),
        )
        for step in steps
    ]
    storage = assign(sizes, views, accesses, entry, exit_)
    plan = plan_memory(storage.buffers, emitter.machine.alignment_bytes)
    return Layout(tuple(steps), sizes, storage, plan, entry, exit_)


def _steps(
    schedule: Schedule, emitter: Emitter
) -> tuple[list[Step], dict[str, tuple[str, int]], str, str]:
    """Steps in order, views among tensors, and the tensors the caller writes and reads."""
    graph, machine = schedule.graph, emitter.machine
    source, sink = graph.inputs[0], graph.outputs[0]
    steps: list[Step] = []
    views = dict(schedule.views)
    texts = [INPUT, OUTPUT, *(op.output for op in graph.ops)]
    names = iter(unique_identifiers(texts, ENTRY_POINTS))
    prefix = program_name(graph.name)

    def convert_step(name: str, function: str, read: str, write: str, code: KernelCode) -> None:
        steps.append(
            Step(name, name, function, "convert", "convert", None, (read,), write, code, 0, ())
        )

    # Cortex-M kernels are predicted op by op, so they have none
    residuals = {} if machine.freestanding else find_residuals(graph)
    included: set[str] = set()
    enter_name, leave_name = f"{prefix}_{next(names)}", f"{prefix}_{next(names)}"
    entry, exit_ = source, sink
    if machine.io == "float" and convert.needs_conversion(graph.tensors[source]):
        entry = INPUT
        convert_step(
            INPUT, enter_name, INPUT, source, convert.enter(graph.tensors[source], machine)
        )
    for op, name in zip(graph.ops, names, strict=True):
        if schedule.is_free(op) or op.output in included:
            continue
        if _is_alias(graph, op):
            views[op.output] = op.inputs[0], 0
            continue
        layer = schedule.layer(op.output)
        found = emitter.code(graph, op, layer, residuals.get(op.output))
        reads = tuple(n for n in op.inputs if graph.tensors[n].data is None)
        writes, residual = op.output, found.residual
        if residual is not None:
            reads, writes = (*reads, residual.other), residual.op.output
            included.add(writes)
        steps.append(
            Step(
                op.output, layer, f"{prefix}_{name}", op.kind, found.family, op, reads, writes,
                found.code, kept_macs(graph, op), found.rejected, residual=residual,
                chosen=found.chosen,
            )
        )  # fmt: skip
    if machine.io == "float" and convert.needs_conversion(graph.tensors[sink]):
        exit_ = OUTPUT
        convert_step(OUTPUT, leave_name, sink, OUTPUT, convert.leave(graph.tensors[sink], machine))
    return steps, views, entry, exit_


def _is_alias(graph: Graph, op: Op) -> bool:
    before = graph.tensors[op.inputs[0]]
    if before.data is not None:
        return False
    match op.attributes:
        case attributes.Reshape():
            return same_bytes(before.shape, graph.tensors[op.output].shape)
        case attributes.Transpose(permutation=order):
            return same_bytes_turned(before.shape, order)
    return False


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
