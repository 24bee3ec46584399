"""How rows travel between ranks, and the exact count of what travelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


class Pending(Protocol):
    """Messages under way."""

    def wait(self) -> None:
        """Return when they have arrived.

        Raises:
            CommunicationError: a peer is gone or does not answer in time.
        """
        ...


class Transport(Protocol):
    """One rank's end of the links to its peers."""

    @property
    def rank(self) -> int:
        """From 0."""
        ...

    @property
    def size(self) -> int:
        """Ranks."""
        ...

    def start(
        self, tag: int, outgoing: Sequence[torch.Tensor], incoming: Sequence[torch.Tensor]
    ) -> Pending:
        """Send to and receive from every peer, without waiting.

        Empty tensors, and those at the own rank, are no messages; both ends know the shapes.

        Args:
            tag: the same on both ends, unlike that of any other exchange under way.
            outgoing: per rank; must not be written to until the exchange has been waited for.
            incoming: per rank, filled when it has.
        """
        ...

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by its sum over the ranks, bit for bit the same on all of them.

        Raises:
            CommunicationError: a peer is gone or does not answer in time.
        """
        ...


class Landed:
    """Messages that have arrived already."""

    def wait(self) -> None:
        """Return at once."""


@dataclass
class Traffic:
    """Payload bytes that one rank has sent, by purpose.

    Attributes:
        features: of exchanges while training, forward.
        gradients: of exchanges while training, backward.
        weights: gradients handed to all-reduces while training, once each.
        statistics: of batch norms handed to all-reduces while training, forward and backward.
        setup: node numbers and constant features, once.
        evaluation: exact exchanges while evaluating, and outputs where all are needed.
    """

    features: int = 0
    gradients: int = 0
    weights: int = 0
    statistics: int = 0
    setup: int = 0
    evaluation: int = 0

    def add(self, kind: str, tensors: Sequence[torch.Tensor]) -> None:
        """Count what is sent."""
        setattr(self, kind, getattr(self, kind) + sum(t.nbytes for t in tensors))

    @property
    def exchanged(self) -> int:
        """Features and gradients while training."""
        return self.features + self.gradients


def peers(rank: int, tensors: Sequence[torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
    """The messages among one tensor per rank."""
    return [(j, tensor) for j, tensor in enumerate(tensors) if j != rank and tensor.numel()]
