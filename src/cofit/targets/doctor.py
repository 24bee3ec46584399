"""What this installation can compile for and run: compilers, emulator, vector units."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cofit.codegen import machine
from cofit.codegen.build import toolchain
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


def cpu_name() -> str:
    """Model name of this CPU; measured tables are valid for it only."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


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
