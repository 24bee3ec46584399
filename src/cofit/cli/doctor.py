"""`cofit doctor`: what works on this machine."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata

from cofit.cli.console import console, table
from cofit.codegen import compile as compile_program
from cofit.codegen.cortex_m import CORES
from cofit.core import CofitError, atomic_write, cache_dir
from cofit.data import known_data
from cofit.ir.attributes import Linear
from cofit.targets import OpSignature, one_op_graph, toolchain_report

PACKAGES = ("cofit", "torch", "numpy", "scipy", "scikit-learn", "onnxruntime", "openvino")


def doctor_command() -> int:
    """Print the state of this installation; 0 if the core works, else 2."""
    out = console()
    versions = [("python", platform.python_version()), *((p, _version(p)) for p in PACKAGES)]
    out.print(table(("package", "version"), versions))
    tools = [(tool.name, tool.version or "absent", tool.purpose) for tool in toolchain_report()]
    out.print(table(("\ntool", "\nversion", "\npurpose"), tools))
    data = [(s.name, "found" if s.available() else "absent; set COFIT_DATA") for s in known_data()]
    out.print(table(("\ndata", "\nstate"), data))
    checks = {f"cache {str(cache_dir())!r}": _cache, "compile and run on host": _host}
    checks |= {f"compile and run on {core}": _emulated(core) for core in CORES}
    results = [(name, _outcome(check)) for name, check in checks.items()]
    out.print(table(("\ncheck", "\nresult"), results))
    works = all(result == "ok" for _, result in results)
    out.print("\ncofit works here" if works else "\ncofit does not work here; mend what failed")
    return 0 if works else 2


def _outcome(check: Callable[[], None]) -> str:
    try:
        check()
    except (CofitError, OSError) as error:
        return f"failed: {error}"
    return "ok"


def _cache() -> None:
    probe = cache_dir() / "doctor"
    with atomic_write(probe) as file:
        file.write(b"writable")
    probe.unlink()


def _host() -> None:
    signature = OpSignature(Linear(), ((1, 8),), (4, 8))
    compile_program(one_op_graph(signature, "doctor"), "host")


def _emulated(core: str) -> Callable[[], None]:
    def check() -> None:
        signature = OpSignature(Linear(), ((1, 8),), (4, 8), precision="int8")
        compile_program(one_op_graph(signature, "doctor"), core)

    return check


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
