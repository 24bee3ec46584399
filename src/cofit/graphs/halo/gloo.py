"""Ranks as processes, on `torch.distributed` with gloo. Every wait has an end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from cofit.core import CommunicationError, ConfigError
from cofit.graphs.halo.transport import Pending, peers

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process."""


def is_rank(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started as one rank of several."""
    return all(name in environment for name in VARIABLES)


@contextmanager
def gloo(timeout_s: float) -> Iterator[Gloo]:
    """Join the ranks that the environment names, as torchrun sets it.

    Args:
        timeout_s: of every wait, joining included.

    Raises:
        ConfigError: the environment names no ranks, or the time-out is not positive.
        CommunicationError: not all ranks came in time.
    """
    if not is_rank():
        raise ConfigError(f"no rank: {', '.join(VARIABLES)} are not all set; start with torchrun")
    if timeout_s <= 0:
        raise ConfigError(f"time-out of {timeout_s} s; give a positive one")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        dist.init_process_group("gloo", timeout=timedelta(seconds=timeout_s))
    except (RuntimeError, ValueError) as error:
        raise CommunicationError(
            f"rank {rank} of {size} did not find the others within {timeout_s:g} s; see whether "
            "all were started with one address and port"
        ) from error
    try:
        yield Gloo(timeout_s)
    finally:
        dist.destroy_process_group()


class Gloo:
    """This process's end of the default process group; see `gloo`.

    Args:
        timeout_s: of every wait.
    """

    def __init__(self, timeout_s: float) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._timeout_s = timeout_s

    def start(
        self, tag: int, outgoing: Sequence[torch.Tensor], incoming: Sequence[torch.Tensor]
    ) -> Pending:
        """See `Transport`."""
        works: list[tuple[str, Any]] = []
        peer = self.rank
        try:
            for peer, tensor in peers(self.rank, incoming):
                works.append((f"rank {peer}", dist.irecv(tensor, peer, tag=tag)))
            for peer, tensor in peers(self.rank, outgoing):
                works.append((f"rank {peer}", dist.isend(tensor, peer, tag=tag)))
        except RuntimeError as error:
            raise self._lost(f"rank {peer}") from error
        return _Works(self, works, outgoing)

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """See `Transport`."""
        others = "one of the other ranks"
        try:
            work = dist.all_reduce(tensor, async_op=True)
        except RuntimeError as error:
            raise self._lost(others) from error
        self.wait(others, work)

    def wait(self, who: str, work: Any) -> None:
        """Wait for an operation with others."""
        try:
            work.wait(timedelta(seconds=self._timeout_s))
        except RuntimeError as error:
            raise self._lost(who) from error

    def _lost(self, who: str) -> CommunicationError:
        return CommunicationError(
            f"rank {self.rank} of {self.size}: {who} is gone or did not answer within "
            f"{self._timeout_s:g} s; see why it stopped, then start again from the checkpoint"
        )


class _Works:
    def __init__(
        self, transport: Gloo, works: list[tuple[str, Any]], outgoing: Sequence[torch.Tensor]
    ) -> None:
        self._transport, self._works = transport, works
        self._outgoing = outgoing  # read until they are sent

    def wait(self) -> None:
        while self._works:
            self._transport.wait(*self._works.pop(0))
