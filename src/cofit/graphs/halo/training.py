"""Training on the parts of a graph: the room's loop on every rank, joined by three hooks.

The loader gives the rank's share, a regime appends halos before each layer and sums the gradients,
and the checkpoints of the ranks agree on the step they go on from.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from cofit.core import CommunicationError, ConfigError, derive_seed
from cofit.graphs.graph import MASKS, Graph
from cofit.graphs.halo.exchange import HaloExchange
from cofit.graphs.halo.loader import PartLoader
from cofit.graphs.halo.norms import synchronise
from cofit.graphs.halo.parts import PartitionedGraph
from cofit.graphs.halo.policy import Policy
from cofit.graphs.halo.rank_checkpoint import RankCheckpoint
from cofit.graphs.halo.transport import Traffic, Transport
from cofit.graphs.models import GNN
from cofit.graphs.scores import Metric, accuracy
from cofit.graphs.training import GraphRecipe, Progress, Trained, train_graph
from cofit.regimes import Handle, Regime


@dataclass(frozen=True)
class HaloResult:
    """What one rank knows after a training.

    Attributes:
        trained: the model, the same on all ranks; its losses are those of all ranks together.
        traffic: what this rank sent.
        total: what all ranks sent.
        epoch_s: time of an epoch of this call, median, evaluation not counted; 0 without any.
        waited_s: of that, for the exchanges.
        reduced_s: of that, for the sums of gradients.
    """

    trained: Trained
    traffic: Traffic
    total: Traffic
    epoch_s: float
    waited_s: float
    reduced_s: float


def train_part(
    graph: Graph,
    part: torch.Tensor,
    model: GNN,
    recipe: GraphRecipe,
    transport: Transport,
    *,
    policy: Policy | None = None,
    seed: int = 0,
    first_layer: str = "cached",
    metric: Metric = accuracy,
    checkpoint: tuple[Path, int] | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> HaloResult:
    """Train one model on all parts of a graph, from one rank; all ranks call this alike.

    With an exact exchange and without dropout this is full-graph training, whatever the parts.
    Evaluation is exact, never sampled nor stale; a graph without all masks has none. Losses are
    sums over the training nodes of all ranks over their number, and gradients are summed over the
    ranks. Batch norms take their statistics over the nodes of all ranks, always of this step.

    Args:
        graph: without self-loops, with features, labels and training nodes; some ranks may have
            none of these.
        part: (n,) rank of each node.
        model: the same on all ranks, weights included.
        recipe: the same on all ranks.
        transport: to the other ranks.
        policy: of the layers' exchanges; exact if absent.
        seed: of dropout; each rank derives its own.
        first_layer: "cached" fetches the features of the halo once and never drops any of them;
            "exchanged" treats the first layer as any other.
        metric: of evaluation; for other metrics than accuracy the outputs of all nodes travel.
        checkpoint: folder and steps between two saves; a training that is found there goes on.
        progress: called after every step with (stage, steps done, all steps).

    Raises:
        CommunicationError: the ranks differ, or one is gone.
        ConfigError: no such treatment of the first layer.
        DataError: the graph or the partition does not fit.
        ModelError: the loss is not finite.
    """
    if first_layer not in ("cached", "exchanged"):
        raise ConfigError(f"first layer {first_layer!r}; choose cached or exchanged")
    share = PartitionedGraph.build(graph, part).share(transport.rank)
    exchange = HaloExchange(share, transport, policy)
    first = 1 if first_layer == "cached" else 0
    loader = PartLoader(graph, part, exchange, len(model.layers), first, metric)
    scored = all(getattr(graph, name) is not None for name in MASKS)
    joined = _Joined(exchange, first)
    trained = train_graph(
        model,
        loader,
        recipe,
        evaluate=partial(loader.evaluate, graph) if scored else None,
        seed=derive_seed(seed, "rank", share.rank),
        regime=joined,
        checkpoint=None if checkpoint is None else RankCheckpoint(*checkpoint, transport=transport),
        progress=progress,
    )
    history = trained.history
    losses = torch.tensor(history.losses, dtype=torch.float64)
    transport.all_reduce(losses)
    history.losses = losses.tolist()
    counts = torch.tensor(list(vars(exchange.traffic).values()))
    transport.all_reduce(counts)
    names = vars(exchange.traffic)
    total = Traffic(**dict(zip(names, counts.tolist(), strict=True)))
    seconds = (joined.epoch_s, joined.waited_s, joined.reduced_s)
    return HaloResult(trained, exchange.traffic, total, *(median(s or [0.0]) for s in seconds))


class _Joined(Regime):
    """Halos before layers, sums of gradients and statistics over ranks, and their buffers."""

    def __init__(self, exchange: HaloExchange, first: int) -> None:
        self._exchange, self._first = exchange, first
        self._parameters: list[nn.Parameter] = []
        self._began = self._waited = 0.0
        self.epoch_s: list[float] = []
        self.waited_s: list[float] = []
        self.reduced_s: list[float] = []

    @property
    def name(self) -> str:
        """Of its state."""
        return "halo"

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Put an exchange before each layer, and batch norms over all ranks.

        Raises:
            CommunicationError: the ranks begin with different weights.
        """
        assert isinstance(model, GNN)
        self._parameters = list(model.parameters())
        digest = hashlib.sha256(
            b"".join(values.detach().numpy().tobytes() for values in model.state_dict().values())
        ).digest()
        transport = self._exchange.transport
        digests = torch.zeros(transport.size, dtype=torch.int64)
        digests[transport.rank] = int.from_bytes(digest[:7], "little")
        transport.all_reduce(digests)
        if (digests != digests[0]).any():
            raise CommunicationError(
                "the ranks begin with different weights; build the model from one seed on all"
            )
        undo = synchronise(model, transport, self._exchange.traffic)
        return Handle(undo, *(
            layer.register_forward_pre_hook(self._hook(number)).remove
            for number, layer in enumerate(model.layers) if number >= self._first
        ))  # fmt: skip

    def _hook(self, layer: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        def exchange(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            adjacency, x = given
            halo = self._exchange
            return adjacency, halo(x, layer) if module.training else halo.exact(x)

        return exchange

    def before_step(self, step: int, total: int) -> None:
        """Start the clock."""
        self._began, self._waited = time.monotonic(), self._exchange.waited_s

    def after_step(self) -> None:
        """Stop the clock."""
        self.epoch_s.append(time.monotonic() - self._began)
        self.waited_s.append(self._exchange.waited_s - self._waited)

    def after_backward(self) -> None:
        """One all-reduce of all gradients."""
        start = time.monotonic()
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self._exchange.traffic.add("weights", [flat])
        self._exchange.transport.all_reduce(flat)
        for gradient, values in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(values.view_as(gradient))
        self.reduced_s.append(time.monotonic() - start)

    def finalize(self, model: nn.Module) -> nn.Module:
        """Leave no message under way."""
        self._exchange.drain()
        return model

    def state_dict(self) -> dict[str, Any]:
        """Of the exchange."""
        return self._exchange.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._exchange.load_state_dict(state)
