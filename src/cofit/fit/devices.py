"""Devices of fits by the names of their targets."""

from __future__ import annotations

from cofit.fit.device import Device
from cofit.fit.modelled import modelled
from cofit.fit.programs import program_device
from cofit.targets import Modelled, Platform, target


def device(name: str) -> Device:
    """A device by target name.

    Raises:
        UnknownNameError: no such target.
        ConfigError: the target's costs are those of networks that fit does not make.
    """
    found = target(name)
    if isinstance(found, Modelled | Platform):
        return modelled(found)
    return program_device(name)
