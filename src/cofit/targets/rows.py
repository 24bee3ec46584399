"""Cost rows of a compiled program, from its plan and one measurement."""

from __future__ import annotations

from collections.abc import Mapping

from cofit.codegen import Measurement, MemoryPlan, Source
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

    for index, step in enumerate(source.steps):
        latency = seconds[step.name]
        rows[step.name] = CostRow(
            op=step.name,
            kind=step.kind,
            latency_s=latency,
            flash_bytes=flash[step.name],
            ram_bytes=live_bytes(source.plan, index),
            basis=measurement.basis,
            macs=step.macs,
            energy_j=energy(latency),
            instructions=counts.get(step.name),
            spread=measurement.spread if measurement.repeats > 1 else None,
            note="; ".join(filter(None, (f"{step.kernel} {step.code.variant}".strip(), note))),
            shared=() if shared is None else shared[step.name],
        )
    for op in source.graph.ops:
        if op.output not in rows:
            rows[op.output] = CostRow(op.output, op.kind, 0.0, 0, 0, measurement.basis, note="view")
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
