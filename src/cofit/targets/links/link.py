"""A link between a device and an edge server, and what it takes to send bytes over it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cofit.core import ConfigError


@dataclass(frozen=True)
class Link:
    """A declared link.

    Attributes:
        bandwidth_Mbps: megabits (10^6 bits) per second.
        latency_s: of every message, beside its bytes.

    Raises:
        ConfigError: a bandwidth that is not positive and finite, or a negative latency.
    """

    bandwidth_Mbps: float
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.bandwidth_Mbps < math.inf and 0 <= self.latency_s < math.inf):
            raise ConfigError(
                f"a link of {self.bandwidth_Mbps:g} Mb/s and {self.latency_s:g} s; give a "
                "positive bandwidth and a latency not below 0, both finite"
            )

    def busy_s(self, nbytes: float) -> float:
        """Seconds that these bytes hold the link: 8 bytes / (bandwidth 10^6)."""
        return 8 * nbytes / (self.bandwidth_Mbps * 1e6)

    def transfer_s(self, nbytes: float) -> float:
        """Seconds from the first byte sent to the last byte received."""
        return self.latency_s + self.busy_s(nbytes)
