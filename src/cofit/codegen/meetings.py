"""A graph and its kernels as the problem of where activations should lie in planes."""

from __future__ import annotations

from collections.abc import Mapping

from cofit.codegen.assignment import Meeting, Problem, assign_planes
from cofit.codegen.emitter import Emitter
from cofit.codegen.kernel import PlaneKernel, Residual
from cofit.codegen.layout import PlaneLayout, is_alias
from cofit.codegen.storage import activation_sizes
from cofit.codegen.stripes import Schedule
from cofit.ir import Graph, Op


def plane_layouts(
    schedule: Schedule, emitter: Emitter, residuals: Mapping[str, Residual]
) -> dict[str, PlaneLayout]:
    """Activations that do not lie in NHWC; none in programs of integers, or of no vectors."""
    graph, machine = schedule.graph, emitter.machine
    if graph.is_integer or machine.vector_floats == 1 or schedule.stripes > 1:
        return {}
    problem = problem_of(graph, emitter, residuals)
    written = {step.writes: step.target for step in problem.steps}
    planes = ((name, written[name]) for name in sorted(assign_planes(problem)))
    return {name: layout for name, layout in planes if layout is not None}


def problem_of(graph: Graph, emitter: Emitter, residuals: Mapping[str, Residual]) -> Problem:
    """What every step of a float graph asks.

    Raises:
        UnsupportedOpError: no kernel takes an op.
    """
    steps: list[Meeting] = []
    included: set[str] = set()
    inner: set[str] = set()
    for op in graph.ops:
        if op.output in included:
            continue
        reads = tuple(name for name in op.inputs if graph.tensors[name].data is None)
        if is_alias(graph, op):
            steps.append(Meeting(reads, op.output))
            continue
        pick = emitter.pick(graph, op, op.output, residuals.get(op.output))
        writes = op.output
        if pick.residual is not None:
            reads, writes = (*reads, pick.residual.other), pick.residual.op.output
            included.add(writes)
            inner.add(op.output)
        steps.append(_meeting(graph, op, emitter, reads, writes, pick.kernel))
    sizes = {name: n for name, n in activation_sizes(graph).items() if name not in inner}
    return Problem(sizes, {*graph.inputs, *graph.outputs}, steps)


def _meeting(
    graph: Graph, op: Op, emitter: Emitter, reads: tuple[str, ...], writes: str, kernel: object
) -> Meeting:
    sides = kernel.sides(graph, op, emitter.machine) if isinstance(kernel, PlaneKernel) else None
    if sides is None:
        return Meeting(reads, writes)
    return Meeting(reads, writes, sides.turns, not sides.turns, sides.target)
