"""The steps of a program and where its buffers lie, before any of its text is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cofit.codegen import convert, threads
from cofit.codegen.c_text import program_name, unique_identifiers
from cofit.codegen.chosen import Chosen
from cofit.codegen.emitter import Emitter
from cofit.codegen.kernel import KernelCode, Residual
from cofit.codegen.layout import PlaneLayout, is_alias
from cofit.codegen.meetings import plane_layouts
from cofit.codegen.planner import MemoryPlan, plan_memory
from cofit.codegen.residuals import find_residuals
from cofit.codegen.storage import Access, Storage, activation_sizes, assign
from cofit.codegen.stripes import Schedule
from cofit.ir import DType, Op, kept_macs

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
        planes: tensors that do not lie in NHWC.
    """

    steps: tuple[Step, ...]
    sizes: Mapping[str, int]
    storage: Storage
    plan: MemoryPlan
    entry: str
    exit: str
    planes: Mapping[str, PlaneLayout]


def lay_out(schedule: Schedule, emitter: Emitter) -> Layout:
    """Steps of a schedule, and their arena.

    Raises:
        UnsupportedOpError: no kernel takes an op; the text names it and every family's reason.
    """
    graph = schedule.graph
    # Cortex-M kernels are predicted op by op, so they have none
    residuals = {} if emitter.machine.freestanding else find_residuals(graph)
    planes = plane_layouts(schedule, emitter, residuals)
    steps, views, entry, exit_ = _steps(schedule, emitter, residuals, planes)
    included = {step.op.output for step in steps if step.op and step.residual}
    sizes = {n: size for n, size in activation_sizes(graph).items() if n not in included}
    sizes |= {name: planes[name].nbytes(graph.tensors[name].shape) for name in planes}
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
    return Layout(tuple(steps), sizes, storage, plan, entry, exit_, planes)


def _steps(
    schedule: Schedule,
    emitter: Emitter,
    residuals: Mapping[str, Residual],
    planes: Mapping[str, PlaneLayout],
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
        if is_alias(graph, op):
            views[op.output] = op.inputs[0], 0
            continue
        layer = schedule.layer(op.output)
        found, code = emitter.code(graph, op, layer, residuals.get(op.output), planes)
        reads = tuple(n for n in op.inputs if graph.tensors[n].data is None)
        writes, residual = op.output, found.residual
        if residual is not None:
            reads, writes = (*reads, residual.other), residual.op.output
            included.add(writes)
        steps.append(
            Step(
                op.output, layer, f"{prefix}_{name}", op.kind, found.family, op, reads, writes,
                code, kept_macs(graph, op), found.rejected, residual=residual,
                chosen=found.chosen,
            )
        )  # fmt: skip
    if machine.io == "float" and convert.needs_conversion(graph.tensors[sink]):
        exit_ = OUTPUT
        convert_step(OUTPUT, leave_name, sink, OUTPUT, convert.leave(graph.tensors[sink], machine))
    return steps, views, entry, exit_
