"""Many programs in one shared object, or in one ELF on one emulated core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cofit.codegen.cortex_m import CortexMRunner, Emulator, Linked, default_board, link
from cofit.codegen.emit import Source, emit
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.layout import to_memory
from cofit.codegen.machine import Machine, machine
from cofit.codegen.runner import Array, Runner
from cofit.codegen.verify import verify
from cofit.core import CofitError
from cofit.ir import Graph, dequantise_output, quantise_input, run_integer

GUARD_BYTES = 64
HOST = replace(machine("host"), io="native")
PORTABLE = replace(
    machine("cortex-m4"), name="portable", triple=None, flags=(), freestanding=False,
    alignment_bytes=64,
)  # fmt: skip
"""The kernels of a Cortex-M on this CPU, their instructions in plain C."""


@dataclass(frozen=True)
class Shared:
    """Programs linked together; all work in one arena between guards."""

    linked: Linked
    emulator: Emulator
    arena: int


class SharedRunner(CortexMRunner):
    """One program of several in an ELF."""

    def __init__(self, source: Source, shared: Shared) -> None:
        self.source, self.linked, self.emulator = source, shared.linked, shared.emulator
        self._arena = shared.arena
        self._input = source.graph.tensors[source.graph.inputs[0]]
        self._output = source.graph.tensors[source.graph.outputs[0]]

    @property
    def _stepper(self) -> tuple[Emulator, int]:  # type: ignore[override]
        return self.emulator, self._arena


def run_together(graphs: Sequence[Graph], chosen: Machine, optimise: str = "-O3") -> list[Runner]:
    """A runner for each graph, all from one build."""
    sources = [emit(graph, chosen) for graph in graphs]
    if not chosen.freestanding:
        library = build_host(sources, optimise=optimise)
        return [HostRunner(source, library) for source in sources]
    shared = link_together(sources, optimise)
    return [SharedRunner(source, shared) for source in sources]


def link_together(sources: Sequence[Source], optimise: str) -> Shared:
    """One ELF of all programs, on a board that has room for them."""
    chosen = sources[0].machine
    board = replace(default_board(chosen.name), flash_bytes=1 << 26, ram_bytes=1 << 23)
    size = max(source.plan.arena_bytes for source in sources) + 2 * GUARD_BYTES
    files = {f"{source.name}.h": source.header for source in sources}
    units: dict[tuple[str, ...], list[Source]] = {}
    for source in sources:  # a rounding defines its functions once in a translation unit
        used = {name for step in source.steps for name in step.code.support}
        units.setdefault(tuple(sorted(n for n in used if "requantise" in n)), []).append(source)
    for together in units.values():
        files[f"{together[0].name}.c"] = "\n".join(source.source for source in together)
    includes = "".join(f'#include "{source.name}.h"\n' for source in sources)
    calls = "".join(
        f"    {source.name}_run(arena);\n    {source.name}_step(-1, arena);\n" for source in sources
    )
    files["main.c"] = (
        f"{includes}#include <stdint.h>\n"
        f"uint8_t arena[{size}] __attribute__((aligned({max(8, chosen.alignment_bytes)})));\n"
        f"int main(void);\nint main(void)\n{{\n{calls}    return 0;\n}}\n"
    )
    linked = link(files, chosen, board, defines=("-DCOFIT_STEPS", optimise))
    emulator = Emulator(linked.image, chosen)
    emulator.boot()
    return Shared(linked, emulator, linked.image.address("arena") + GUARD_BYTES)


def faults(runner: Runner, source: Source, x: np.ndarray) -> list[str]:
    """What is wrong with a program: step by step, with poisoned arenas, whole, and repeated.

    `x` are real inputs (N, ...); an integer program must equal the integer graph bit for bit.
    """
    try:
        verify(source, runner)
    except CofitError as error:
        return [str(error)]
    graph, native = source.graph, source.machine.io == "native"
    given: Array = x
    if graph.is_integer:
        stored = quantise_input(graph, x)
        given = to_memory(stored) if native else x
    elif native:
        given = to_memory(x)
    found = []
    first = np.asarray(runner.run(given))
    again = np.ascontiguousarray(runner.run(given[::-1])[::-1])
    if first.tobytes() != again.tobytes():
        found.append(f"{source.name}: a batch in another order gives other outputs")
    if graph.is_integer:
        output = graph.outputs[0]
        wanted = run_integer(graph, {graph.inputs[0]: stored})[output]
        expected = to_memory(wanted) if native else dequantise_output(graph, wanted)
        if first.dtype != expected.dtype or not np.array_equal(first, expected):
            found.append(f"{source.name}: {int((first != expected).sum())} outputs differ")
    return found
