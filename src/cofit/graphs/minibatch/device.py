"""A device that this machine plays: a link that takes its declared time, memory with an end.

The computation is real. Transfers also sleep for as long as a link of the declared bandwidth would
need, which leaves the core free, so that what overlaps on a real link overlaps here.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cofit.core import ConfigError, TargetError, format_quantity


@dataclass(frozen=True)
class Device:
    """What features travel to.

    Args:
        bandwidth_Bps: of the emulated link, bytes per second.
        latency_s: of every transfer.
        memory_bytes: that training may occupy at any time; None for no end.

    Raises:
        ConfigError: a value out of range.
    """

    bandwidth_Bps: float = 2e9
    latency_s: float = 100e-6
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.bandwidth_Bps <= 0 or self.latency_s < 0:
            raise ConfigError(
                f"a link of {self.bandwidth_Bps:g} B/s and {self.latency_s:g} s; give a positive "
                "bandwidth and a latency not below 0"
            )
        if self.memory_bytes is not None and self.memory_bytes < 1:
            raise ConfigError(f"{self.memory_bytes} bytes of memory; give a positive number")

    @property
    def text(self) -> str:
        """Of the link, for people."""
        latency = format_quantity(self.latency_s, "time")
        return f"emulated {self.bandwidth_Bps / 1e9:g} GB/s, {latency}"

    def transfer_s(self, nbytes: float) -> float:
        """Seconds that the link needs; nothing travels for nothing."""
        return self.latency_s + nbytes / self.bandwidth_Bps if nbytes else 0.0

    def send(self, nbytes: int) -> None:
        """Take the time of a transfer."""
        time.sleep(self.transfer_s(nbytes))


class Arena:
    """Bytes that are occupied now, and the most there ever were.

    What is announced (`hold`) and every tensor that PyTorch makes under `watch` counts, from when
    it is made until its memory is freed. This is a count of live bytes; an allocator's rounding
    and fragmentation are not in it.

    Args:
        capacity_bytes: None for no end.
    """

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.live_bytes = 0
        self.peak_bytes = 0
        self._lock = threading.RLock()

    def hold(self, nbytes: int) -> None:
        """Occupy bytes.

        Raises:
            TargetError: there is no room for them.
        """
        with self._lock:
            if self.capacity_bytes is not None and self.live_bytes + nbytes > self.capacity_bytes:
                raise TargetError(
                    f"the device has {format_quantity(self.capacity_bytes, 'bytes')} and training "
                    f"needs {format_quantity(self.live_bytes + nbytes, 'bytes')} at once; choose "
                    "a smaller batch, fan-out or cache"
                )
            self.live_bytes += nbytes
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def release(self, nbytes: int) -> None:
        """Free bytes."""
        with self._lock:
            self.live_bytes -= nbytes

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count every tensor that PyTorch makes on this thread, backward passes included."""
        with _Watch(self):
            yield


class _Watch(TorchDispatchMode):
    def __init__(self, arena: Arena) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._arena = arena

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        known = {s._cdata for s in _storages((args, kwargs))}
        for storage in _storages(made):
            if storage._cdata not in known:
                known.add(storage._cdata)
                nbytes = storage.nbytes()
                self._arena.hold(nbytes)
                weakref.finalize(storage, self._arena.release, nbytes).atexit = False
        return made


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
            yield leaf.untyped_storage()
