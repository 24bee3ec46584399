"""Where a network is cut, and what has to cross each cut.

A network is a row of operations and a classifier. It starts on the device; every `communicate`
moves on to the other side. At most two are allowed, so that the edge server gets one segment. The
classifier runs where the last operation ran.

Source: A. Zhou et al., "GCoDE", DAC 2024, arXiv 2404.05605; modes and casts follow the authors'
BUAA-CI-LAB/GCoDE-Predictor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from cofit.core import CommunicationError, ConfigError, DataError
from cofit.graphs.points.execution import Need, State, needs
from cofit.graphs.points.genotype import Gene
from cofit.graphs.points.network import PointNetwork

MOST_NODES, MOST_CLOUDS = 32_767, 128
"""What the int16 of neighbours and the int8 of clouds on the wire can number."""
CASTS: Mapping[Need, torch.dtype] = {"neighbours": torch.int16, "batch": torch.int8}

Mode = Literal["D", "E", "DE", "ED", "DED"]


@dataclass(frozen=True)
class Cuts:
    """The segments of a network of P operations.

    Attributes:
        start: first operation at the edge; P where there is none.
        stop: the one after the edge's last.
        resume: first operation of the device's second segment.
        mode: sides in their order.
        edge_classifies: the classifier runs at the edge, and logits return.
    """

    start: int
    stop: int
    resume: int
    mode: Mode
    edge_classifies: bool

    @property
    def before(self) -> int:
        """The operation after the last of the device's first segment."""
        return self.start if self.mode == "D" else self.start - 1


def cuts_of(genes: Sequence[Gene]) -> Cuts:
    """The segments that the `communicate` operations make.

    Raises:
        ConfigError: there are more than two of them, or two with nothing between.
    """
    moves = [place for place, gene in enumerate(genes) if gene.op == "communicate"]
    end = len(genes)
    if not moves:
        return Cuts(end, end, end, "D", False)
    if len(moves) == 1:
        return Cuts(moves[0] + 1, end, end, "DE" if moves[0] else "E", True)
    if len(moves) > 2 or moves[1] == moves[0] + 1:
        raise ConfigError(
            f"communicate at positions {', '.join(map(str, moves))}; at most two are allowed, "
            "with an operation between them"
        )
    return Cuts(moves[0] + 1, moves[1], moves[1] + 1, "DED" if moves[0] else "ED", False)


def sides(genes: Sequence[Gene]) -> tuple[int, ...]:
    """0 where an operation runs on the device, 1 at the edge; the last is that of the classifier.

    A `communicate` counts for the side that sends.
    """
    found, side = [], 0
    for gene in genes:
        found.append(side)
        side ^= gene.op == "communicate"
    return (*found, side)


def sent_up(genes: Sequence[Gene]) -> frozenset[Need]:
    """What the device sends beside the features: what the edge's segment reads before it makes it.

    Neighbours if it aggregates before it builds a graph; the points' clouds if it builds a graph
    or pools.
    """
    cuts = cuts_of(genes)
    return needs(genes[cuts.start : cuts.stop])


def sent_down(genes: Sequence[Gene]) -> frozenset[Need]:
    """What returns beside the features, where the device goes on; nothing beside logits.

    The device keeps what it has, so only what the edge has changed returns.
    """
    cuts = cuts_of(genes)
    if cuts.edge_classifies:
        return frozenset()
    ops = {gene.op for gene in genes[cuts.start : cuts.stop]}
    changed: set[Need] = {"neighbours"} if "sample" in ops else set()
    if ops - {"sample"}:
        changed.add("previous")
    return needs(genes[cuts.resume :]) & changed


def run(network: PointNetwork, state: State, start: int, stop: int) -> State:
    """The operations from `start` to before `stop`."""
    for position in range(start, stop):
        state = network.step(position, state)
    return state


def to_wire(state: State, names: frozenset[Need]) -> dict[str, torch.Tensor]:
    """The features and the named parts of a state in the types they travel in.

    Neighbours travel as int16, clouds as int8.

    Raises:
        DataError: more points or clouds than these types can number.
        ValueError: the state lacks a part.
    """
    if "neighbours" in names and len(state.x) > MOST_NODES:
        raise DataError(
            f"{len(state.x)} points in one frame; neighbours travel as int16, which numbers at "
            f"most {MOST_NODES}; send fewer clouds at once"
        )
    found = {"x": state.x}
    for name in sorted(names):
        part = getattr(state, name)
        if part is None:
            raise ValueError(f"the segment needs {name}, which the state does not hold")
        if name == "batch" and len(part) and int(part[-1]) >= MOST_CLOUDS:
            raise DataError(
                f"{int(part[-1]) + 1} clouds in one frame; they travel as int8, which numbers at "
                f"most {MOST_CLOUDS}; send fewer at once"
            )
        found[name] = part.to(CASTS[name]) if name in CASTS else part
    return found


def from_wire(
    tensors: Mapping[str, torch.Tensor], names: frozenset[Need], kept: State | None = None
) -> State:
    """The state that a segment starts from.

    Args:
        tensors: as `to_wire` made them; further ones are ignored.
        names: what must be among them beside the features.
        kept: what the receiver still has.

    Raises:
        CommunicationError: one is missing, or is not what it should be.
    """
    for name in ("x", *sorted(names)):
        if name not in tensors:
            raise CommunicationError(
                f"the peer did not send {name!r}, which this segment needs; start both sides with "
                "the same designs"
            )
    x = tensors["x"]
    if x.dim() != 2 or x.dtype != torch.float32:
        raise CommunicationError(
            f"features of shape {tuple(x.shape)}, {x.dtype} arrived; they are (points, d) float32"
        )
    parts = {} if kept is None else {name: getattr(kept, name) for name in CASTS}
    if kept is not None:
        parts["previous"] = kept.previous
    for name in names:
        part = tensors[name].long() if name in CASTS else tensors[name]
        _checked(name, part, len(x))
        parts[name] = part
    return State(x, **parts)


def logits_of(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The scores in the tensors of a message.

    Raises:
        CommunicationError: there are none.
    """
    if "logits" not in tensors:
        raise CommunicationError("the peer did not send 'logits', which this design ends with")
    return tensors["logits"]


def _checked(name: Need, part: torch.Tensor, points: int) -> None:
    """Refuse what kernels would read beyond its end."""
    good = len(part) == points if part.dim() else False
    if good and name == "neighbours":
        good = part.dim() == 2 and int(part.min()) >= 0 and int(part.max()) < points
    if good and name == "batch":
        steps = part.diff()
        good = part.dim() == 1 and int(part[0]) == 0 and bool(((steps == 0) | (steps == 1)).all())
        good = good and points % (int(part[-1]) + 1) == 0
    if not good:
        raise CommunicationError(
            f"{name} of shape {tuple(part.shape)} do not fit {points} points; the peer is broken"
        )


def run_local(network: PointNetwork, clouds: torch.Tensor) -> torch.Tensor:
    """(clouds, classes) scores of the whole network in this process, on one thread."""
    with one_thread(), torch.no_grad():
        return network(clouds)  # type: ignore[no-any-return]


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, so that both sides round alike whatever their cores are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
