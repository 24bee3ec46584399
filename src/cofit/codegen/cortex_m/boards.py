"""Boards: where flash and RAM lie, how fast the core runs, what a cycle costs."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cofit.core import UnknownNameError

DEFAULT_BOARDS = {"cortex-m4": "stm32f446", "cortex-m7": "stm32f746"}
CORES = tuple(DEFAULT_BOARDS)
STACK_BYTES = 4096


@dataclass(frozen=True)
class Board:
    """A microcontroller.

    Attributes:
        name: name in `boards.toml`.
        core: machine name, "cortex-m4" or "cortex-m7".
        clock_hz: highest clock of the core.
        flash_origin: address of flash.
        flash_bytes: size of flash.
        ram_origin: address of the largest RAM in one piece.
        ram_bytes: size of that RAM; the stack is part of it.
        energy_j_per_cycle: typical energy of one cycle, None where no data-sheet figure is known.
        source: where the figures come from.
    """

    name: str
    core: str
    clock_hz: float
    flash_origin: int
    flash_bytes: int
    ram_origin: int
    ram_bytes: int
    energy_j_per_cycle: float | None
    source: str

    @property
    def arena_room_bytes(self) -> int:
        """RAM beside the stack: generated programs keep nothing else there but their arena."""
        return self.ram_bytes - STACK_BYTES


def board(name: str) -> Board:
    """Board by name.

    Raises:
        UnknownNameError: listing the known boards.
    """
    table = _table()
    if name not in table:
        raise UnknownNameError("board", name, table)
    entry = table[name]
    energy = entry["current_a_per_hz"] * entry["supply_v"] if "current_a_per_hz" in entry else None
    flash_origin, flash_bytes = entry["flash"]
    ram_origin, ram_bytes = entry["ram"]
    return Board(
        name,
        entry["core"],
        float(entry["clock_hz"]),
        flash_origin,
        flash_bytes,
        ram_origin,
        ram_bytes,
        energy,
        entry["source"],
    )


def default_board(core: str) -> Board:
    """The board that a bare "cortex-m4" or "cortex-m7" means."""
    return board(DEFAULT_BOARDS[core])


def boards_of(core: str) -> tuple[str, ...]:
    """Names of the boards with this core, the default first."""
    names = [name for name, entry in _table().items() if entry["core"] == core]
    return tuple(sorted(names, key=lambda name: name != DEFAULT_BOARDS[core]))


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    with Path(__file__).with_name("boards.toml").open("rb") as file:
        return tomllib.load(file)
