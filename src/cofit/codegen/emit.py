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

from cofit.codegen import convert, threads
from cofit.codegen.c_text import (
    c_type,
    comment,
    declare,
    program_name,
    support_text,
    unique_identifiers,
    use_union,
)
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
            threads.scratch_bytes(step.code),
            tuple(step.op.inputs[i] for i in step.code.in_place) if step.op else (),
        )
        for step in steps
    ]
    storage = assign(sizes, aliases, accesses, entry, exit_)
    plan = plan_memory(storage.buffers, machine.alignment_bytes)
    offsets = {name: plan.offsets[buffer] for name, buffer in storage.buffer_of.items()}
    name = program_name(graph.name)
    public = _Interface(
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
    codes = [step.code for step in steps]
    tasks, calls = threads.shared_calls(codes, [step.function for step in steps], calls)
    needs = [*((threads.SUPPORT,) if tasks else ()), *(s for code in codes for s in code.support)]
    support = support_text(dict.fromkeys(needs))
    functions += tasks
    source = "\n".join((_prologue(name), support, *functions, _entry_points(public, steps, calls)))
    return Source(
        name, graph, machine, _header(public), source, plan, tuple(steps), offsets, entry, exit_,
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


@dataclass(frozen=True)
class _Interface:
    name: str
    machine: Machine
    plan: MemoryPlan
    input_offset: int
    input_bytes: int
    output_offset: int
    output_bytes: int


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
    if step.code.shares > 1:
        parameters.append("int share")
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
        own = f" + share * {threads.scratch_pitch(step.code)}" if step.code.shares > 1 else ""
        arguments.append(f"base + {plan.offsets[SCRATCH.format(index)]}{own}")
    if step.code.shares > 1:
        arguments.append("share")
    return f"{step.function}({', '.join(arguments)});"


def _prologue(name: str) -> str:
    return f"""\
#if defined(COFIT_PROFILE) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 199309L
#endif
#include "{name}.h"
#include <stdint.h>
#ifdef COFIT_PROFILE
#include <time.h>
#endif

#define COFIT_NOINLINE __attribute__((noinline))
"""


def _header(public: _Interface) -> str:
    upper, name = public.name.upper(), public.name
    return f"""\
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>

#define {upper}_ARENA_BYTES {max(public.plan.arena_bytes, 1)}
#define {upper}_ARENA_ALIGN {public.machine.alignment_bytes}
#define {upper}_INPUT_OFFSET {public.input_offset}
#define {upper}_INPUT_BYTES {public.input_bytes}
#define {upper}_OUTPUT_OFFSET {public.output_offset}
#define {upper}_OUTPUT_BYTES {public.output_bytes}

/* Write the input into the arena, run, read the output from the arena. */
void {name}_run(void *arena);
#ifdef COFIT_STEPS
/* Run one step; steps in order are a run. */
void {name}_step(int index, void *arena);
#endif
#ifdef COFIT_PROFILE
/* Run once and add the seconds of each step to seconds[step]. */
void {name}_profile(void *arena, double *seconds);
/* Run n inputs that lie one after the other in x; outputs likewise in y. */
void {name}_batch(void *arena, const void *x, void *y, size_t n);
#endif

#endif
"""


def _entry_points(public: _Interface, steps: list[Step], calls: list[str]) -> str:
    name, upper = public.name, public.name.upper()
    base = "    uint8_t *const base = arena;\n" if steps else "    (void)arena;\n"
    begin, end = threads.turn([step.code for step in steps])
    run = begin + "".join(f"    {call}\n" for call in calls) + end
    cases = "".join(f"    case {i}: {call} break;\n" for i, call in enumerate(calls))
    timed = "".join(
        f"    {call}\n    now = {name}_now();\n    seconds[{i}] += now - then;\n    then = now;\n"
        for i, call in enumerate(calls)
    )
    return f"""\
void {name}_run(void *arena)
{{
{base}{run}}}

#ifdef COFIT_STEPS
void {name}_step(int index, void *arena)
{{
{base}{begin}    switch (index) {{
{cases}    default: break;
    }}
{end}}}
#endif

#ifdef COFIT_PROFILE
static double {name}_now(void)
{{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}}

void {name}_profile(void *arena, double *seconds)
{{
{base}{begin}    double then = {name}_now(), now = then;
{timed}{end}    (void)now;
    (void)then;
    (void)seconds;
}}

void {name}_batch(void *arena, const void *x, void *y, size_t n)
{{
    const uint8_t *from = x;
    uint8_t *base = arena, *to = y;
    for (size_t i = 0; i < n; ++i) {{
        __builtin_memcpy(base + {upper}_INPUT_OFFSET, from + i * {upper}_INPUT_BYTES,
                         {upper}_INPUT_BYTES);
        {name}_run(arena);
        __builtin_memcpy(to + i * {upper}_OUTPUT_BYTES, base + {upper}_OUTPUT_OFFSET,
                         {upper}_OUTPUT_BYTES);
    }}
}}
#endif
"""
