"""Targets by the names that people write."""

from __future__ import annotations

from cofit.codegen.cortex_m import CORES, board, boards_of
from cofit.core import TargetError, UnknownNameError
from cofit.targets.arrays import ArrayTarget, chip, known_chips
from cofit.targets.contract import Target
from cofit.targets.cortex_m import CortexM
from cofit.targets.dataflow import Accelerator, accelerator, known_accelerators
from cofit.targets.host import HostTarget
from cofit.targets.platforms import Platform, known_platforms, parameters

Modelled = Accelerator | ArrayTarget
"""Targets whose costs follow from tables of numbers; they compute in integers and run nothing."""


def target(name: str) -> Target:
    """Target by name: "host", "cortex-m4", "cortex-m4:nrf52840", "eyeriss", "forms:8" and so on.

    Raises:
        UnknownNameError: the target or the board is unknown.
        TargetError: the board has another core.
    """
    kind, _, chosen = name.partition(":")
    if kind in CORES:
        found = board(chosen or boards_of(kind)[0])
        if found.core != kind:
            raise TargetError(
                f"board {chosen!r} has a {found.core}, not a {kind}; write {found.core}:{chosen}, "
                f"or one of {', '.join(boards_of(kind))}"
            )
        return CortexM(found)
    if name == "host":
        return HostTarget()
    if name in known_accelerators():
        return Accelerator(accelerator(name))
    if name in known_chips():
        return ArrayTarget(chip(name))
    if name in known_platforms():
        return Platform(parameters(name))
    raise UnknownNameError("target", name, known_targets())


def known_targets() -> tuple[str, ...]:
    """Every name that `target` takes."""
    boarded = tuple(f"{core}:{name}" for core in CORES for name in boards_of(core))
    return ("host", *CORES, *boarded, *known_accelerators(), *known_chips(), *known_platforms())
