"""Link generated C into a freestanding Cortex-M program that fits a board's board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from cofit.codegen.build import DEFAULT_COMPILER, WARNINGS, build
from cofit.codegen.cortex_m.boards import STACK_BYTES, Board
from cofit.codegen.cortex_m.image import Image, read_image
from cofit.codegen.machine import Machine
from cofit.core import TargetError

_HERE = Path(__file__).parent
RUNTIME = ("startup.c", "memory.c")
CODE = (
    "-O3", "-g0", "-fomit-frame-pointer", "-ffunction-sections", "-fdata-sections",
    "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-fno-math-errno",
)  # fmt: skip
_GCC_CPU = {
    "cortex-m4": ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16"),
    "cortex-m7": ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16"),
}


@dataclass(frozen=True)
class Linked:
    """A program: the ELF file, its content, and the object files it was made of."""

    elf: Path
    image: Image
    objects: tuple[Path, ...]


def link(
    sources: Mapping[str, str],
    machine: Machine,
    board: Board,
    compiler: str = DEFAULT_COMPILER,
    defines: tuple[str, ...] = (),
) -> Linked:
    """Compile and link, or take the result of an earlier equal call.

    Args:
        sources: text by file name (.c and .h); one of them defines `int main(void)`, which
            runs after reset and ends the program by returning.
        machine: cortex-m4 or cortex-m7.
        board: where flash and RAM lie, and their sizes.
        compiler: "zig" or the name of a gcc on PATH ("arm-none-eabi-gcc").
        defines: preprocessor flags, for example ("-DCOFIT_STEPS",).

    Raises:
        BuildError: the compiler is missing or refused the code.
        TargetError: the program does not fit the board; the text names every section.
    """
    headers = {name: text for name, text in sources.items() if name.endswith(".h")}
    cpu = cpu_flags(machine, compiler)
    flags = (*WARNINGS, *CODE, *cpu, "-c")
    objects = [
        build({name: text, **headers}, (*flags, *defines), f"{Path(name).stem}.o", compiler)
        for name, text in sources.items()
        if name.endswith(".c")
    ]
    # without -fno-builtin the loop inside memcpy would become a call of memcpy
    own = "-fno-builtin" if compiler == "zig" else "-fno-tree-loop-distribute-patterns"
    for name in RUNTIME:
        text = (_HERE / name).read_text(encoding="utf-8")
        objects.append(build({name: text}, (*flags, "-Os", own), f"{Path(name).stem}.o", compiler))
    script = Template((_HERE / "link.ld").read_text(encoding="utf-8")).substitute(
        flash_origin=hex(board.flash_origin),
        ram_origin=hex(board.ram_origin),
        stack_bytes=STACK_BYTES,
    )
    elf = build(
        {"link.ld": script},
        (
            *cpu, "-nostdlib", "-Wl,--gc-sections", "-Wl,-T,link.ld", "-Wl,-e,Reset_Handler",
            *map(str, objects), "-rtlib=compiler-rt" if compiler == "zig" else "-lgcc",
        ),
        "program.elf",
        compiler,
    )  # fmt: skip
    image = read_image(elf.read_bytes())
    require_fit(image, board)
    return Linked(elf, image, tuple(objects))


def require_fit(image: Image, board: Board) -> None:
    """Raise a TargetError, naming the sections, if a program exceeds a board."""
    ram = image.ram_bytes + image.stack_bytes
    for what, used, limit, names in (
        ("flash", image.flash_bytes, board.flash_bytes, (".vectors", ".text", ".rodata", ".data")),
        ("RAM", ram, board.ram_bytes, (".stack", ".data", ".bss")),
    ):
        if used > limit:
            parts = ", ".join(f"{n} {image.sections[n]}" for n in names if n in image.sections)
            raise TargetError(
                f"the program needs {used} bytes of {what} ({parts}) but board "
                f"{board.name!r} has {limit}; compress it further or choose a larger board"
            )


def cpu_flags(machine: Machine, compiler: str = DEFAULT_COMPILER) -> tuple[str, ...]:
    """Compiler flags of a Cortex-M with its single-precision FPU."""
    if compiler != "zig":
        return (*_GCC_CPU[machine.name], "-mthumb", "-mfloat-abi=hard")
    return ("-target", str(machine.triple), *machine.flags)
