"""Power of a device that computes, sends, or waits for its edge server, from published figures.

Source: A. Zhou et al., "GCoDE: Efficient Device-Edge Co-Inference for GNNs via
Architecture-Mapping Co-Search", DAC 2024, arXiv 2404.05605.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cofit.core import UnknownNameError
from cofit.core.quantities import HardwareFile

_TOP: dict[str, type] = {"name": str, "about": str, "source": dict, "power": dict}
_POWER = {"compute": "power", "idle": "power", "radio": "power"}


@dataclass(frozen=True)
class DevicePower:
    """What a battery gives in each state.

    Attributes:
        name: of the file.
        compute_w: while the device computes.
        idle_w: while it waits for the edge server.
        radio_w: while it sends or receives.
        facts: what a report says of where the numbers come from.
    """

    name: str
    compute_w: float
    idle_w: float
    radio_w: float
    facts: Mapping[str, str] = field(default_factory=dict)

    def energy_j(self, device_s: float, edge_s: float, transfer_s: float) -> float:
        """Energy of one inference: modelled, not metered.

        Args:
            device_s: computing on the device.
            edge_s: computing on the edge server, while the device waits.
            transfer_s: on the link, both ways.
        """
        return self.compute_w * device_s + self.idle_w * edge_s + self.radio_w * transfer_s


def link_devices() -> tuple[str, ...]:
    """Names of the devices that come with cofit."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.toml")))


@functools.cache
def link_device(name: str) -> DevicePower:
    """A device that comes with cofit.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in link_devices():
        raise UnknownNameError("device", name, link_devices())
    return read_link_device(Path(__file__).with_name(f"{name}.toml"))


def read_link_device(path: Path) -> DevicePower:
    """A device from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, or a number lacks unit or source.
    """
    file = HardwareFile(path, "device", _TOP, _TOP)
    power = file.numbers(file.document["power"], "power", _POWER)
    return DevicePower(
        name=file.document["name"],
        compute_w=power["compute"],
        idle_w=power["idle"],
        radio_w=power["radio"],
        facts={"device": file.document["about"], **file.facts()},
    )
