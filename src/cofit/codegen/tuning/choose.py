"""The kernel of every layer by its time on this machine.

Layers alike in shapes, structure and candidates are timed once. All candidates of a layer are
compiled into one shared object, each as the program of that layer alone, with the weights that the
layer has.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cofit.codegen.build import DEFAULT_COMPILER, toolchain
from cofit.codegen.chosen import Chosen, Times
from cofit.codegen.emit import Source, emit
from cofit.codegen.host import HostRunner, build_flags, build_host
from cofit.codegen.kernel import Kernel
from cofit.codegen.machine import Machine
from cofit.codegen.tuning import store
from cofit.codegen.tuning.candidates import alone, candidates, shape_class
from cofit.codegen.tuning.timing import Clock, clock_of, race
from cofit.codegen.verify import sample_inputs
from cofit.core import ConfigError
from cofit.ir import Graph, Op

LEAST_GAIN = 1.02  # of the winner over the formula's choice, which else stays; chosen
SERIES = 3  # tried before a busy machine is given up


def tune(
    graph: Graph, machine: Machine, compiler: str = DEFAULT_COMPILER, clock: Clock | None = None
) -> dict[str, Chosen]:
    """Winners by op, for the ops whose winner is another than the formula's choice.

    Args:
        graph: what is to be compiled.
        machine: this one.
        compiler: as for `codegen.compile`.
        clock: seconds; the processor's, or the wall's for several threads, if None.

    Raises:
        ConfigError: the machine is not this one.
        BuildError: the C compiler is missing or refused.
    """
    check_tunable(machine)
    known: dict[tuple[str, tuple[Kernel, ...]], store.Record | None] = {}
    found: dict[str, Chosen] = {}
    for op in graph.ops:
        kernels = candidates(graph, op, machine)
        if not kernels:
            continue
        key = shape_class(graph, op), kernels
        if key not in known:
            known[key] = _record(graph, op, machine, compiler, key, clock)
        record = known[key]
        if record is not None and (chosen := _winner(record, kernels)) is not None:
            found[op.output] = chosen
    return found


def check_tunable(machine: Machine) -> None:
    """Check that a machine's programs can be timed.

    Raises:
        ConfigError: they run elsewhere.
    """
    if machine.freestanding:
        raise ConfigError(f"programs for {machine.name} cannot be timed here; leave tuning out")


def _winner(record: store.Record, kernels: Sequence[Kernel]) -> Chosen | None:
    formula, winner = record.tried[0], record.winner
    if formula.seconds < LEAST_GAIN * winner.seconds:
        return None
    kernel = next(kernel for kernel in kernels if repr(kernel) == winner.kernel)
    return Chosen(kernel, Times(winner.seconds, formula.seconds, len(kernels)))


def _record(
    graph: Graph, op: Op, machine: Machine, compiler: str,
    layer: tuple[str, tuple[Kernel, ...]], clock: Clock | None,
) -> store.Record | None:  # fmt: skip
    """What is on disk, else what is measured now; None where the machine is too busy."""
    text, kernels = layer
    bare = replace(machine, io="native")  # conversions are not timed, and take long to compile
    sources = [
        # a shared object of this process's own, which it removes
        emit(
            alone(graph, op, f"try{index}_{os.getpid()}"), bare, chosen={op.output: Chosen(kernel)}
        )
        for index, kernel in enumerate(kernels)
    ]
    used = toolchain(compiler)
    bodies = [step.code.body for source in sources for step in source.steps]
    path = store.path_of(used, text, [*build_flags(sources[0]), *map(repr, kernels), *bodies])
    known = store.load(path, [repr(kernel) for kernel in kernels])
    if known is not None:
        return known
    library = build_host(sources, compiler)
    try:
        runs = [_run_of(source, library) for source in sources]
        for _ in range(SERIES):
            readings = race(runs, clock or clock_of(machine.threads))
            tried = [
                store.Tried(repr(kernel), reading.seconds, reading.spread)
                for kernel, reading in zip(kernels, readings, strict=True)
            ]
            if (record := store.keep(path, used, text, tried)) is not None:
                return record
        return None
    finally:
        shutil.rmtree(library.parent, ignore_errors=True)  # it may hold the weights many times


def _run_of(source: Source, library: Path) -> Callable[[], None]:
    """A call that runs the op on an input that lies in its arena."""
    runner = HostRunner(source, library)
    runner.load(sample_inputs(source)[0], 0)
    return lambda: runner.step(0)
