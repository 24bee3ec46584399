"""Runs a generated program on an emulated board."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from cofit.codegen.build import DEFAULT_COMPILER
from cofit.codegen.cortex_m.boards import Board
from cofit.codegen.cortex_m.counter import Profile
from cofit.codegen.cortex_m.cycles import modelled_cycles
from cofit.codegen.cortex_m.emulate import Emulator
from cofit.codegen.cortex_m.link import Linked, link
from cofit.codegen.emit import Source
from cofit.codegen.layout import memory_shape, to_logical
from cofit.codegen.runner import Array, Measurement
from cofit.core import Basis, ModelError, numpy_generator

RUNTIME = "(runtime)"
GUARD_BYTES = 64
GUARD = 0x5C

_MAIN = """\
#include "{name}.h"
#include <stdint.h>

uint8_t {name}_arena[{upper}_ARENA_BYTES] __attribute__((aligned({upper}_ARENA_ALIGN)));

int main(void);

int main(void)
{{
    {name}_run({name}_arena);
    return 0;
}}
"""

_STEPS = """\
#include "{name}.h"
#include <stdint.h>

uint8_t {name}_guarded[{upper}_ARENA_BYTES + 2 * {guard}]
    __attribute__((aligned({upper}_ARENA_ALIGN)));

int main(void);

int main(void)
{{
    {name}_step(-1, {name}_guarded); /* no such step: the linker keeps the function */
    return 0;
}}
"""


class CortexMRunner:
    """A `Runner` whose core is emulated; times are modelled cycles at the board's clock."""

    def __init__(self, source: Source, board: Board, compiler: str = DEFAULT_COMPILER) -> None:
        """Build the program and boot it once.

        Raises:
            BuildError: the compiler is missing or refused the code.
            TargetError: the program does not fit the board.
            EmulationError: it does not come up.
        """
        self.source, self.board, self.compiler = source, board, compiler
        self._functions = list(dict.fromkeys(step.function for step in source.steps))
        self.linked = self._link(_MAIN, ())
        self.emulator = Emulator(
            self.linked.image,
            source.machine,
            steps=self._functions,
            callers=[f"{source.name}_run"],
        )
        self._arena = self.linked.image.address(f"{source.name}_arena")
        self._input = source.graph.tensors[source.graph.inputs[0]]
        self._output = source.graph.tensors[source.graph.outputs[0]]
        self.emulator.boot()

    def run(self, x: Array) -> Array:
        """Outputs (N, ...) of inputs (N, ...) in the tensors' own types and memory order."""
        shape, dtype = memory_shape(self._output.shape), self._output.dtype.value
        rows = [self._infer(row) for row in self._checked(x)]
        return np.frombuffer(b"".join(rows), dtype).reshape(len(rows), *shape[1:])

    def load(self, x: Array, poison: int) -> None:
        """Fill the arena with the byte `poison`, then write one input (1, ...)."""
        emulator, start = self._stepper
        size = max(self.source.plan.arena_bytes, 1)
        guard = bytes([GUARD]) * GUARD_BYTES
        emulator.write(start - GUARD_BYTES, guard + bytes([poison]) * size + guard)
        entry = self.source.offsets[self.source.entry]
        emulator.write(start + entry, self._checked(x).tobytes())

    def step(self, index: int) -> None:
        """Run one step of the source.

        Raises:
            EmulationError: the step crashed or touched memory outside the program's.
        """
        emulator, start = self._stepper
        emulator.call(f"{self.source.name}_step", index, start)

    def read(self, name: str) -> Array:
        """Elements of an activation tensor in the arena, in its logical shape."""
        emulator, start = self._stepper
        tensor = self.source.schedule.graph.tensors[name]
        raw = emulator.read(start + self.source.offsets[name], tensor.nbytes)
        return to_logical(np.frombuffer(raw, tensor.dtype.value).copy(), tensor.shape)

    def overrun(self) -> str | None:
        """None while the bytes around the arena are intact, else where they changed."""
        emulator, start = self._stepper
        guard = bytes([GUARD]) * GUARD_BYTES
        if emulator.read(start - GUARD_BYTES, GUARD_BYTES) != guard:
            return "below the arena"
        if emulator.read(start + max(self.source.plan.arena_bytes, 1), GUARD_BYTES) != guard:
            return "above the arena"
        return None

    def profile(self) -> Profile:
        """Exact counts of one inference on a fixed random input, per function of the steps."""
        shape = memory_shape(self._input.shape)
        rng = numpy_generator(0, "measure", self.source.name)
        if self.source.graph.is_integer:
            x: Array = rng.integers(-128, 128, shape).astype(self._input.dtype.value)
        else:
            x = rng.standard_normal(shape).astype(np.float32)
        self._infer(x[0])
        return self.emulator.profile()

    def measure(self, repeats: int | None = None) -> Measurement:
        """Modelled time of one inference; every repeat would give the same.

        Stripes of a layer share a function: the first of them stands for all.
        """
        profile = self.profile()
        cycles = modelled_cycles(profile, self.emulator.code, self.source.machine)
        seconds = (cycles / self.board.clock_hz).tolist()
        counts = profile.per_context.tolist()
        first = {step.function: step.name for step in reversed(self.source.steps)}
        names = [*(first[function] for function in self._functions), RUNTIME]
        none = {step.name: 0 for step in self.source.steps}
        latency = sum(seconds)
        return Measurement(
            basis=Basis.EMULATED,
            latency_s=latency,
            minimum_s=latency,
            p95_s=latency,
            spread=0.0,
            repeats=1,
            per_step_s={**none, **dict(zip(names, seconds, strict=True))},
            instructions={**none, **dict(zip(names, counts, strict=True))},
        )

    def _infer(self, row: Array) -> bytes:
        source, emulator = self.source, self.emulator
        emulator.write(self._arena + source.offsets[source.entry], row.tobytes())
        emulator.call(f"{source.name}_run", self._arena)
        return emulator.read(self._arena + source.offsets[source.exit], self._output.nbytes)

    @cached_property
    def _stepper(self) -> tuple[Emulator, int]:
        """An emulator of the program that runs by steps, and its arena between two guards."""
        linked = self._link(_STEPS, ("-DCOFIT_STEPS",))
        emulator = Emulator(linked.image, self.source.machine)
        emulator.boot()
        return emulator, linked.image.address(f"{self.source.name}_guarded") + GUARD_BYTES

    def _link(self, main: str, defines: tuple[str, ...]) -> Linked:
        source, name = self.source, self.source.name
        files = {
            f"{name}.c": source.source,
            f"{name}.h": source.header,
            f"{name}_main.c": main.format(name=name, upper=name.upper(), guard=GUARD_BYTES),
        }
        return link(files, source.machine, self.board, self.compiler, defines)

    def _checked(self, x: Array) -> Array:
        shape = memory_shape(self._input.shape)
        if x.shape[1:] != shape[1:]:
            raise ModelError(
                f"program {self.source.name!r} takes inputs {('N', *shape[1:])}, got {x.shape}"
            )
        return np.ascontiguousarray(x, self._input.dtype.value)
