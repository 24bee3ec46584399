"""The halo exchange: one autograd Function for every policy and transport.

Forward, a rank sends rows of its inner nodes and appends what arrives to its own. Backward, it
sends the gradients of what it was lent to the owners and adds those it receives to its own. The
policy decides which rows go, their factor, and whether this step's messages or those of the step
before are read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from cofit.core import CommunicationError
from cofit.graphs.adjacency import Adjacency
from cofit.graphs.halo.parts import Part
from cofit.graphs.halo.policy import Exact, Policy
from cofit.graphs.halo.transport import Landed, Pending, Traffic, Transport

_LAYERS = 64
_FORWARD, _BACKWARD, _APART = range(3)


@dataclass
class _Transfer:
    """Messages under way, and where they arrive, per peer."""

    pending: Pending
    received: list[torch.Tensor]

    def land(self) -> list[torch.Tensor]:
        self.pending.wait()
        self.pending = Landed()
        return self.received


class HaloExchange:
    """One rank's exchange of rows, for all layers of a model.

    The numbers of the nodes that will travel are sent once and compared.

    Args:
        part: this rank's share.
        transport: to the owners of the other shares.
        policy: the same on all ranks.

    Attributes:
        traffic: what this rank has sent.
        waited_s: time that steps have stood still for messages, evaluation not counted.

    Raises:
        CommunicationError: the ranks are not as many as the parts, hold different partitions, or
            one does not answer.
    """

    def __init__(self, part: Part, transport: Transport, policy: Policy | None = None) -> None:
        if (part.rank, part.size) != (transport.rank, transport.size):
            raise CommunicationError(
                f"part {part.rank} of {part.size} on rank {transport.rank} of {transport.size}; "
                "start as many ranks as there are parts"
            )
        self.part, self.transport = part, transport
        self.policy = Exact() if policy is None else policy
        self.traffic = Traffic()
        self.waited_s = 0.0
        self._step = 0
        self._apart = 0
        self._features: dict[int, _Transfer] = {}
        self._gradients: dict[int, _Transfer] = {}
        self._averages: dict[str, list[torch.Tensor]] = {}
        self._drawn: dict[tuple[int, int, int], torch.Tensor | None] = {}
        self._verify()

    def _verify(self) -> None:
        part = self.part
        sent = [part.inner[positions] for positions in part.send]
        found = [torch.full_like(nodes, -1) for nodes in part.halo]
        self._now(self._tag(_APART), sent, found, "setup")
        for peer, (nodes, expected) in enumerate(zip(found, part.halo, strict=True)):
            if not torch.equal(nodes, expected):
                raise CommunicationError(
                    f"rank {part.rank} expects other nodes than rank {peer} sends; give all ranks "
                    "one graph and one partition"
                )

    def begin(self, step: int) -> None:
        """Draw what travels at a step, the same for all layers; counted from 0."""
        self._step = step
        self._drawn = {key: rows for key, rows in self._drawn.items() if key[0] >= step - 2}

    @property
    def adjacency(self) -> Adjacency:
        """The edges from the inner nodes and the halo rows that this step reads."""
        return self.part.local([self._used(self._step, peer) for peer in range(self.part.size)])

    def __call__(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        """Append the halo of this step to the rows (m, d) of the inner nodes.

        Returns:
            (m + rows, d), one row per source of `adjacency`.
        """
        result: torch.Tensor = _Exchange.apply(x, self, layer)  # type: ignore[no-untyped-call]
        return result

    def exact(self, x: torch.Tensor, kind: str = "evaluation") -> torch.Tensor:
        """Append the whole halo as it is now; without gradients, apart from the buffers.

        Args:
            x: (m, d) rows of the inner nodes.
            kind: of `traffic`.
        """
        sent = [x.index_select(0, positions) for positions in self.part.send]
        found = [x.new_empty(len(nodes), x.shape[1]) for nodes in self.part.halo]
        return torch.cat([x, *self._now(self._tag(_APART), sent, found, kind)])

    def drain(self) -> None:
        """Wait for everything under way; afterwards no message is left."""
        for transfer in (*self._features.values(), *self._gradients.values()):
            transfer.land()

    def state_dict(self) -> dict[str, Any]:
        """The buffers of a delayed policy and the count of bytes."""
        self.drain()
        return {
            "features": {layer: t.received for layer, t in self._features.items()},
            "gradients": {layer: t.received for layer, t in self._gradients.items()},
            "averages": dict(self._averages),
            "traffic": vars(self.traffic).copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._features = {k: _Transfer(Landed(), v) for k, v in state["features"].items()}
        self._gradients = {k: _Transfer(Landed(), v) for k, v in state["gradients"].items()}
        self._averages = dict(state["averages"])
        self.traffic = Traffic(**state["traffic"])

    def forward(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        """What `__call__` gives, without its gradient."""
        step, part = self._step, self.part
        sent = []
        for peer, positions in enumerate(part.send):
            rows = self._sent(step, peer)
            taken = positions if rows is None else positions[rows]
            sent.append(self._scaled(x.index_select(0, taken), len(positions)))
        arriving = [self._rows(step, p, part.rank, len(nodes)) for p, nodes in enumerate(part.halo)]
        found = [x.new_zeros(self._count(r, len(n)), x.shape[1])
                 for r, n in zip(arriving, part.halo, strict=True)]  # fmt: skip
        tag = self._tag(_FORWARD, layer)
        if not self.policy.delay:
            return torch.cat([x, *self._now(tag, sent, found, "features")])
        before = self._features.get(layer)
        if before is None:
            used = [self._used(step, peer) for peer in range(part.size)]
            read = [x.new_zeros(self._count(r, len(n)), x.shape[1])
                    for r, n in zip(used, part.halo, strict=True)]  # fmt: skip
        else:
            read = self._smooth(f"features {layer}", self._land(before), self.policy.gamma_feat)
        self._features[layer] = self._start(tag, sent, found, "features")
        return torch.cat([x, *read])

    def backward(self, gradient: torch.Tensor, layer: int) -> torch.Tensor:
        """From the gradient of the rows of `adjacency` to that of the inner rows."""
        step, part = self._step, self.part
        used = [self._used(step, peer) for peer in range(part.size)]
        counts = [self._count(r, len(n)) for r, n in zip(used, part.halo, strict=True)]
        inner, *halo = gradient.split([part.num_inner, *counts])
        sent = [
            self._scaled(rows, len(nodes)).clone()  # autograd may write to its gradients
            for rows, nodes in zip(halo, part.halo, strict=True)
        ]
        delay = self.policy.delay
        lent = [self._sent(step - delay, peer) for peer in range(part.size)]
        found = [gradient.new_zeros(self._count(r, len(s)), gradient.shape[1])
                 for r, s in zip(lent, part.send, strict=True)]  # fmt: skip
        tag = self._tag(_BACKWARD, layer)
        result: torch.Tensor = inner.clone()
        if not delay:
            received = self._now(tag, sent, found, "gradients")
        else:
            before = self._gradients.get(layer)
            received = [] if before is None else self._smooth(
                f"gradients {layer}", self._land(before), self.policy.gamma_grad
            )  # fmt: skip
            lent = [self._sent(step - 1 - delay, peer) for peer in range(part.size)]
            self._gradients[layer] = self._start(tag, sent, found, "gradients")
        for rows, positions, terms in zip(lent, part.send, received, strict=False):
            result.index_add_(0, positions if rows is None else positions[rows], terms)
        return result

    def _rows(self, step: int, owner: int, peer: int, count: int) -> torch.Tensor | None:
        key = step, owner, peer
        if key not in self._drawn:
            rows = None if owner == peer else self.policy.rows(step, owner, peer, count)
            self._drawn[key] = rows
        return self._drawn[key]

    def _sent(self, step: int, peer: int) -> torch.Tensor | None:
        return self._rows(step, self.part.rank, peer, len(self.part.send[peer]))

    def _used(self, step: int, peer: int) -> torch.Tensor | None:
        count = len(self.part.halo[peer])
        return self._rows(step - self.policy.delay, peer, self.part.rank, count)

    def _scaled(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        factor = self.policy.factor(count, len(rows))
        return rows if factor == 1.0 else rows * factor

    @staticmethod
    def _count(rows: torch.Tensor | None, count: int) -> int:
        return count if rows is None else len(rows)

    def _smooth(
        self, name: str, received: list[torch.Tensor], gamma: float | None
    ) -> list[torch.Tensor]:
        if gamma is None:
            return received
        average = self._averages.get(name) or [torch.zeros_like(rows) for rows in received]
        self._averages[name] = [
            gamma * mean + (1 - gamma) * rows for mean, rows in zip(average, received, strict=True)
        ]
        return self._averages[name]

    def _tag(self, way: int, layer: int = 0) -> int:
        """Holds the step, so that a fast rank's messages are not taken for those of another."""
        if way == _APART:
            self._apart += 1
        number = self._apart if way == _APART else self._step
        return ((number * _LAYERS + layer) * 3 + way) % (1 << 30)

    def _start(
        self, tag: int, sent: Sequence[torch.Tensor], found: list[torch.Tensor], kind: str
    ) -> _Transfer:
        self.traffic.add(kind, sent)
        return _Transfer(self.transport.start(tag, sent, found), found)

    def _now(
        self, tag: int, sent: Sequence[torch.Tensor], found: list[torch.Tensor], kind: str
    ) -> list[torch.Tensor]:
        return self._land(self._start(tag, sent, found, kind), kind != "evaluation")

    def _land(self, transfer: _Transfer, timed: bool = True) -> list[torch.Tensor]:
        start = time.monotonic()
        received = transfer.land()
        self.waited_s += timed * (time.monotonic() - start)
        return received


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, exchange: HaloExchange, layer: int) -> torch.Tensor:
        ctx.exchange, ctx.layer = exchange, layer
        return exchange.forward(x, layer)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.exchange.backward(gradient, ctx.layer), None, None
