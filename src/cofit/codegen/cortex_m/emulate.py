"""Run a linked Cortex-M program, instruction by instruction exact, and count what it executes.

The memory map is the program's own: flash is read-only and executable, RAM ends at the page in
which .bss ends, the stack lies lowest. Whatever touches anything else stops the run with an error
that names the place; writes between the end of .bss and the end of its page, or above the stack
pointer that a call began with, are found by guard bytes after the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from unicorn import arm_const as arm
from unicorn import unicorn_const as uc
from unicorn.unicorn_py3.unicorn import Uc, UcError

from cofit.codegen.cortex_m.counter import Counter, Profile
from cofit.codegen.cortex_m.image import Image, Symbol
from cofit.codegen.machine import Machine
from cofit.core import EmulationError

BUDGET_INSTRUCTIONS = 4_000_000_000
_PAGE = 4096
_GUARD = 0x5C
_PAINT = 0xC5
_GUARD_BYTES = 64
_SYSTEM_CONTROL = 0xE000E000
_CORES = {"cortex-m4": arm.UC_CPU_ARM_CORTEX_M4, "cortex-m7": arm.UC_CPU_ARM_CORTEX_M7}
_ACCESS = {
    uc.UC_MEM_READ_UNMAPPED: "read outside flash and RAM",
    uc.UC_MEM_WRITE_UNMAPPED: "wrote outside RAM",
    uc.UC_MEM_FETCH_UNMAPPED: "jumped outside flash",
    uc.UC_MEM_WRITE_PROT: "wrote to flash",
    uc.UC_MEM_READ_PROT: "read protected memory",
    uc.UC_MEM_FETCH_PROT: "jumped into RAM",
}
_ARGUMENTS = (arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3)


class Emulator:
    """A core with a program in its memory."""

    def __init__(
        self,
        image: Image,
        machine: Machine,
        steps: Sequence[str] = (),
        callers: Sequence[str] = (),
    ) -> None:
        """Load a program.

        Args:
            image: the linked program.
            machine: cortex-m4 or cortex-m7.
            steps: functions whose executions, callees included, are counted apart.
            callers: functions that call the steps; what runs in them belongs to no step.
        """
        self._image = image
        self._stop = image.address("cofit_stop")
        self._bottom = image.address("cofit_stack_bottom")
        self._top = image.address("cofit_stack_top")
        self._end = max(image.address("cofit_bss_end"), self._top)
        self._limit = -(-self._end // _PAGE) * _PAGE
        self._fault: tuple[int, int, int] | None = None

        mode = uc.UC_MODE_THUMB | uc.UC_MODE_MCLASS
        engine: Any = Uc(uc.UC_ARCH_ARM, mode)
        engine.ctl_set_cpu_model(_CORES[machine.name])
        flash = -(-image.flash_bytes // _PAGE) * _PAGE
        engine.mem_map(image.flash_origin, flash, uc.UC_PROT_READ | uc.UC_PROT_EXEC)
        rw = uc.UC_PROT_READ | uc.UC_PROT_WRITE
        engine.mem_map(self._bottom, self._limit - self._bottom, rw)
        engine.mem_map(_SYSTEM_CONTROL, _PAGE, rw)
        for segment in image.segments:
            engine.mem_write(segment.load_address, segment.data)
        engine.hook_add(uc.UC_HOOK_MEM_INVALID, self._on_fault)
        self._engine = engine

        functions = [symbol for symbol in image.symbols.values() if symbol.function]
        code_end = max(f.address + f.size for f in functions)
        code = bytes(engine.mem_read(image.flash_origin, code_end - image.flash_origin))
        self.code = code
        present = {f.name for f in functions}
        outside = [n for n in ("Reset_Handler", "main", "cofit_stop", *callers) if n in present]
        self._counter = Counter(
            engine,
            image.flash_origin,
            code,
            [_span(image.function(name)) for name in steps],
            [_span(image.function(name)) for name in outside],
        )

    def boot(self, budget: int = BUDGET_INSTRUCTIONS) -> None:
        """Run the startup code from reset up to the entry of main.

        Raises:
            EmulationError: the program crashed, touched foreign memory, or spent its budget.
        """
        main = self._image.address("main")
        self._run(self._image.address("Reset_Handler"), self._top, "reset", budget, main)

    def call(self, function: str, *arguments: int, budget: int = BUDGET_INSTRUCTIONS) -> int:
        """Call a C function with up to four integer or pointer arguments; returns r0.

        Memory is as the last run left it: call `boot` first if .data or .bss matter.

        Raises:
            EmulationError: the program crashed, touched foreign memory, or spent its budget.
        """
        address = self._image.address(function)
        for register, value in zip(_ARGUMENTS, arguments, strict=False):
            self._engine.reg_write(register, value & 0xFFFFFFFF)
        above = self._top - _GUARD_BYTES
        self._engine.mem_write(above, bytes([_GUARD]) * _GUARD_BYTES)
        self._run(address, above, function, budget)
        if self.read(above, _GUARD_BYTES) != bytes([_GUARD]) * _GUARD_BYTES:
            raise EmulationError(f"{function!r} wrote to the stack of its caller")
        return int(self._engine.reg_read(arm.UC_ARM_REG_R0))

    def write(self, address: int, data: bytes) -> None:
        """Put bytes into memory."""
        self._engine.mem_write(address, data)

    def read(self, address: int, size: int) -> bytes:
        """Take bytes from memory."""
        return bytes(self._engine.mem_read(address, size))

    @property
    def instructions(self) -> int:
        """Instructions retired by the last run."""
        return self._counter.retired

    @property
    def stack_high_water_bytes(self) -> int:
        """Bytes of stack that the last run wrote."""
        stack = np.frombuffer(self.read(self._bottom, self._started - self._bottom), np.uint8)
        touched = np.flatnonzero(stack != _PAINT)
        return int(stack.size - touched[0]) if touched.size else 0

    def profile(self) -> Profile:
        """Counts of the last run."""
        return self._counter.profile()

    def _run(
        self, address: int, stack: int, what: str, budget: int, end: int | None = None
    ) -> None:
        engine = self._engine
        self._fault, self._started = None, stack
        engine.mem_write(self._bottom, bytes([_PAINT]) * (stack - self._bottom))
        engine.mem_write(self._end, bytes([_GUARD]) * (self._limit - self._end))
        engine.reg_write(arm.UC_ARM_REG_SP, stack)
        engine.reg_write(arm.UC_ARM_REG_LR, self._stop | 1)
        self._counter.start(budget)
        try:
            engine.emu_start(address | 1, self._stop if end is None else end)
        except UcError as error:
            raise EmulationError(self._describe(what, error)) from error
        if self._counter.exhausted:
            raise EmulationError(
                f"{what!r} did not end within {budget} instructions; it was in {self._where()}"
            )
        self._counter.finish()
        guard = np.frombuffer(self.read(self._end, self._limit - self._end), np.uint8)
        changed = np.flatnonzero(guard != _GUARD)
        if changed.size:
            raise EmulationError(
                f"{what!r} wrote {int(changed[0])} bytes behind the end of .bss "
                f"(0x{self._end + int(changed[0]):08x})"
            )

    def _on_fault(
        self, engine: Any, access: int, address: int, size: int, value: int, data: Any
    ) -> bool:
        self._fault = (access, address, size)
        return False

    def _where(self) -> str:
        pc = int(self._engine.reg_read(arm.UC_ARM_REG_PC))
        return f"{self._image.place(pc)} (pc 0x{pc:08x})"

    def _describe(self, what: str, error: UcError) -> str:
        if self._fault is None:
            return f"{what!r} crashed in {self._where()}: {error}"
        access, address, size = self._fault
        kind = _ACCESS.get(access, "made an invalid access")
        hint = "; the stack overflowed" if 0 < self._bottom - address <= _PAGE else ""
        return (
            f"{what!r} crashed in {self._where()}: it {kind}, {size} bytes at 0x{address:08x}{hint}"
        )


def _span(function: Symbol) -> tuple[int, int]:
    return function.address, function.size
