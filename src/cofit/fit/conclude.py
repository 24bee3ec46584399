"""The end of a fit: the best network beside the dense one, reported and saved."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from cofit.codegen import Program, export_onnx, export_pt2
from cofit.core import (
    Basis,
    Budget,
    Cost,
    clear_unfinished,
    format_quantity,
)
from cofit.core.budget import METRICS
from cofit.fit.config import FitConfig
from cofit.fit.device import Device
from cofit.fit.evidence import Evidence, by_model, by_programs
from cofit.fit.modelled import ModelledDevice
from cofit.fit.peers import time_peers
from cofit.fit.plan_rows import executed_macs, plan_rows
from cofit.fit.planning import Plan
from cofit.fit.precision import count_correct, reference_scores
from cofit.fit.programs import ProgramDevice
from cofit.fit.progress import Progress
from cofit.fit.rounds import Outcome
from cofit.fit.state import State
from cofit.fit.subject import Subject
from cofit.fit.summary import (
    DataRow,
    LimitRow,
    Peer,
    Search,
    Side,
    Summary,
    Tried,
)
from cofit.ir import Graph, load_graph
from cofit.ir.module import GraphModule
from cofit.targets import toolchain_report


@dataclass(frozen=True, eq=False)
class FitResult:
    """What a fit gives.

    Attributes:
        model: the fitted network in torch, float.
        program: compiled and verified for the target; None where that is modelled.
        plan: what was chosen per layer.
        summary: everything that was found, as `summary.json` holds it.
        folder: where summary.json, the configuration and, with a program, deploy/ lie.
    """

    model: GraphModule
    program: Program | None
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
    """Compare dense and fitted networks on the target and the test split, write the results."""
    best = finding.best
    graphs = (finding.dense, load_graph(state.folder, f"{best.label}-lowered"))
    progress("conclude", 0, 3)
    if isinstance(device, ModelledDevice):
        found = by_model(device, graphs, subject, best.plan)
    else:
        assert isinstance(device, ProgramDevice)
        found = by_programs(device, graphs, subject)
    progress("conclude", 1, 3)
    test = subject.data.test
    given_correct = count_correct(reference_scores(finding.given), test)
    progress("conclude", 2, 3)
    costs = found.costs
    sides = [
        _side(graph, cost, right, len(test))
        for graph, cost, right in zip(found.graphs, costs, found.correct, strict=True)
    ]
    limits = _limits(config, costs[0], sides, given_correct / len(test))
    met = all(row.met for row in limits)
    summary = Summary(
        name=subject.name,
        target=device.name,
        device=device.describe(),
        budget=config.budget,
        met=met,
        verdict=_verdict(met, limits),
        limits=limits,
        accuracy_given=given_correct / len(test),
        dense=sides[0],
        fitted=sides[1],
        plan=plan_rows(best.plan, finding.dense, found.graphs[1], costs[0], costs[1]),
        tried=tuple(_tried(outcome) for outcome in finding.outcomes),
        memory=found.memory,
        verification=found.verification,
        search=Search(
            rounds=len(finding.outcomes),
            loss=best.plan.loss,
            bound=best.plan.bound,
            gap=best.plan.gap,
            validation_dense=finding.validation_dense,
            validation_fitted=best.accuracy,
            validation_seen=finding.validation_seen,
        ),
        peers=_peers(finding, subject, found, device) if config.peers else (),
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
    program = found.programs[1] if found.programs else None
    _write(config, found.graphs[1], program, model, subject, summary)
    progress("conclude", 3, 3)
    return FitResult(model, program, best.plan, summary, config.out)


def _write(
    config: FitConfig,
    fitted: Graph,
    program: Program | None,
    model: GraphModule,
    subject: Subject,
    summary: Summary,
) -> None:
    out = config.out
    deploy, stored, found = out / "deploy", out / "config.toml", out / "summary.json"
    onnx, pt2 = out / "export" / "model.onnx", out / "export" / "model.pt2"
    for path in (deploy, stored, found, onnx, pt2):
        clear_unfinished(path)
    if program is not None:
        program.save(deploy)
    export_onnx(fitted, onnx)
    export_pt2(model, subject.example, pt2)
    config.save(stored)
    summary.save(found)


def _peers(finding: Finding, subject: Subject, found: Evidence, device: Device) -> tuple[Peer, ...]:
    """Other runtimes run on this machine, so they are compared with programs for it only."""
    if not device.measured:
        return ()
    dense, fitted = found.programs
    return time_peers(finding.given, subject, dense, fitted)


def _side(graph: Graph, cost: Cost, correct: int, samples: int) -> Side:
    names = [n for op in graph.ops if graph.weights(op) for n in op.inputs[1:]]
    tensors = [graph.tensors[n] for n in names if graph.tensors[n].data is not None]
    spreads = [row.spread for row in cost.rows if row.spread is not None]
    rows = {row.op: row for row in cost.rows}
    return Side(
        accuracy=correct / samples,
        correct=correct,
        precision="int8" if graph.is_integer else "fp32",
        latency_s=cost.latency_s,
        flash_bytes=cost.flash_bytes,
        ram_bytes=cost.ram_bytes,
        energy_j=cost.energy_j,
        instructions=cost.instructions,
        macs=sum(executed_macs(graph, op, rows.get(op.output)) for op in graph.ops),
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
