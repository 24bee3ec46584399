"""`cofit compile`: a network as verified C, dense or projected onto a structure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from cofit.cli.console import console, table
from cofit.cli.network import choose_precision, load_network
from cofit.codegen import Program
from cofit.codegen.build import toolchain
from cofit.codegen.machine import machine
from cofit.codegen.save import check_replaceable
from cofit.codegen.tuning import check_tunable
from cofit.core import StructureError, format_quantity
from cofit.fit.programs import program_device
from cofit.ir import Graph, kept_macs
from cofit.structures import Structure, parse

EDGE = "{} layer: kept dense, pruning it costs most accuracy and saves least time"


def compile_command(
    model: str,
    target: str,
    out: Path,
    weights: Path | None,
    data: str | None,
    precision: str,
    structure: str | None,
    compiler: str | None,
    threads: int,
    tune: bool,
) -> None:
    """Trace, project if asked, quantise for int8, compile, verify, save; print what was done."""
    chosen = program_device(target)
    arithmetic = choose_precision(target, precision)
    form = None if structure is None else parse(structure)
    on = machine(chosen.target.name.partition(":")[0]).with_threads(threads)
    if tune:
        check_tunable(on)
    toolchain(*(() if compiler is None else (compiler,)))
    check_replaceable(out)
    network = load_network(model, weights, data)
    done: list[tuple[str, str]] = []
    if form is not None:
        graph, done = project(network.graph, form)
        network = replace(network, graph=graph)
    program = chosen.target.program(network.lowered(arithmetic), compiler, threads, tune)
    program.save(out)
    to = console()
    if done:
        to.print(table(("layer", "weights"), done))
    for note in network.notes:
        if arithmetic == "int8" or not note.startswith("int8"):
            to.print(f"note: {note}")
    if tune:
        to.print(f"note: {tuned_layers(program)}")
    if (schedule := program.source.schedule).stripes > 1:
        more = schedule.halo_macs / max(
            sum(kept_macs(program.graph, op) for op in program.graph.ops), 1
        )
        to.print(
            f"note: RAM binds: the first {len(set(schedule.layers.values()))} layers run in "
            f"{schedule.stripes} stripes of rows, for {more:.1%} more multiply-accumulates"
        )
    to.print(
        f"{out}: {arithmetic} for {chosen.target.name}, built with {program.compiler}, verified; "
        f"constants {format_quantity(program.source.constant_bytes, 'bytes')}, "
        f"arena {format_quantity(program.plan.arena_bytes, 'bytes')}"
    )


def tuned_layers(program: Program) -> str:
    """How many layers tuning changed, and what it saved of their time."""
    times = [each.times for each in program.source.chosen.values() if each.times is not None]
    if not times:
        return "tuning changed no layer: what is taken untuned was fastest, or the machine too busy"
    before, after = sum(t.formula_s for t in times), sum(t.seconds for t in times)
    return f"tuning changed {len(times)} layers, which alone ran {before / after:.2f}x faster"


def project(graph: Graph, structure: Structure) -> tuple[Graph, list[tuple[str, str]]]:
    """Every weight that can carry the structure moved to its nearest member, and what was done.

    Raises:
        StructureError: no layer can carry it; gives the last reason.
    """
    layers = [(op, weight) for op in graph.ops for weight in graph.weights(op)]
    changed, done = {}, []
    for index, (op, weight) in enumerate(layers):
        refused = structure.applies(weight.shape)
        if index in (0, len(layers) - 1):
            refused = EDGE.format("first" if index == 0 else "last")
        if refused is None:
            values = structure.project(torch.from_numpy(weight.data)).numpy()
            changed[weight.name] = replace(weight, data=values, structure=structure.text)
        done.append((op.output, refused or structure.text))
    if not changed:
        reason = done[-2][1] if len(done) > 2 else done[-1][1]
        raise StructureError(
            f"structure {structure.text!r} suits none of the {len(layers)} layers ({reason}); "
            "see 'cofit list structures'"
        )
    return graph.with_tensors(changed), done
