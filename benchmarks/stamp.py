"""What a result was measured on, with which versions, and when."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("cofit", "torch", "numpy", "ziglang", "unicorn")


def stamp() -> dict[str, str]:
    """Processor, operating system, Python, packages and UTC time."""
    found = {
        "processor": processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return found | {name: metadata.version(name) for name in PACKAGES}


def processor() -> str:
    """The processor's own name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
