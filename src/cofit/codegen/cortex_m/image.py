"""What a linked ELF holds: bytes of flash and RAM, and who owns them."""

from __future__ import annotations

import bisect
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from cofit.core import EmulationError


@dataclass(frozen=True)
class Symbol:
    """A function or an object; `address` has no Thumb bit."""

    name: str
    address: int
    size: int
    function: bool


@dataclass(frozen=True)
class Segment:
    """Bytes stored in flash at `load_address`."""

    load_address: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Image:
    """A linked program.

    Attributes:
        segments: what is stored in flash, by rising address; includes the initial .data.
        sections: bytes of each allocated section by name.
        symbols: functions and objects by name, one name per address.
        labels: linker-script symbols by name.
    """

    segments: tuple[Segment, ...]
    sections: Mapping[str, int]
    symbols: Mapping[str, Symbol]
    labels: Mapping[str, int]

    @property
    def flash_origin(self) -> int:
        """Address of the vector table."""
        return self.segments[0].load_address

    @property
    def flash_bytes(self) -> int:
        """Bytes of flash from the vector table to the last stored byte."""
        last = self.segments[-1]
        return last.load_address + len(last.data) - self.flash_origin

    @property
    def ram_bytes(self) -> int:
        """Bytes of .data and .bss; the stack is not among them."""
        return self.sections.get(".data", 0) + self.sections.get(".bss", 0)

    @property
    def stack_bytes(self) -> int:
        """Bytes reserved for the stack."""
        return self.labels["cofit_stack_top"] - self.labels["cofit_stack_bottom"]

    def address(self, name: str) -> int:
        """Address of a symbol or label.

        Raises:
            EmulationError: the program has no such symbol.
        """
        if name in self.symbols:
            return self.symbols[name].address
        if name in self.labels:
            return self.labels[name]
        raise EmulationError(f"the linked program has no symbol {name!r}")

    def function(self, name: str) -> Symbol:
        """A function by its C name; gcc may have appended a suffix to a specialised copy.

        Raises:
            EmulationError: the program has no such function.
        """
        for symbol in self.symbols.values():
            if symbol.function and (symbol.name == name or symbol.name.startswith(f"{name}.")):
                return symbol
        raise EmulationError(f"the linked program has no function {name!r}")

    def flash_of(self, function: str) -> int:
        """Bytes of a function and of the constants declared inside it (clang's `function.name`)."""
        inner = function + "."
        return sum(
            symbol.size
            for symbol in self.symbols.values()
            if (symbol.name == function or symbol.name.startswith(inner))
            and self._in_flash(symbol.address)
        )

    def place(self, address: int) -> str:
        """Where an address lies, for people: `function+0x12`, or the bare address."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at >= 0:
            symbol = self._by_address[at]
            if address < symbol.address + max(symbol.size, 1):
                return f"{symbol.name}+0x{address - symbol.address:x}"
        return f"0x{address:08x}"

    def _in_flash(self, address: int) -> bool:
        return 0 <= address - self.flash_origin < self.flash_bytes

    @cached_property
    def _by_address(self) -> list[Symbol]:
        return sorted(self.symbols.values(), key=lambda symbol: symbol.address)

    @cached_property
    def _starts(self) -> list[int]:
        return [symbol.address for symbol in self._by_address]


def read_image(blob: bytes) -> Image:
    """Read a linked ELF file."""
    elf = ELFFile(io.BytesIO(blob))
    segments = [
        Segment(segment["p_paddr"], segment.data())
        for segment in elf.iter_segments("PT_LOAD")
        if segment["p_filesz"]
    ]
    sections: dict[str, int] = {}
    for section in elf.iter_sections():
        if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_size"]:
            sections[section.name] = section["sh_size"]
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    symbols: dict[int, Symbol] = {}
    labels: dict[str, int] = {}
    for entry in table.iter_symbols():
        kind, value = entry["st_info"]["type"], entry["st_value"]
        if kind in ("STT_FUNC", "STT_OBJECT"):
            address = value & ~1 if kind == "STT_FUNC" else value
            symbol = Symbol(entry.name, address, entry["st_size"], kind == "STT_FUNC")
            known = symbols.get(address)
            if known is None or symbol.size > known.size:
                symbols[address] = symbol
        elif kind == "STT_NOTYPE" and not entry.name.startswith("$"):
            labels[entry.name] = value
    return Image(
        tuple(sorted(segments, key=lambda segment: segment.load_address)),
        sections,
        {symbol.name: symbol for symbol in symbols.values()},
        labels,
    )
