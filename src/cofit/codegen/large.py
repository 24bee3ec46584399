"""Constants too long for C text: declared in the source, defined in a file of bytes beside it.

A compiler reads a string literal at some ten megabytes per second and holds it many times over;
an assembler copies a file. What is saved for others needs no assembler: there the same constants
are string literals again, after the program.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from cofit.codegen.c_text import declare_union, define_union
from cofit.codegen.kernel import Constant

LARGE_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Large:
    """A constant of one step under a name of its own.

    Attributes:
        symbol: its name for the linker.
        constant: the values; `constant.name` is what the step's code calls it.
    """

    symbol: str
    constant: Constant

    @property
    def declaration(self) -> str:
        """C that declares it at file scope, for use by code of any name."""
        return declare_union(self.constant, self.symbol)

    @property
    def definition(self) -> str:
        """C that defines it, after its declaration."""
        return define_union(self.constant, self.symbol)

    @property
    def data(self) -> bytes:
        """The bytes in memory."""
        values = np.ascontiguousarray(self.constant.values)
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()

    @property
    def assembly(self) -> tuple[str, ...]:
        """Lines that define it for an assembler that finds the bytes in the file SYMBOL.bin."""
        return (
            f".globl {self.symbol}",
            f".hidden {self.symbol}",
            f".balign {max(self.constant.align_bytes, 64)}",
            f"{self.symbol}:",
            f'.incbin "{self.symbol}.bin"',
            ".byte 0",
        )


def linked_files(items: list[Large]) -> dict[str, str | bytes]:
    """Files that define the constants, for `build`; for ELF only.

    The assembly stands in C because compilers take it with any flags.
    """
    if not items:
        return {}
    lines = (".section .rodata", *(line for item in items for line in item.assembly), ".text")
    text = "\n".join("    " + json.dumps(line + "\n") for line in lines)
    files: dict[str, str | bytes] = {f"{items[0].symbol}.c": f"__asm__(\n{text});\n"}
    return files | {f"{item.symbol}.bin": item.data for item in items}
