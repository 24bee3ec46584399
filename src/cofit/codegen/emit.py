"""From a graph and a machine to one C source and one header.

C interface (NAME is the graph's name as a C identifier):

* `NAME_ARENA_BYTES`, `NAME_INPUT_OFFSET`, `NAME_INPUT_BYTES`, `NAME_OUTPUT_OFFSET`,
  `NAME_OUTPUT_BYTES`: the caller owns the arena (aligned to `NAME_ARENA_ALIGN`), writes the input
  at its offset, calls `void NAME_run(void *arena)` and reads the output at its offset. The input
  does not survive the run.
* with -DCOFIT_STEPS: `void NAME_step(int index, void *arena)` runs one step;
* with -DCOFIT_PROFILE: `void NAME_profile(void *arena, double *seconds)` adds the seconds of each
  step; `NAME_batch` runs n inputs one after the other (both only where there is an OS).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cofit.codegen import convert
from cofit.codegen.c_text import (
    c_type,
    comment,
    declare,
    program_name,
    support_text,
    unique_identifiers,
    use_union,
)
from cofit.codegen.interface import Interface, entry_points, header, prologue
from cofit.codegen.kernel import Kernel, KernelCode
from cofit.codegen.kernels import kernels_for
from cofit.codegen.large import LARGE_BYTES, Large
from cofit.codegen.layout import same_bytes, same_bytes_turned
from cofit.codegen.machine import Machine
from cofit.codegen.planner import MemoryPlan, plan_memory
from cofit.codegen.storage import SCRATCH, Access, activation_sizes, assign
from cofit.core import ModelError, UnsupportedOpError
from cofit.ir import DType, Graph, Op, attributes, kept_macs

INPUT, OUTPUT = "(input)", "(output)"
ENTRY_POINTS = ("run", "step", "profile", "batch", "now")  # NAME_run and so on


@dataclass(frozen=True)
class Step:
    """One generated function, in execution order.

    Attributes:
        name: the op's output tensor, or "(input)" / "(output)" for the conversions.
        function: name of the C function.
        kind: the op's kind, or "convert".
        kernel: kernel family.
        op: the op; None for conversions.
        reads: activation tensors read.
        writes: tensor written.
        code: what the kernel emitted.
        macs: multiply-accumulates with kept weights.
        rejected: families tried before, with their reasons.
    """

    name: str
    function: str
    kind: str
    kernel: str
    op: Op | None
    reads: tuple[str, ...]
    writes: str
    code: KernelCode
    macs: int
    rejected: tuple[str, ...]

    @property
    def constant_bytes(self) -> int:
        """Bytes of the step's const arrays."""
        return sum(constant.values.nbytes for constant in self.code.constants)


@dataclass(frozen=True, eq=False)
class Source:
    """Generated C and what is known about it.

    Attributes:
        name: prefix of all public C names.
        graph: what it computes.
        machine: what it was emitted for.
        header: text of NAME.h.
        source: text of NAME.c, where the `large` constants are only declared.
        plan: the arena.
        steps: generated functions in execution order; aliasing reshapes have none.
        offsets: arena offset of every activation tensor, "(input)" and "(output)" included.
        entry: tensor that the caller writes ("(input)" where a conversion follows).
        exit: tensor that the caller reads.
        large: constants that are to be linked with `source`; none without an OS.
    """

    name: str
    graph: Graph
    machine: Machine
    header: str
    source: str
    plan: MemoryPlan
    steps: tuple[Step, ...]
    offsets: Mapping[str, int]
    entry: str
    exit: str
    large: tuple[Large, ...] = ()

    @property
    def standalone(self) -> str:
        """Text of NAME.c with all constants."""
        return "\n".join((self.source, *(item.definition for item in self.large)))

    @property
    def constant_bytes(self) -> int:
        """Bytes of all const arrays."""
        return sum(step.constant_bytes for step in self.steps)


def emit(graph: Graph, machine: Machine) -> Source:
    """Generate the program of a graph.

    Raises:
        UnsupportedOpError: no kernel takes an op; the text names it and every family's reason.
        ModelError: the graph has several inputs or outputs, or constants that are not finite.
    """
    if taken := {INPUT, OUTPUT} & set(graph.tensors):
        raise ModelError(f"a tensor of graph {graph.name!r} is called {taken.pop()!r}; rename it")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ModelError(
            f"graph {graph.name!r} has {len(graph.inputs)} inputs and {len(graph.outputs)} "
            "outputs; generated programs have one of each"
        )
    steps, aliases, entry, exit_ = _steps(graph, machine)
    sizes = activation_sizes(graph)
    for name, tensor in ((INPUT, graph.inputs[0]), (OUTPUT, graph.outputs[0])):
        if name in (entry, exit_):
            sizes[name] = graph.tensors[tensor].size * DType.F32.nbytes
    accesses = [
        Access(
            step.reads,
            step.writes,
            step.code.scratch_bytes,
            tuple(step.op.inputs[i] for i in step.code.in_place) if step.op else (),
        )
        for step in steps
    ]
    storage = assign(sizes, aliases, accesses, entry, exit_)
    plan = plan_memory(storage.buffers, machine.alignment_bytes)
    offsets = {name: plan.offsets[buffer] for name, buffer in storage.buffer_of.items()}
    name = program_name(graph.name)
    public = Interface(
        name, machine, plan, offsets[entry], sizes[entry], offsets[exit_], sizes[exit_]
    )
    shared = {
        index
        for index, step in enumerate(steps)
        if any(storage.buffer_of[r] == storage.buffer_of[step.writes] for r in step.reads)
    }
    large = {} if machine.freestanding else _large(steps)
    functions = [_function(graph, step, index in shared, large) for index, step in enumerate(steps)]
    calls = [_call(graph, step, i, offsets, plan) for i, step in enumerate(steps)]
    support = support_text(dict.fromkeys(s for step in steps for s in step.code.support))
    source = "\n".join((prologue(name), support, *functions, entry_points(public, calls)))
    return Source(
        name, graph, machine, header(public), source, plan, tuple(steps), offsets, entry, exit_,
        tuple(large.values()),
    )  # fmt: skip


def _steps(graph: Graph, machine: Machine) -> tuple[list[Step], dict[str, str], str, str]:
    """Steps in order, aliases among tensors, and the tensors the caller writes and reads."""
    source, sink = graph.inputs[0], graph.outputs[0]
    families = kernels_for(graph)
    steps: list[Step] = []
    aliases: dict[str, str] = {}
    texts = [INPUT, OUTPUT, *(op.output for op in graph.ops)]
    names = iter(unique_identifiers(texts, ENTRY_POINTS))
    prefix = program_name(graph.name)
    enter_name, leave_name = f"{prefix}_{next(names)}", f"{prefix}_{next(names)}"
    entry, exit_ = source, sink
    if machine.io == "float" and convert.needs_conversion(graph.tensors[source]):
        entry, code = INPUT, convert.enter(graph.tensors[source])
        steps.append(
            Step(INPUT, enter_name, "convert", "convert", None, (INPUT,), source, code, 0, ())
        )
    for op, name in zip(graph.ops, names, strict=True):
        if _is_alias(graph, op):
            aliases[op.output] = op.inputs[0]
            continue
        kernel, rejected = _choose(graph, op, machine, families)
        reads = tuple(n for n in op.inputs if graph.tensors[n].data is None)
        steps.append(
            Step(
                op.output, f"{prefix}_{name}", op.kind, kernel.name, op, reads, op.output,
                kernel.emit(graph, op, machine), kept_macs(graph, op), rejected,
            )
        )  # fmt: skip
    if machine.io == "float" and convert.needs_conversion(graph.tensors[sink]):
        exit_, code = OUTPUT, convert.leave(graph.tensors[sink])
        steps.append(
            Step(OUTPUT, leave_name, "convert", "convert", None, (sink,), OUTPUT, code, 0, ())
        )
    return steps, aliases, entry, exit_


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


def _choose(
    graph: Graph, op: Op, machine: Machine, families: tuple[Kernel, ...]
) -> tuple[Kernel, tuple[str, ...]]:
    reasons: list[str] = []
    for kernel in families:
        reason = kernel.reject(graph, op, machine)
        if reason is None:
            return kernel, tuple(reasons)
        reasons.append(f"{kernel.name}: {reason}")
    raise UnsupportedOpError(
        f"op {op.output!r} ({op.kind}) of graph {graph.name!r} has no kernel on {machine.name}: "
        + ("; ".join(reasons) or "no kernel family exists for its precision")
    )


def _element_type(graph: Graph, name: str) -> str:
    return "float" if name in (INPUT, OUTPUT) else c_type(graph.tensors[name].dtype)


def _parameters(graph: Graph, step: Step) -> list[tuple[str, str, str]]:
    """(C type, parameter name, tensor) of the activation inputs, numbered as in `op.inputs`."""
    if step.op is None:
        return [(_element_type(graph, step.reads[0]), "in0", step.reads[0])]
    return [
        (_element_type(graph, name), f"in{index}", name)
        for index, name in enumerate(step.op.inputs)
        if graph.tensors[name].data is None
    ]


def _large(steps: list[Step]) -> dict[int, Large]:
    """By identity of the constant."""
    return {
        id(constant): Large(f"{step.function}_{constant.name}", constant)
        for step in steps
        for constant in step.code.constants
        if constant.values.nbytes >= LARGE_BYTES
    }


def _function(graph: Graph, step: Step, in_place: bool, large: Mapping[int, Large]) -> str:
    restrict = "" if in_place else "restrict "
    parameters = [f"const {kind} *{restrict}{name}" for kind, name, _ in _parameters(graph, step)]
    parameters.append(f"{_element_type(graph, step.writes)} *{restrict}out")
    if step.code.scratch_bytes:
        parameters.append("uint8_t *restrict scratch")
    outside = [large[id(c)] for c in step.code.constants if id(c) in large]
    before = "".join(f"{item.declaration}\n" for item in outside)
    constants = "".join(f"{use_union(i.constant, i.symbol)}\n" for i in outside)
    constants += "".join(f"{declare(c)}\n" for c in step.code.constants if id(c) not in large)
    after = "".join(f"#undef {item.constant.name}_data\n" for item in outside)
    body = "".join(f"    {line}\n" if line else "\n" for line in step.code.body.splitlines())
    return (
        f"{before}/* {_describe(graph, step)} */\n"
        f"static COFIT_NOINLINE void {step.function}({', '.join(parameters)})\n"
        f"{{\n{constants}{body}}}\n{after}"
    )


def _describe(graph: Graph, step: Step) -> str:
    """Layer name, kind, shapes, density and variant."""

    def shape(name: str) -> str:
        tensor = {INPUT: graph.inputs[0], OUTPUT: graph.outputs[0]}.get(name, name)
        return "x".join(map(str, graph.tensors[tensor].shape))

    reads = ", ".join(map(shape, step.reads))
    parts = [f"{step.name}: {step.kind}", f"{reads} -> {shape(step.writes)}"]
    weight = graph.weight(step.op) if step.op is not None else None
    if weight is not None and weight.data is not None:
        kept = int((weight.data != 0).sum())
        parts.append(f"weight {'x'.join(map(str, weight.shape))}")
        parts.append(f"density {kept / max(weight.size, 1):.3f}")
    parts.append(f"{step.kernel} {step.code.variant}".strip())
    return comment("; ".join(parts))


def _call(
    graph: Graph, step: Step, index: int, offsets: Mapping[str, int], plan: MemoryPlan
) -> str:
    arguments = [
        f"(const {kind} *)(base + {offsets[tensor]})"
        for kind, _, tensor in _parameters(graph, step)
    ]
    arguments.append(f"({_element_type(graph, step.writes)} *)(base + {offsets[step.writes]})")
    if step.code.scratch_bytes:
        arguments.append(f"base + {plan.offsets[SCRATCH.format(index)]}")
    return f"{step.function}({', '.join(arguments)});"
