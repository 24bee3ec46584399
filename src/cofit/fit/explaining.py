"""Explain a compiled program: every step's time beside the limits of the machine it runs on."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cofit.codegen import Measurement, Program, Step, load_program
from cofit.codegen.cortex_m import CortexMRunner
from cofit.core import FileError
from cofit.fit.advice import Advised, advise, satisfied
from cofit.fit.explanation import (
    Explanation,
    Instructions,
    Layer,
    LevelRow,
    Limits,
)
from cofit.fit.precision import Precision
from cofit.fit.programs import ProgramDevice
from cofit.fit.progress import Progress, silent
from cofit.fit.reasons import notes_of, reasons
from cofit.structures import density
from cofit.targets import (
    Ceilings,
    CortexM,
    CostTable,
    HostTarget,
    Roofline,
    cortex_m_ceilings,
    executed_by_step,
    host_ceilings,
    roofline_of,
    traffic,
    work_of,
)
from cofit.targets.ceilings import Probe
from cofit.targets.instructions import Executed
from cofit.targets.roofline import OVERHEAD, intensity
from cofit.targets.rows import RUNTIME

SERIES = 7
"""Measurements of the program, in turn with the peak of the machine; the fastest counts."""


@dataclass(frozen=True)
class _Timed:
    measurement: Measurement
    spread: float | None
    clock: float | None
    executed: Mapping[str, Executed]


def open_program(folder: Path) -> Program:
    """A saved program, or the one in `deploy/` of a folder that `cofit fit` wrote.

    Raises:
        FileError: there is neither, or files are missing or damaged.
        VerificationError: this version of cofit generates other C.
    """
    if not folder.is_dir():
        raise FileError(
            f"{str(folder)!r} is no folder; give one that cofit compile or cofit fit wrote"
        )
    deployed = folder / "deploy"
    if (folder / "summary.json").exists() and not deployed.exists():
        raise FileError(
            f"{str(folder)!r} holds a fit to modelled hardware, which has no program to explain; "
            "its report.html says what each layer costs"
        )
    inside = not (folder / "manifest.json").exists() and (deployed / "manifest.json").exists()
    return load_program(deployed if inside else folder)


def explain_program(program: Program, progress: Progress = silent) -> Explanation:
    """Time a program, find the limits of its machine, and say layer by layer why they differ.

    Layers that take much of the time are priced alone, as they are, dense, and in a few other
    forms; prices are kept in the cost table of the target.

    Args:
        program: for this machine or a Cortex-M.
        progress: called with (stage, steps done, all steps).
    """
    progress("limits of the machine", 0, 1)
    ceilings, device = _surroundings(program)
    timed = _time(program, ceilings, progress)
    latency = timed.measurement.latency_s
    families = device.families(_precision(program))
    layers = [
        _layer(program, index, step, ceilings, timed, families)
        for index, step in enumerate(program.source.steps)
    ]
    if (rest := latency - sum(layer.latency_s for layer in layers)) > 1e-9 * latency:
        layers.append(
            Layer(
                op=RUNTIME, kind="runtime", kernel="", latency_s=rest, share=rest / latency,
                overhead_s=rest, reached=0.0, binds=OVERHEAD,
            )
        )  # fmt: skip
    advised = advise(program.graph, device, layers, progress)
    limits = _limits(program, ceilings, timed.clock)
    done = tuple(_explained(layer, advised.get(layer.op), limits) for layer in layers)
    return Explanation(
        program=program.graph.name,
        target=device.target.name,
        precision=_precision(program),
        basis=timed.measurement.basis,
        latency_s=sum(layer.latency_s for layer in done),
        spread=timed.spread,
        limit_s=sum(layer.limit_s for layer in done),
        macs_executed=sum(layer.macs_executed for layer in done),
        limits=limits,
        layers=done,
        notes=notes_of(limits, timed.spread),
    )


def _surroundings(program: Program) -> tuple[Ceilings, ProgramDevice]:
    if isinstance(program.runner, CortexMRunner):
        board = program.runner.board
        target: HostTarget | CortexM = CortexM(board)
        return cortex_m_ceilings(board), ProgramDevice(target, CostTable(target))
    target = HostTarget()
    return host_ceilings(), ProgramDevice(target, CostTable(target))


def _time(program: Program, ceilings: Ceilings, progress: Progress) -> _Timed:
    """The fastest of several series, or the counted instructions of an emulated run."""
    if isinstance(program.runner, CortexMRunner):
        progress("emulation", 0, 1)
        return _Timed(program.measure(), None, None, executed_by_step(program.runner))
    probe = Probe()
    series: list[Measurement] = []
    peaks: list[float] = []
    for index in range(SERIES):
        progress("timing", index, SERIES)
        series.append(program.measure())
        peaks.append(probe.rate("float32"))
    latencies = sorted(m.latency_s for m in series)
    spread = (latencies[-1] - latencies[0]) / max(statistics.median(latencies), 1e-12)
    clock = max(peaks) / ceilings.macs["float32"].per_s
    return _Timed(min(series, key=lambda m: m.latency_s), spread, clock, {})


def _layer(
    program: Program,
    index: int,
    step: Step,
    ceilings: Ceilings,
    timed: _Timed,
    families: Sequence[str],
) -> Layer:
    source = program.source
    work = work_of(source, step)
    moved = traffic(source, index, work, ceilings)
    roofline = roofline_of(source, work, moved, ceilings)
    executed = timed.executed.get(step.name)
    if executed is not None and isinstance(program.runner, CortexMRunner):
        # what the emulated code loads and stores is counted, so it need not be estimated
        seconds = executed.memory_cycles / program.runner.board.clock_hz
        roofline = Roofline(roofline.compute_s, {"memory": seconds}, ceilings.overlap)
    latency = timed.measurement.per_step_s[step.name]
    weight = None if step.op is None else program.graph.weight(step.op)
    values = None if weight is None or weight.data is None else torch.from_numpy(weight.data)
    zeros = None
    if weight is not None and values is not None and weight.structure is None:
        zeros = next(iter(satisfied(weight, families)), None)
    arithmetic = intensity(work)
    return Layer(
        op=step.name,
        kind=step.kind,
        kernel=f"{step.kernel} {step.code.variant}".strip(),
        structure=None if weight is None else weight.structure,
        zeros=None if zeros is None else zeros.text,
        density=1.0 if values is None else density(values),
        weight_shape=() if weight is None else weight.shape,
        latency_s=latency,
        share=latency / max(timed.measurement.latency_s, 1e-12),
        macs_dense=work.macs_dense,
        macs_kept=work.macs_kept,
        macs_executed=work.macs_executed,
        weight_bytes=work.weight_bytes,
        index_bytes=work.index_bytes,
        parameter_bytes=work.parameter_bytes,
        input_bytes=work.input_bytes,
        output_bytes=work.output_bytes,
        traffic_bytes=moved,
        intensity=arithmetic if work.nbytes else None,
        compute_s=roofline.compute_s,
        memory_s=dict(roofline.memory_s),
        limit_s=roofline.limit_s,
        overhead_s=roofline.overhead_s(latency),
        reached=min(roofline.limit_s / latency, 1.0) if latency else 1.0,
        binds=roofline.binds(latency),
        instructions=None
        if executed is None
        else Instructions(
            multiply=executed.multiply,
            memory=executed.memory,
            arithmetic=executed.arithmetic,
            branch=executed.branch,
        ),
    )


def _explained(layer: Layer, advised: Advised | None, limits: Limits) -> Layer:
    if advised is not None:
        layer = layer.model_copy(
            update={
                "alone": advised.alone,
                "advice": advised.advice,
                "considered": advised.considered,
            }
        )
    return layer.model_copy(update={"why": reasons(layer, limits)})


def _limits(program: Program, ceilings: Ceilings, clock: float | None) -> Limits:
    integer = program.graph.is_integer
    peak = ceilings.macs["int8" if integer else "float32"]
    return Limits(
        basis=ceilings.basis,
        machine=ceilings.machine,
        macs_per_s=peak.per_s,
        macs_spread=peak.spread,
        over_fp32=peak.per_s / ceilings.macs["float32"].per_s if integer else None,
        instruction=ceilings.int8 if integer else "fused multiply-add",
        levels=tuple(
            LevelRow(
                name=level.name,
                capacity_bytes=level.capacity_bytes,
                bytes_per_s=level.read.per_s,
                spread=level.read.spread,
            )
            for level in ceilings.levels
        ),
        step_s=ceilings.step_s,
        clock=clock,
    )


def _precision(program: Program) -> Precision:
    return "int8" if program.graph.is_integer else "fp32"
