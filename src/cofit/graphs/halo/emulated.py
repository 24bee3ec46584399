"""A declared link between ranks of one machine: transfers also take the time they would there.

Loopback copies burn the cores that compute. Here the remaining time is slept, which leaves the core
to the computation, so that what overlaps on a real link overlaps here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from cofit.core import ConfigError
from cofit.graphs.halo.transport import Pending, Transport, peers

CLOCK_TAG = 1 << 30
"""Added to the tag of an exchange for its times of arrival."""


class Emulated:
    """A transport whose outgoing link has a bandwidth and a latency.

    A rank's messages leave one after another at the bandwidth and arrive a latency later. All ranks
    must read one clock, as processes of one machine do. An all-reduce takes the time of a ring.

    Args:
        inner: what really carries the messages.
        bandwidth_Bps: bytes per second.
        latency_s: of every message.

    Raises:
        ConfigError: a bandwidth that is not positive or a negative latency.
    """

    def __init__(self, inner: Transport, bandwidth_Bps: float, latency_s: float) -> None:
        if bandwidth_Bps <= 0 or latency_s < 0:
            raise ConfigError(
                f"a link of {bandwidth_Bps:g} B/s and {latency_s:g} s; give a positive bandwidth "
                "and a latency not below 0"
            )
        self._inner = inner
        self._bandwidth, self._latency = bandwidth_Bps, latency_s
        self._free = 0.0
        self.rank, self.size = inner.rank, inner.size

    def start(
        self, tag: int, outgoing: Sequence[torch.Tensor], incoming: Sequence[torch.Tensor]
    ) -> Pending:
        """See `Transport`."""
        leaving = max(time.monotonic(), self._free)
        arrivals = [torch.empty(0, dtype=torch.float64)] * self.size
        for peer, tensor in peers(self.rank, outgoing):
            leaving += tensor.nbytes / self._bandwidth
            arrivals[peer] = torch.tensor([leaving + self._latency], dtype=torch.float64)
        self._free = leaving
        due = [arrivals[self.rank]] * self.size
        for peer, _ in peers(self.rank, incoming):
            due[peer] = torch.zeros(1, dtype=torch.float64)
        clock = self._inner.start(tag + CLOCK_TAG, arrivals, due)
        return _Due(clock, self._inner.start(tag, outgoing, incoming), due)

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """See `Transport`."""
        start = time.monotonic()
        self._inner.all_reduce(tensor)
        steps = 2 * (self.size - 1)
        seconds = steps * (tensor.nbytes / self.size / self._bandwidth + self._latency)
        _sleep_until(start + seconds)


class _Due:
    def __init__(self, clock: Pending, payload: Pending, due: list[torch.Tensor]) -> None:
        self._clock, self._payload, self._due = clock, payload, due

    def wait(self) -> None:
        self._payload.wait()
        self._clock.wait()
        _sleep_until(max((float(t) for t in self._due if len(t)), default=0.0))


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0.0))
