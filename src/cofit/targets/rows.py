"""Cost rows of a compiled program, from its plan and one measurement."""

from __future__ import annotations

from collections.abc import Mapping

from cofit.codegen import Measurement, MemoryPlan, Source, Step
from cofit.core import CostRow, SharedCode

RUNTIME = "(runtime)"


def cost_rows(
    source: Source,
    measurement: Measurement,
    flash: Mapping[str, int],
    runtime_flash_bytes: int,
    runtime_ram_bytes: int,
    energy_w: float | None = None,
    note: str = "",
    shared: Mapping[str, tuple[SharedCode, ...]] | None = None,
) -> tuple[CostRow, ...]:
    """One row per op in execution order, then the program's fixed part.

    An op in stripes is one row: sums over its steps, and the most bytes that any of them finds.

    Args:
        source: the generated program; ops that are only another view of their input cost nothing.
        measurement: of one inference.
        flash: bytes of code and constants by step name.
        runtime_flash_bytes: bytes that belong to no step.
        runtime_ram_bytes: bytes of RAM of the whole program.
        energy_w: joules per second of computing, None where unknown.
        note: said of every row.
        shared: code that a step shares with others, by step name; none if absent.
    """
    seconds = dict(measurement.per_step_s)
    counts = measurement.instructions
    rows: dict[str, CostRow] = {}

    def energy(latency_s: float) -> float | None:
        return None if energy_w is None else energy_w * latency_s

    places: dict[str, list[tuple[int, Step]]] = {}
    for place in enumerate(source.steps):
        places.setdefault(place[1].layer, []).append(place)
    for name, parts in places.items():
        steps = [step for _, step in parts]
        first, latency = steps[0], sum(seconds[step.name] for step in steps)
        counted = [counts[step.name] for step in steps if step.name in counts]
        rows[name] = CostRow(
            op=name,
            kind=first.kind,
            latency_s=latency,
            flash_bytes=sum(flash[step.name] for step in steps),
            ram_bytes=max(live_bytes(source.plan, index) for index, _ in parts),
            basis=measurement.basis,
            macs=sum(step.macs for step in steps),
            energy_j=energy(latency),
            instructions=sum(counted) if counted else None,
            spread=measurement.spread if measurement.repeats > 1 else None,
            note="; ".join(filter(None, (f"{first.kernel} {first.code.variant}".strip(), note))),
            shared=() if shared is None else shared[first.name],
        )
    within = {s.residual.op.output: f"within {s.name}" for s in source.steps if s.residual}
    for op in source.graph.ops:
        if op.output not in rows:
            said = within.get(op.output, "view")
            rows[op.output] = CostRow(op.output, op.kind, 0.0, 0, 0, measurement.basis, note=said)
    order = ["(input)", *(op.output for op in source.graph.ops), "(output)"]
    rest = max(measurement.latency_s - sum(seconds[step.name] for step in source.steps), 0.0)
    runtime = CostRow(
        op=RUNTIME,
        kind="runtime",
        latency_s=rest,
        flash_bytes=runtime_flash_bytes,
        ram_bytes=runtime_ram_bytes,
        basis=measurement.basis,
        energy_j=energy(rest),
        instructions=counts.get(RUNTIME),
    )
    return (*(rows[name] for name in order if name in rows), runtime)


def live_bytes(plan: MemoryPlan, step: int) -> int:
    """Bytes of activations and scratch that are alive during a step."""
    return sum(b.nbytes for b in plan.buffers if b.first <= step <= b.last)
