"""What every target offers: limits, and the cost of a graph with its basis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cofit.core import Cost
from cofit.ir import Graph


@dataclass(frozen=True)
class Limits:
    """What the hardware has; None is unlimited."""

    flash_bytes: int | None = None
    ram_bytes: int | None = None


class Target(Protocol):
    """Hardware that can say what a graph costs on it."""

    @property
    def name(self) -> str:
        """Name by which the command line knows it, for example "cortex-m4"."""
        ...

    @property
    def limits(self) -> Limits:
        """Memory of the device."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Words that a budget for it may use, of "latency", "flash", "ram", "energy"."""
        ...

    def cost(self, graph: Graph) -> Cost:
        """Rows per op, each with its basis."""
        ...
