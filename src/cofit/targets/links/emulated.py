"""A declared link on one machine: what is sent also takes the time it would take there.

Loopback is as good as free. The time of the link is slept, which leaves the cores to those who
compute, so that what overlaps on a real link overlaps here.
"""

from __future__ import annotations

import threading
import time

from cofit.targets.links.link import Link


class EmulatedLink:
    """A medium that carries one message at a time, as radio does; both directions share it.

    Threads may use it at once. Setting `link` changes what is sent from then on.

    Args:
        link: what is emulated.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._lock = threading.Lock()
        self._free_s = 0.0

    def carry(self, nbytes: int) -> float:
        """Return when a message has arrived.

        Returns:
            Seconds that it held the link; queueing for the link and its latency are not among them.
        """
        with self._lock:
            link = self.link
            busy_s = link.busy_s(nbytes)
            self._free_s = max(self._free_s, time.monotonic()) + busy_s
            arrival = self._free_s + link.latency_s
        time.sleep(max(arrival - time.monotonic(), 0.0))
        return busy_s
