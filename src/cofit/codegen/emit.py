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

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from cofit.codegen import threads
from cofit.codegen.c_text import (
    c_type,
    comment,
    declare,
    program_name,
    support_text,
    use_union,
)
from cofit.codegen.chosen import Chosen
from cofit.codegen.emitter import Emitter
from cofit.codegen.interface import Interface, entry_points, header, prologue
from cofit.codegen.large import LARGE_BYTES, Large
from cofit.codegen.layout import PlaneLayout
from cofit.codegen.machine import Machine
from cofit.codegen.planner import MemoryPlan
from cofit.codegen.schedule import schedule_within
from cofit.codegen.steps import INPUT, OUTPUT, Step, lay_out
from cofit.codegen.storage import SCRATCH
from cofit.codegen.stripes import Schedule
from cofit.core import ModelError
from cofit.ir import Graph

__all__ = ["INPUT", "OUTPUT", "Source", "Step", "emit"]


@dataclass(frozen=True, eq=False)
class Source:
    """Generated C and what is known about it.

    Attributes:
        name: prefix of all public C names.
        graph: what it computes.
        schedule: what is executed for it.
        machine: what it was emitted for.
        header: text of NAME.h.
        source: text of NAME.c, where the `large` constants are only declared.
        plan: the arena.
        steps: generated functions in execution order; aliasing reshapes have none.
        offsets: arena offset of every activation tensor, "(input)" and "(output)" included.
        entry: tensor that the caller writes ("(input)" where a conversion follows).
        exit: tensor that the caller reads.
        planes: tensors that lie in planes of channels, all others in NHWC.
        large: constants that are to be linked with `source`; none without an OS.
    """

    name: str
    graph: Graph
    schedule: Schedule
    machine: Machine
    header: str
    source: str
    plan: MemoryPlan
    steps: tuple[Step, ...]
    offsets: Mapping[str, int]
    entry: str
    exit: str
    planes: Mapping[str, PlaneLayout]
    large: tuple[Large, ...] = ()

    @property
    def standalone(self) -> str:
        """Text of NAME.c with all constants."""
        return "\n".join((self.source, *(item.definition for item in self.large)))

    @property
    def chosen(self) -> dict[str, Chosen]:
        """Kernels by op that other than the formulas chose."""
        return {step.layer: step.chosen for step in self.steps if step.chosen is not None}

    @property
    def constant_bytes(self) -> int:
        """Bytes of all const arrays."""
        return sum(step.constant_bytes for step in self.steps)


def emit(
    graph: Graph,
    machine: Machine,
    arena_limit_bytes: int | None = None,
    chosen: Mapping[str, Chosen] | None = None,
) -> Source:
    """Generate the program of a graph.

    Args:
        graph: a float or an integer graph with one input and one output.
        machine: what to emit for.
        arena_limit_bytes: an arena to stay below, by running the first layers in stripes if it is
            exceeded otherwise (see `schedule`); the least found where that is not enough.
        chosen: kernels by op, where others than the formulas take are wanted (see `tuning`).

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
    emitter = Emitter(machine, chosen)
    schedule = schedule_within(graph, emitter, arena_limit_bytes)
    layout = lay_out(schedule, emitter)
    plan, storage = layout.plan, layout.storage
    offsets = {
        name: plan.offsets[buffer] + storage.start_of[name]
        for name, buffer in storage.buffer_of.items()
    }
    shared = {
        step.name
        for step in layout.steps
        if any(storage.buffer_of[r] == storage.buffer_of[step.writes] for r in step.reads)
    }
    described = [_described(step, step.name in shared, schedule) for step in layout.steps]
    name = program_name(graph.name)
    entry, exit_ = layout.entry, layout.exit
    public = Interface(
        name, machine, plan,
        offsets[entry], layout.sizes[entry], offsets[exit_], layout.sizes[exit_],
    )  # fmt: skip
    large = {} if machine.freestanding else _large(described)
    steps, functions = _functions(schedule.graph, described, shared, large)
    calls = [_call(schedule.graph, step, i, offsets, plan) for i, step in enumerate(steps)]
    codes = [step.code for step in steps]
    tasks, calls = threads.shared_calls(codes, [step.function for step in steps], calls)
    needs = [*((threads.SUPPORT,) if tasks else ()), *(s for code in codes for s in code.support)]
    support = support_text(dict.fromkeys(needs))
    texts = (*functions, *tasks, entry_points(public, calls, threads.turn(codes)))
    source = "\n".join((prologue(name), support, *texts))
    outside = [large[id(c)] for step in steps for c in step.code.constants if id(c) in large]
    return Source(
        name, graph, schedule, machine, header(public), source, plan, tuple(steps), offsets,
        entry, exit_, layout.planes, tuple(outside),
    )  # fmt: skip


def _described(step: Step, in_place: bool, schedule: Schedule) -> Step:
    """The step, its variant saying also what the arena made of it."""
    variant = step.code.variant
    if in_place:
        variant = f"{variant}, in place"
    if step.layer != step.name:
        variant = f"{variant}, one of {schedule.stripes} stripes"
    return replace(step, code=replace(step.code, variant=variant.removeprefix(", ")))


def _functions(
    graph: Graph, steps: Sequence[Step], shared: Collection[str], large: Mapping[int, Large]
) -> tuple[list[Step], list[str]]:
    """Functions of the steps, and the steps as they call them.

    Stripes of a layer are bodies of one function, so that they share its constants, unless a
    kernel packs those by the number of rows.
    """
    layers: dict[str, list[Step]] = {}
    for step in steps:
        layers.setdefault(step.layer, []).append(step)
    found: dict[str, Step] = {}
    texts: list[str] = []
    for group in layers.values():
        in_place = any(step.name in shared for step in group)
        interface = {(_signature(graph, step, in_place), _constants(step)) for step in group}
        if len(interface) > 1:
            found.update((step.name, step) for step in group)
            texts.extend(_function(graph, s, [s.code.body], s.name in shared, large) for s in group)
            continue
        first, bodies = group[0], list(dict.fromkeys(step.code.body for step in group))
        for step in group:
            part = bodies.index(step.code.body) if len(bodies) > 1 else None
            constants = first.code.constants if step is first else ()
            code = replace(step.code, constants=constants)
            found[step.name] = replace(step, function=first.function, part=part, code=code)
        texts.append(_function(graph, first, bodies, in_place, large))
    return [found[step.name] for step in steps], texts


def _constants(step: Step) -> tuple[tuple[str, str, bytes], ...]:
    return tuple((c.name, c.values.dtype.str, c.values.tobytes()) for c in step.code.constants)


def _element_type(graph: Graph, name: str) -> str:
    return "float" if name in (INPUT, OUTPUT) else c_type(graph.tensors[name].dtype)


def _parameters(graph: Graph, step: Step) -> list[tuple[str, str, str]]:
    """(C type, parameter name, tensor) of the activation inputs, numbered as in `step.inputs`."""
    return [
        (_element_type(graph, name), f"in{index}", name)
        for index, name in enumerate(step.inputs)
        if name in step.reads
    ]


def _signature(graph: Graph, step: Step, in_place: bool) -> str:
    restrict = "" if in_place else "restrict "
    parameters = [f"const {kind} *{restrict}{name}" for kind, name, _ in _parameters(graph, step)]
    parameters.append(f"{_element_type(graph, step.writes)} *{restrict}out")
    if step.code.scratch_bytes:
        parameters.append("uint8_t *restrict scratch")
    if step.code.shares > 1:
        parameters.append("int share")
    return ", ".join(parameters)


def _large(steps: Sequence[Step]) -> dict[int, Large]:
    """By identity of the constant."""
    return {
        id(constant): Large(f"{step.function}_{constant.name}", constant)
        for step in steps
        for constant in step.code.constants
        if constant.values.nbytes >= LARGE_BYTES
    }


def _function(
    graph: Graph, step: Step, bodies: Sequence[str], in_place: bool, large: Mapping[int, Large]
) -> str:
    signature = _signature(graph, step, in_place)
    outside = [large[id(c)] for c in step.code.constants if id(c) in large]
    before = "".join(f"{item.declaration}\n" for item in outside)
    constants = "".join(f"{use_union(i.constant, i.symbol)}\n" for i in outside)
    constants += "".join(f"{declare(c)}\n" for c in step.code.constants if id(c) not in large)
    after = "".join(f"#undef {item.constant.name}_data\n" for item in outside)
    body = _indented(bodies[0])
    if len(bodies) > 1:
        signature = f"{signature}, int part"
        cases = (
            f"    case {i}: {{\n{_indented(_indented(body))}        break;\n    }}\n"
            for i, body in enumerate(bodies)
        )
        body = f"    switch (part) {{\n{''.join(cases)}    default: break;\n    }}\n"
    return (
        f"{before}/* {_describe(graph, step)} */\n"
        f"static COFIT_NOINLINE void {step.function}({signature})\n"
        f"{{\n{constants}{body}}}\n{after}"
    )


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" if line else "\n" for line in text.splitlines())


def _describe(graph: Graph, step: Step) -> str:
    """Layer name, kind, shapes, density and variant."""

    def shape(name: str) -> str:
        tensor = {INPUT: graph.inputs[0], OUTPUT: graph.outputs[0]}.get(name, name)
        return "x".join(map(str, graph.tensors[tensor].shape))

    reads = ", ".join(map(shape, step.reads))
    parts = [f"{step.layer}: {step.kind}", f"{reads} -> {shape(step.writes)}"]
    weight = graph.weight(step.op) if step.op is not None else None
    if weight is not None and weight.data is not None:
        kept = int((weight.data != 0).sum())
        parts.append(f"weight {'x'.join(map(str, weight.shape))}")
        parts.append(f"density {kept / max(weight.size, 1):.3f}")
    parts.append(f"{step.kernel} {step.code.variant}".strip())
    if step.chosen is not None and step.chosen.times is not None:
        parts.append(step.chosen.times.text)
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
    if step.part is not None:
        arguments.append(str(step.part))
    return f"{step.function}({', '.join(arguments)});"
