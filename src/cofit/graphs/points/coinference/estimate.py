"""What a design takes on a device, a link and an edge."""

from __future__ import annotations

from dataclasses import dataclass

from cofit.targets.links import DevicePower, Link


@dataclass(frozen=True)
class Estimate:
    """One inference of one design.

    Attributes:
        device_s: computing and packing on the device.
        edge_s: computing and packing on an edge that does nothing else.
        nbytes: both ways, compressed, headers included; 0 for a device-only design.
        overhead_s: of a round trip beside bytes and computing.
    """

    device_s: float
    edge_s: float = 0.0
    nbytes: float = 0.0
    overhead_s: float = 0.0

    def transfer_s(self, link: Link) -> float:
        """Both ways; 0 for a device-only design."""
        if self.nbytes == 0:
            return 0.0
        return 2 * link.latency_s + link.busy_s(self.nbytes) + self.overhead_s

    def latency_s(self, link: Link, load: float = 1.0) -> float:
        """The sum of all, with an edge that takes `load` times as long."""
        return self.device_s + load * self.edge_s + self.transfer_s(link)

    def energy_j(self, power: DevicePower, link: Link) -> float:
        """Of the device: modelled from its declared power."""
        return power.energy_j(self.device_s, self.edge_s, self.transfer_s(link))
