"""Several ranks in one process, taking turns: deterministic, for semantics and small machines.

Every rank is a thread, but only one runs at a time. A rank runs until it needs a message that has
not been sent; then the next one goes on. Each has its own state of the global generator, so that
dropout does not depend on who ran before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from cofit.core import CommunicationError
from cofit.graphs.halo.transport import Pending, peers

T = TypeVar("T")


def run_ranks(size: int, work: Callable[[InProcess], T]) -> list[T]:
    """Run `work` once per rank and return the results in the order of the ranks.

    The global generator is left as it was found.

    Raises:
        CommunicationError: all ranks wait for messages that nobody sends.
        Exception: what the first failing rank raised.
    """
    world = _World(size)
    results: dict[int, T] = {}

    def live(rank: int) -> None:
        world.turns[rank].acquire()
        try:
            if world.failure is None:
                torch.set_rng_state(world.generator)
                results[rank] = work(InProcess(world, rank))
        except BaseException as error:  # handed to the caller
            world.failure = world.failure or (rank, error)
        world.leave(rank)

    threads = [threading.Thread(target=live, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    world.turns[0].release()
    for thread in threads:
        thread.join()
    torch.set_rng_state(world.generator)
    if world.failure is not None:
        raise world.failure[1]
    return [results[rank] for rank in range(size)]


class _World:
    """Mail, and whose turn it is."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.turns = [threading.Semaphore(0) for _ in range(size)]
        self.alive = set(range(size))
        self.mail: dict[tuple[int, int, int], torch.Tensor] = {}
        self.sums: dict[int, dict[int, torch.Tensor]] = {}
        self.generator = torch.get_rng_state()
        self.failure: tuple[int, BaseException] | None = None
        self.idle = 0

    def pass_turn(self, rank: int, wanted: int) -> None:
        """Let the others run until it is this rank's turn again."""
        self.idle += 1
        if wanted not in self.alive or self.idle > 2 * self.size:
            raise CommunicationError(
                f"rank {rank} waits for rank {wanted}, which sends nothing; all ranks must take "
                "the same steps"
            )
        generator = torch.get_rng_state()
        self._next(rank).release()
        self.turns[rank].acquire()
        torch.set_rng_state(generator)
        if self.failure is not None:
            raise CommunicationError(f"rank {self.failure[0]} failed; rank {rank} stops")

    def leave(self, rank: int) -> None:
        self.alive.discard(rank)
        self.idle = 0
        if self.alive:
            self._next(rank).release()

    def _next(self, rank: int) -> threading.Semaphore:
        after = (other % self.size for other in range(rank + 1, rank + 1 + self.size))
        return self.turns[next(other for other in after if other in self.alive)]


class InProcess:
    """The transport of one of the ranks of `run_ranks`."""

    def __init__(self, world: _World, rank: int) -> None:
        self._world, self.rank = world, rank
        self._reduced = 0

    @property
    def size(self) -> int:
        """Ranks."""
        return self._world.size

    def start(
        self, tag: int, outgoing: Sequence[torch.Tensor], incoming: Sequence[torch.Tensor]
    ) -> Pending:
        """See `Transport`."""
        for peer, tensor in peers(self.rank, outgoing):
            self._world.mail[self.rank, peer, tag] = tensor.clone()
            self._world.idle = 0
        return _Awaited(self._world, self.rank, tag, incoming)

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """See `Transport`."""
        world, number = self._world, self._reduced
        self._reduced += 1
        given = world.sums.setdefault(number, {})
        given[self.rank] = tensor.clone()
        world.idle = 0
        while len(given) < self.size:
            world.pass_turn(self.rank, min(set(range(self.size)) - set(given)))
        # in the order of the ranks, whoever came first
        tensor.copy_(torch.stack([given[rank] for rank in range(self.size)]).sum(0))
        world.sums.pop(number - 2, None)


class _Awaited:
    def __init__(
        self, world: _World, rank: int, tag: int, incoming: Sequence[torch.Tensor]
    ) -> None:
        self._world, self._rank, self._tag, self._incoming = world, rank, tag, incoming

    def wait(self) -> None:
        for peer, tensor in peers(self._rank, self._incoming):
            key = (peer, self._rank, self._tag)
            while key not in self._world.mail:
                self._world.pass_turn(self._rank, peer)
            tensor.copy_(self._world.mail.pop(key))
