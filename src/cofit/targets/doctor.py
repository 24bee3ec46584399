"""What this installation can compile for and run: compilers, emulator, vector units."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import metadata

from cofit.codegen import machine
from cofit.codegen.build import toolchain
from cofit.codegen.machine import cpu_name
from cofit.core import BuildError

_COMPILERS = ("zig", "gcc", "clang", "arm-none-eabi-gcc")
_PACKAGES = ("unicorn", "capstone", "pyelftools")


@dataclass(frozen=True)
class Tool:
    """One tool; `version` is None where it is absent."""

    name: str
    version: str | None
    purpose: str


def toolchain_report() -> tuple[Tool, ...]:
    """Compilers, the emulator's packages, and this CPU."""
    tools = [Tool(name, _compiler_version(name), "C compiler") for name in _COMPILERS]
    tools += [Tool(name, _package_version(name), "Cortex-M emulation") for name in _PACKAGES]
    host = machine("host")
    vectors = f"{host.vector_floats} float32 lanes, {host.vector_registers} vector registers"
    return (*tools, Tool("cpu", f"{cpu_name()}; {vectors}", "host target"))


def _compiler_version(name: str) -> str | None:
    if name != "zig" and shutil.which(name) is None:
        return None
    try:
        return toolchain(name).version
    except BuildError:
        return None


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
