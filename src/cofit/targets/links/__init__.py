"""Links between a device and an edge server: time of bytes, emulation, energy of the device."""

from cofit.targets.links.devices import DevicePower, link_device, link_devices, read_link_device
from cofit.targets.links.emulated import EmulatedLink
from cofit.targets.links.link import Link

__all__ = [
    "DevicePower",
    "EmulatedLink",
    "Link",
    "link_device",
    "link_devices",
    "read_link_device",
]
