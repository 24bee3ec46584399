"""The end of a fit: the best network's program, measured, verified, reported and saved."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from cofit.codegen import Program, export_onnx, export_pt2
from cofit.core import (
    Basis,
    Budget,
    Cost,
    VerificationError,
    clear_unfinished,
    format_quantity,
)
from cofit.core.budget import METRICS
from cofit.fit.config import FitConfig
from cofit.fit.device import Device
from cofit.fit.peers import time_peers
from cofit.fit.plan_rows import plan_rows
from cofit.fit.planning import Plan
from cofit.fit.precision import count_correct, reference_scores
from cofit.fit.progress import Progress
from cofit.fit.rounds import Outcome
from cofit.fit.state import State
from cofit.fit.subject import Subject
from cofit.fit.summary import (
    DataRow,
    LimitRow,
    Memory,
    MemoryBlock,
    Peer,
    Search,
    Side,
    Summary,
    Tried,
    Verification,
)
from cofit.ir import Graph, kept_macs, load_graph, run_float
from cofit.ir.module import GraphModule
from cofit.targets import toolchain_report

EMULATED_SAMPLES = 16
"""Test inputs that run on an emulated target itself; the reference runs them all."""


@dataclass(frozen=True, eq=False)
class FitResult:
    """What a fit gives.

    Attributes:
        model: the fitted network in torch, float.
        program: compiled and verified for the target.
        plan: what was chosen per layer.
        summary: everything that was found, as `summary.json` holds it.
        folder: where summary.json, deploy/ and the configuration lie.
    """

    model: GraphModule
    program: Program
    plan: Plan
    summary: Summary
    folder: Path


@dataclass(frozen=True, eq=False)
class Finding:
    """What the rounds left to conclude from."""

    given: Graph
    dense: Graph
    validation_dense: float
    validation_seen: bool
    outcomes: Sequence[Outcome]
    best: Outcome


def conclude(
    subject: Subject,
    config: FitConfig,
    state: State,
    device: Device,
    finding: Finding,
    progress: Progress,
) -> FitResult:
    """Compile dense and fitted networks, compare them on the test split, write the results."""
    best = finding.best
    progress("conclude", 0, 4)
    programs = [
        device.reference_program(finding.dense),
        device.program(load_graph(state.folder, f"{best.label}-lowered")),
    ]
    costs = device.compare(programs)
    progress("conclude", 1, 4)
    test = subject.data.test
    correct = [count_correct(device.scores(program), test) for program in programs]
    given_correct = count_correct(reference_scores(finding.given), test)
    progress("conclude", 2, 4)
    verification = _verify(programs[1], subject, device.emulated)
    progress("conclude", 3, 4)
    sides = [
        _side(program, cost, right, len(test))
        for program, cost, right in zip(programs, costs, correct, strict=True)
    ]
    limits = _limits(config, costs[0], sides, given_correct / len(test))
    met = all(row.met for row in limits)
    summary = Summary(
        name=subject.name,
        target=device.target.name,
        device=device.describe(),
        budget=config.budget,
        met=met,
        verdict=_verdict(met, limits),
        limits=limits,
        accuracy_given=given_correct / len(test),
        dense=sides[0],
        fitted=sides[1],
        plan=plan_rows(best.plan, finding.dense, programs[1].graph, costs[0], costs[1]),
        tried=tuple(_tried(outcome) for outcome in finding.outcomes),
        memory=_memory(programs[1]),
        verification=verification,
        search=Search(
            rounds=len(finding.outcomes),
            loss=best.plan.loss,
            bound=best.plan.bound,
            gap=best.plan.gap,
            validation_dense=finding.validation_dense,
            validation_fitted=best.accuracy,
            validation_seen=finding.validation_seen,
        ),
        peers=_peers(finding, subject, programs, device) if config.peers else (),
        data=DataRow(
            name=subject.data.name,
            train=len(subject.data.train),
            validation=len(subject.data.validation),
            test=len(test),
        ),
        seed=config.seed,
        seconds=round(state.seconds, 1),
        versions=_versions(),
        config=config.to_toml(),
    )
    model = GraphModule(load_graph(state.folder, f"{best.label}-float")).eval()
    _write(config, programs[1], model, subject, summary)
    progress("conclude", 4, 4)
    return FitResult(model, programs[1], best.plan, summary, config.out)


def _write(
    config: FitConfig, program: Program, model: GraphModule, subject: Subject, summary: Summary
) -> None:
    out = config.out
    deploy, stored, found = out / "deploy", out / "config.toml", out / "summary.json"
    onnx, pt2 = out / "export" / "model.onnx", out / "export" / "model.pt2"
    for path in (deploy, stored, found, onnx, pt2):
        clear_unfinished(path)
    program.save(deploy)
    export_onnx(program.graph, onnx)
    export_pt2(model, subject.example, pt2)
    config.save(stored)
    summary.save(found)


def _peers(
    finding: Finding, subject: Subject, programs: Sequence[Program], device: Device
) -> tuple[Peer, ...]:
    """Other runtimes run on this machine, so they are compared with programs for it only."""
    if device.emulated:
        return ()
    return time_peers(finding.given, subject, programs[0], programs[1])


def _verify(program: Program, subject: Subject, emulated: bool) -> Verification:
    """Run test inputs on the target itself and compare with the reference.

    Raises:
        VerificationError: an integer program differs from the integer reference.
    """
    count = EMULATED_SAMPLES if emulated else len(subject.data.test)
    x = np.ascontiguousarray(subject.data.test.inputs[:count].numpy())
    found = program.run(x)
    graph = program.graph
    if graph.is_integer:
        wrong = int((found != reference_scores(graph)(x)).sum())
        if wrong:
            raise VerificationError(
                f"{wrong} of {found.size} outputs of the program on {graph.name!r} differ from "
                "the integer reference; please report this with the deploy folder"
            )
        return Verification(
            bit_exact=True, max_abs_error=0.0, samples=count, reference="integer reference"
        )
    with torch.no_grad():
        exact = run_float(graph, {graph.inputs[0]: torch.from_numpy(x)}, torch.float64)
    error = np.abs(exact[graph.outputs[0]].numpy() - found).max()
    return Verification(
        bit_exact=False, max_abs_error=float(error), samples=count, reference="torch, float64"
    )


def _side(program: Program, cost: Cost, correct: int, samples: int) -> Side:
    graph = program.graph
    names = [n for op in graph.ops if graph.weights(op) for n in op.inputs[1:]]
    tensors = [graph.tensors[n] for n in names if graph.tensors[n].data is not None]
    spreads = [row.spread for row in cost.rows if row.spread is not None]
    return Side(
        accuracy=correct / samples,
        correct=correct,
        precision="int8" if graph.is_integer else "fp32",
        latency_s=cost.latency_s,
        flash_bytes=cost.flash_bytes,
        ram_bytes=cost.ram_bytes,
        energy_j=cost.energy_j,
        instructions=cost.instructions,
        macs=sum(kept_macs(graph, op) for op in graph.ops),
        parameters=sum(int(np.count_nonzero(np.asarray(t.data))) for t in tensors),
        basis=cost.rows[0].basis if cost.rows else Basis.MODELLED,
        spread=max(spreads, default=None),
    )


def _limits(
    config: FitConfig, dense: Cost, sides: Sequence[Side], given: float
) -> tuple[LimitRow, ...]:
    values = [
        {
            "latency": side.latency_s,
            "flash": side.flash_bytes,
            "ram": side.ram_bytes,
            "energy": side.energy_j or 0.0,
            "accuracy_drop": given - side.accuracy,
        }
        for side in sides
    ]
    return tuple(
        LimitRow(
            metric=metric,
            dimension=METRICS[metric][0],
            limit=limit,
            dense=values[0][metric],
            fitted=values[1][metric],
            met=values[1][metric] <= limit + 1e-12,
        )
        for metric, limit in Budget.parse(config.budget).resolve(dense.totals()).items()
    )


def _verdict(met: bool, limits: Sequence[LimitRow]) -> str:
    texts = [
        f"{row.metric.replace('_', ' ')} {format_quantity(row.fitted, row.dimension)} "
        f"({'within' if row.met else 'over'} {format_quantity(row.limit, row.dimension)})"
        for row in limits
    ]
    return f"budget {'met' if met else 'not met'}: {', '.join(texts)}"


def _tried(outcome: Outcome) -> Tried:
    return Tried(
        label=outcome.label,
        latency_s=outcome.cost.latency_s,
        flash_bytes=outcome.cost.flash_bytes,
        ram_bytes=outcome.cost.ram_bytes,
        accuracy=outcome.accuracy,
    )


def _versions() -> dict[str, str]:
    tools = {tool.name: tool.version for tool in toolchain_report() if tool.version is not None}
    packages = {name: metadata.version(name) for name in ("cofit", "torch", "numpy", "scipy")}
    return {"python": platform.python_version(), **packages, **tools}


def _memory(program: Program) -> Memory:
    plan = program.plan
    return Memory(
        arena_bytes=plan.arena_bytes,
        steps=tuple(step.name for step in program.source.steps),
        blocks=tuple(
            MemoryBlock(
                name=block.name,
                offset_bytes=plan.offsets[block.name],
                nbytes=block.nbytes,
                first=block.first,
                last=block.last,
            )
            for block in plan.buffers
        ),
    )
