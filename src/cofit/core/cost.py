"""What a network costs on a target: one row per op, each with its basis; totals are derived."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Basis(StrEnum):
    """How a number was obtained."""

    MEASURED = "measured"
    EMULATED = "emulated"
    SIMULATED = "simulated"
    MODELLED = "modelled"


@dataclass(frozen=True)
class SharedCode:
    """A function that stands once in a program, whichever of its ops call it.

    Its bytes are in the flash of the "(runtime)" row. Compilers fit a function to its callers where
    these agree on an argument, so its size depends on them.

    Attributes:
        function: its name.
        flash_bytes: in the program that the row was taken from.
        general_bytes: fitted to no caller: about the most that it takes in any program.
    """

    function: str
    flash_bytes: int
    general_bytes: int


@dataclass(frozen=True)
class CostRow:
    """Cost of one op (or of the program's fixed part, op = "(runtime)").

    `flash_bytes` adds up over rows. `ram_bytes` is what must be live while this op runs
    (activations and scratch), so its total is the maximum. `spread` is (max - min) / median over
    the repeats of a measurement, None where there is nothing to repeat. `shared` is code that this
    op may call and others may too; the flash of this row is without it.
    """

    op: str
    kind: str
    latency_s: float
    flash_bytes: int
    ram_bytes: int
    basis: Basis
    macs: int = 0
    energy_j: float | None = None
    instructions: int | None = None
    spread: float | None = None
    note: str = ""
    shared: tuple[SharedCode, ...] = ()


@dataclass(frozen=True)
class Cost:
    """Rows and their totals; totals are sums (latency, energy, flash) or maxima (ram) of rows."""

    target: str
    rows: tuple[CostRow, ...]

    @property
    def latency_s(self) -> float:
        """Seconds of one inference, batch 1."""
        return sum(row.latency_s for row in self.rows)

    @property
    def flash_bytes(self) -> int:
        """Bytes of code and constants."""
        return sum(row.flash_bytes for row in self.rows)

    @property
    def ram_bytes(self) -> int:
        """Peak bytes of activations and scratch."""
        return max((row.ram_bytes for row in self.rows), default=0)

    @property
    def energy_j(self) -> float | None:
        """Joules of one inference, None if the target states no energy."""
        return _sum_or_none(row.energy_j for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates really executed."""
        return sum(row.macs for row in self.rows)

    @property
    def instructions(self) -> int | None:
        """Retired instructions, None where they are not counted."""
        total = _sum_or_none(row.instructions for row in self.rows)
        return None if total is None else int(total)

    def totals(self) -> dict[str, float | None]:
        """Totals by budget word: latency (s), flash (B), ram (B), energy (J)."""
        return {
            "latency": self.latency_s,
            "flash": self.flash_bytes,
            "ram": self.ram_bytes,
            "energy": self.energy_j,
        }


def _sum_or_none(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) if present else None
