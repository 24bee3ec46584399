"""What the target says of the dense and the fitted network, and how that was verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cofit.codegen import Program
from cofit.core import Cost, VerificationError
from cofit.fit.modelled import ModelledDevice
from cofit.fit.planning import Plan
from cofit.fit.precision import count_correct, reference_scores
from cofit.fit.programs import ProgramDevice
from cofit.fit.subject import Subject
from cofit.fit.summary import Memory, MemoryBlock, Verification
from cofit.ir import Graph, run_float
from cofit.structures import parse

EMULATED_SAMPLES = 16
"""Test inputs that run on an emulated target itself; the reference runs them all."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Of the dense network and the fitted one, in this order.

    Attributes:
        graphs: what was costed and evaluated.
        costs: on the target.
        correct: test samples that are classified rightly.
        verification: of the fitted network.
        memory: of the fitted program; empty where there is none.
        programs: compiled for the target; none where that is modelled.
    """

    graphs: Sequence[Graph]
    costs: Sequence[Cost]
    correct: Sequence[int]
    verification: Verification
    memory: Memory
    programs: tuple[Program, ...] = ()


def by_programs(device: ProgramDevice, graphs: Sequence[Graph], subject: Subject) -> Evidence:
    """Compile both networks, cost them together, and run the fitted one.

    Raises:
        VerificationError: an integer program differs from the integer reference.
        TargetError: the fitted one does not fit the device.
    """
    dense, fitted = graphs
    programs = (device.reference_program(dense), device.program(fitted))
    return Evidence(
        graphs=[program.graph for program in programs],
        costs=device.compare(programs),
        correct=[count_correct(device.scores(p), subject.data.test) for p in programs],
        verification=verify_program(programs[1], subject, device.emulated),
        memory=_memory(programs[1]),
        programs=programs,
    )


def by_model(
    device: ModelledDevice, graphs: Sequence[Graph], subject: Subject, plan: Plan
) -> Evidence:
    """Cost both networks, evaluate them in Python, and check every weight of the fitted one.

    Raises:
        VerificationError: a weight does not bear the structure or the bits of the plan.
    """
    return Evidence(
        graphs=graphs,
        costs=[device.cost(graph) for graph in graphs],
        correct=[count_correct(reference_scores(g), subject.data.test) for g in graphs],
        verification=verify_weights(graphs[1], plan, len(subject.data.test)),
        memory=Memory(arena_bytes=0, steps=(), blocks=()),
    )


def verify_program(program: Program, subject: Subject, emulated: bool) -> Verification:
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


def verify_weights(graph: Graph, plan: Plan, samples: int) -> Verification:
    """Check that every weight is what the target's cost was taken for.

    Args:
        graph: the fitted network, lowered.
        plan: what it was fitted to.
        samples: test inputs that it was evaluated on.

    Raises:
        VerificationError: a weight is not in its structure, or wider than its bits.
    """
    for layer in plan.layers:
        weight = graph.tensors[graph.producer[layer.op].inputs[1]]
        values = torch.from_numpy(np.asarray(weight.data))
        wanted = layer.chosen.structure
        broken = None if wanted is None else parse(wanted).check(values)
        if weight.structure != wanted or broken is not None:
            raise VerificationError(
                f"the weight of {layer.op!r} is not in its structure {wanted}: "
                f"{broken or f'it bears {weight.structure}'}; please report this"
            )
        most = 2 ** (layer.chosen.bits - 1) - 1
        if graph.is_integer and int(values.int().abs().max()) > most:
            raise VerificationError(
                f"the weight of {layer.op!r} is wider than {layer.chosen.bits} bits; "
                "please report this"
            )
    reference = "integer reference" if graph.is_integer else "float32 in torch"
    return Verification(
        bit_exact=False,
        max_abs_error=None,
        samples=samples,
        reference=reference,
        ran=False,
        layers=len(plan.layers),
    )


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
