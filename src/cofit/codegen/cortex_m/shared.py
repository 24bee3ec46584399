"""Functions that the layers of a program share: who calls them, and their bytes in flash.

They stand once in a program however many layers call them, so they are no part of what one layer
costs. In a program of one layer the compiler fits them to that layer's constants, which makes them
smaller than they are for many; so their price is taken from a build that fits them to nothing.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterable

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from cofit.codegen.build import DEFAULT_COMPILER, WARNINGS, build
from cofit.codegen.c_text import support_text
from cofit.codegen.cortex_m.link import CODE, cpu_flags
from cofit.codegen.machine import Machine

_MARK = "#define COFIT_SHARED static"
_SHARED = re.compile(r"^COFIT_SHARED\s+\w+\s+\**(\w+)\(", re.MULTILINE)


@functools.cache
def shared_names(support: tuple[str, ...]) -> frozenset[str]:
    """Shared functions that support files define, those they include among them."""
    return frozenset(_SHARED.findall(support_text(support)))


def shared_bytes(
    support: Iterable[str], machine: Machine, compiler: str = DEFAULT_COMPILER
) -> dict[str, int]:
    """Bytes of each shared function of support files, fitted to no layer.

    Raises:
        BuildError: the compiler is missing or refused.
    """
    # visible from outside, nothing is known of their arguments and none is left out
    text = support_text(support).replace(_MARK, "#define COFIT_SHARED")
    text = f"#include <stddef.h>\n#include <stdint.h>\n{text}"
    flags = (*WARNINGS, *CODE, *cpu_flags(machine, compiler), "-c")
    elf = ELFFile(io.BytesIO(build({"shared.c": text}, flags, "shared.o", compiler).read_bytes()))
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    names = set(_SHARED.findall(text))
    return {s.name: s["st_size"] for s in table.iter_symbols() if s.name in names}
