"""Forms of one layer timed in turn, so that their ratios hold on a machine that others use too.

Rows of the cost table are taken when they are first asked for, perhaps months apart, and a shared
CPU is at times half as fast as at others. That is no matter for a plan over hundreds of prices, but
it is for the question whether one form of a layer is faster than another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cofit.codegen import emit, machine
from cofit.codegen.host import HostRunner, build_host
from cofit.core import Basis, CostRow
from cofit.targets.rows import live_bytes
from cofit.targets.signature import OpSignature, one_op_graph

ROUNDS = 9
SAMPLE_S = 0.004


def time_together(signatures: Sequence[OpSignature]) -> list[CostRow]:
    """Cost of ops alone on this machine: the best of several rounds in which all take turns.

    Args:
        signatures: of ops that have code (not of those that are only a view of their input).

    Raises:
        UnsupportedOpError: the host has no kernel for one.
        StructureError: a weight cannot carry its structure.
    """
    host = machine("host")
    sources = [emit(one_op_graph(s, f"op{index}"), host) for index, s in enumerate(signatures)]
    if not sources:
        return []
    library = build_host(sources)
    runners = [HostRunner(source, library) for source in sources]
    repeats = [
        min(max(int(SAMPLE_S / max(runner.measure(3).latency_s, 1e-7)), 5), 500)
        for runner in runners
    ]
    samples = np.array(
        [
            [
                runner.measure(count).per_step_s["y"]
                for runner, count in zip(runners, repeats, strict=True)
            ]
            for _ in range(ROUNDS)
        ]
    )
    least = samples.min(axis=0)
    spread = (samples.max(axis=0) - least) / np.maximum(np.median(samples, axis=0), 1e-12)
    rows = []
    for index, (signature, source) in enumerate(zip(signatures, sources, strict=True)):
        at, step = next((i, step) for i, step in enumerate(source.steps) if step.name == "y")
        rows.append(
            CostRow(
                op=signature.text,
                kind=step.kind,
                latency_s=float(least[index]),
                flash_bytes=step.constant_bytes,
                ram_bytes=live_bytes(source.plan, at),
                basis=Basis.MEASURED,
                macs=step.macs,
                spread=float(spread[index]),
                note=f"{step.kernel} {step.code.variant}".strip(),
            )
        )
    return rows
