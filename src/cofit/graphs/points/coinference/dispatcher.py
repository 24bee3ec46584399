"""Which design of a zoo runs now: the most accurate one that meets the bound on today's link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cofit.core import ConfigError
from cofit.graphs.points.coinference.device import CoInference, Inference
from cofit.graphs.points.coinference.estimate import Estimate
from cofit.targets.links import Link

GAIN = 0.10
"""What a switch must at least gain."""
PATIENCE = 3
"""Frames in a row for which it must."""
FORGETTING = 0.5
"""Weight of the newest observation of link and load."""
FADING = 0.9
"""Of the load believed, with every try of the link, which does not tell the load."""
PROBE_EVERY = 3
"""Device-only frames between two tries of the link, which they do not use."""


@dataclass(frozen=True)
class Entry:
    """A design of the zoo and what it takes.

    Attributes:
        name: of the design.
        accuracy: on the validation part.
        estimate: what it takes.
    """

    name: str
    accuracy: float
    estimate: Estimate


class Monitor:
    """Running estimates of the link's bandwidth and the edge's load.

    Args:
        link: what is believed at first; its latency is kept.
    """

    def __init__(self, link: Link) -> None:
        self.link, self.load = link, 1.0

    def observe(self, expected: Estimate, nbytes: int, transfer_s: float, edge_s: float) -> None:
        """Take the round trip of one frame into account."""
        alone_s = transfer_s - expected.overhead_s - 2 * self.link.latency_s
        seen = 8e-6 * nbytes / max(alone_s, 1e-6)
        # seconds per bit are averaged: a link that breaks down is noticed at the first frame
        inverse = (1 - FORGETTING) / self.link.bandwidth_Mbps + FORGETTING / seen
        self.link = Link(1 / inverse, self.link.latency_s)
        if expected.edge_s > 0:
            self.load += FORGETTING * (edge_s / expected.edge_s - self.load)

    def fade(self) -> None:
        """Believe a little less that the edge is busy: nobody has looked."""
        self.load = 1 + FADING * (self.load - 1)


class Dispatcher:
    """Chooses a design for every frame.

    Wanted is the most accurate entry whose predicted latency meets the bound, or the fastest where
    none does. It replaces the current one when it would for `PATIENCE` frames in a row, by `GAIN`:
    latency lower by this share where the current one misses the bound, else a latency that
    stays below the bound by this share. A lost edge leaves the device-only entries, at once.

    Args:
        entries: at least one, numbered as the designs of the zoo.
        bound_s: on the latency.
        link: believed at first.

    Raises:
        ConfigError: no entries, or a bound that is not positive.
    """

    def __init__(self, entries: Sequence[Entry], bound_s: float, link: Link) -> None:
        if not entries or bound_s <= 0:
            raise ConfigError(
                f"{len(entries)} entries and a bound of {bound_s:g} s; give one or more entries "
                "and a positive bound"
            )
        self.entries, self.bound_s = tuple(entries), bound_s
        self.monitor = Monitor(link)
        self.edge = True
        self.current = self.wanted()
        self.switches: list[tuple[int, int]] = []
        """(frame, entry) of every switch after the first choice."""
        self._frames = self._patient = self._alone = 0
        self._candidate = self.current

    def latencies_s(self) -> list[float]:
        """Of every entry, by today's link and load; infinite for those that need a lost edge."""
        return [
            entry.estimate.latency_s(self.monitor.link, self.monitor.load)
            if self.edge or entry.estimate.nbytes == 0
            else float("inf")
            for entry in self.entries
        ]

    def wanted(self) -> int:
        """The entry that would run if switching cost nothing."""
        latencies = self.latencies_s()
        meeting = [i for i, latency in enumerate(latencies) if latency <= self.bound_s]
        if not meeting:
            return min(range(len(latencies)), key=latencies.__getitem__)
        return max(meeting, key=lambda i: (self.entries[i].accuracy, -latencies[i]))

    def choose(self) -> int:
        """The entry for the next frame."""
        wanted, latencies = self._worthwhile(), self.latencies_s()
        if latencies[self.current] == float("inf"):
            self._switch(wanted)
        elif wanted == self.current:
            self._patient = 0
        else:
            self._patient = self._patient + 1 if wanted == self._candidate else 1
            if self._patient >= PATIENCE:
                self._switch(wanted)
        self._candidate = wanted
        self._frames += 1
        return self.current

    def infer(self, engine: CoInference, clouds: torch.Tensor) -> Inference:
        """One inference by the chosen entry, and what it tells about link and load."""
        self.edge = engine.lost is None
        number = self.choose()
        found = engine.infer(clouds, number)
        if found.by_edge:
            nbytes = found.bytes_up + found.bytes_down
            expected = self.entries[number].estimate
            self.monitor.observe(expected, nbytes, found.transfer_s, found.edge_s)
        elif engine.lost is None:
            self._alone += 1
            if self._alone % PROBE_EVERY == 0:
                self._try_link(engine)
        return found

    def _worthwhile(self) -> int:
        """What is wanted, or the current entry where the change would gain too little."""
        wanted, latencies = self.wanted(), self.latencies_s()
        now = latencies[self.current]
        limit = (1 - GAIN) * (self.bound_s if now <= self.bound_s else now)
        return wanted if latencies[wanted] <= limit else self.current

    def _switch(self, wanted: int) -> None:
        self.current, self._patient = wanted, 0
        self.switches.append((self._frames, wanted))

    def _try_link(self, engine: CoInference) -> None:
        overhead_s = max(entry.estimate.overhead_s for entry in self.entries)
        found = engine.probe()
        idle = Estimate(0.0, overhead_s=overhead_s)
        self.monitor.observe(idle, found.bytes_up + found.bytes_down, found.transfer_s, 0.0)
        self.monitor.fade()
