"""Bytes of flash and RAM of a program, from its object files, before anything is linked.

A linker that drops unused sections keeps those reachable by relocations from the entry points and
lays them out in order, each at its alignment; this does the same sums. It is exact unless objects
need functions of the compiler's own library, which `missing` then names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from cofit.core import BuildError

ROOTS = ("Reset_Handler", "cofit_vectors")
_FLASH_ORDER = (".vectors", ".text", ".rodata", ".data")
_RAM_ALIGN = 8  # of .data and .bss in link.ld
_END_ALIGN = 4

Key = tuple[int, int]  # object, section


@dataclass(frozen=True)
class Prediction:
    """What the linked program will hold; see `Image` for the same words after linking."""

    flash_bytes: int
    ram_bytes: int
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Section:
    group: str
    size: int
    align: int
    targets: tuple[Key | str, ...]  # section of the same object, or a global symbol


def predict(objects: Sequence[Path]) -> Prediction:
    """Sizes that linking these objects by `link.ld` will give.

    Raises:
        BuildError: an object file defines no startup code.
    """
    sections: dict[Key, _Section] = {}
    defined: dict[str, Key] = {}
    for index, path in enumerate(objects):
        with path.open("rb") as file:
            _read(index, ELFFile(file), sections, defined)
    absent = [name for name in ROOTS if name not in defined]
    if absent:
        raise BuildError(f"the object files define no {absent[0]}; pass those of `link`")
    live, missing = _reach(sections, defined)
    kept = [section for key, section in sections.items() if key in live]

    flash = 0
    for group in _FLASH_ORDER:
        members = [s for s in kept if s.group == group and s.size]
        if members:
            align = max(s.align for s in members)
            end = _END_ALIGN if group == ".data" else 1
            flash = _up(flash, max(align, _RAM_ALIGN if group == ".data" else 1))
            flash += _up(_extent(members), end)
    ram = 0
    for group in (".data", ".bss"):
        ram += _up(_extent(s for s in kept if s.group == group), _END_ALIGN)
    return Prediction(flash, ram, missing)


def _read(index: int, elf: ELFFile, sections: dict[Key, _Section], defined: dict[str, Key]) -> None:
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    symbols = list(table.iter_symbols())
    places: list[Key | str | None] = []
    for symbol in symbols:
        where = symbol["st_shndx"]
        local = isinstance(where, int)
        places.append((index, where) if local else symbol.name or None)
        if local and symbol["st_info"]["bind"] == "STB_GLOBAL":
            defined[symbol.name] = (index, where)
    targets: dict[int, list[Key | str]] = {}
    for section in elf.iter_sections():
        if isinstance(section, RelocationSection):
            found = targets.setdefault(section["sh_info"], [])
            for relocation in section.iter_relocations():
                place = places[relocation["r_info_sym"]]
                if place is not None:
                    found.append(place)
    for number, section in enumerate(elf.iter_sections()):
        group = "." + section.name.split(".")[1] if section.name.startswith(".") else ""
        if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and group in (*_FLASH_ORDER, ".bss"):
            sections[index, number] = _Section(
                group,
                section["sh_size"],
                max(section["sh_addralign"], 1),
                tuple(targets.get(number, ())),
            )


def _reach(
    sections: dict[Key, _Section], defined: dict[str, Key]
) -> tuple[set[Key], tuple[str, ...]]:
    waiting: list[Key | str] = list(ROOTS)
    live: set[Key] = set()
    missing: dict[str, None] = {}
    while waiting:
        place = waiting.pop()
        if isinstance(place, str):
            if place not in defined:
                if not place.startswith("cofit_"):  # those are labels of the linker script
                    missing[place] = None
                continue
            place = defined[place]
        if place in sections and place not in live:
            live.add(place)
            waiting.extend(sections[place].targets)
    return live, tuple(missing)


def _extent(sections: Iterable[_Section]) -> int:
    size = 0
    for section in sections:
        size = _up(size, section.align) + section.size
    return size


def _up(value: int, align: int) -> int:
    return -(-value // align) * align
