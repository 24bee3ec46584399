"""How a captured graph is run: which pieces are programs, which stay with eager PyTorch and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import fx

from cofit.core import CofitError
from cofit.dynamo.compile import CompiledPiece, compile_piece, lower
from cofit.dynamo.pieces import Extractor, Piece, Roles, cut, observe
from cofit.ir import Graph

Step = CompiledPiece | fx.GraphModule


@dataclass(frozen=True)
class Held:
    """A weight as it was compiled. Its memory is held, so that no other can take its address."""

    tensor: torch.Tensor
    memory: torch.Tensor
    version: int

    @staticmethod
    def of(tensor: torch.Tensor) -> Held:
        """The weight as it is now."""
        return Held(tensor, tensor.detach(), tensor._version)

    def is_still(self, tensor: torch.Tensor) -> bool:
        """Whether this tensor is the weight and has not changed since."""
        return tensor is self.tensor and not self.is_gone

    @property
    def is_gone(self) -> bool:
        """Whether the weight has other values or memory by now."""
        return (
            self.tensor._version != self.version or self.tensor.data_ptr() != self.memory.data_ptr()
        )


@dataclass(frozen=True)
class Plan:
    """How a graph is run for one shape of its inputs.

    Attributes:
        steps: in turn; those of PyTorch take the numbers after their inputs. None at all means
            that the graph is run as it was captured.
        weights: what the programs were compiled from; empty without steps.
        eager: what runs in eager PyTorch and why, None if nothing does.
    """

    steps: tuple[Step, ...]
    weights: tuple[Held, ...]
    eager: str | None

    def holds(self, weights: Sequence[torch.Tensor]) -> bool:
        """Whether the plan is right for these weights."""
        return all(
            held.is_still(weight) for held, weight in zip(self.weights, weights, strict=False)
        )

    @property
    def is_gone(self) -> bool:
        """Whether it cannot be right again: some weight has changed in place."""
        return any(held.is_gone for held in self.weights)


def make_plan(module: fx.GraphModule, roles: Roles, arguments: Sequence[Any]) -> Plan:
    """Compile what can be compiled, for the weights and shapes of these arguments."""
    # inference_mode: its tensors have no count of changes in place
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        values = dict(zip(roles.placeholders, arguments, strict=True))
        reason = _unsuited(roles, values)
        if reason is not None:
            return Plan((), (), f"all of it ({reason})")
        copies = {n: v.clone() if isinstance(v, torch.Tensor) else v for n, v in values.items()}
        tensors = {n: copy for n, copy in copies.items() if isinstance(copy, torch.Tensor)}
        before = {node: copy._version for node, copy in tensors.items()}
        seen = observe(module, list(copies.values()))
        for node, copy in tensors.items():
            if copy._version != before[node]:
                name = ".".join(roles.paths.get(node, [node.name]))
                return Plan((), (), f"all of it (it changes {name!r} in place)")
        extractor = Extractor(module, roles, seen, values)
        pieces = cut(module, roles, seen)
        parts = _compiled(extractor, pieces, copies[roles.inputs[0]])
        weights = tuple(Held.of(values[node]) for node in roles.weights)
    whys = {why: None for _, _, why in parts if why is not None}
    if not whys:
        return Plan(tuple(step for _, step, _ in parts), weights, None)
    if all(why is not None for _, _, why in parts):
        return Plan((), (), f"all of it ({'; '.join(whys)})")
    names = [node.name for piece, _, why in parts if why for node in piece.nodes]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more calls" if len(names) > 5 else "")
    return Plan(tuple(step for _, step, _ in parts), weights, f"{shown} ({'; '.join(whys)})")


def _unsuited(roles: Roles, values: dict[fx.Node, Any]) -> str | None:
    if not roles.inputs:
        return "it takes no tensors but weights"
    for node in (*roles.inputs, *roles.weights):
        tensor = values[node]
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            return f"{node.name} is {tensor.layout} on {tensor.device}; programs run on the CPU"
    if any(values[node].is_inference() for node in roles.weights):
        return "its weights were made under inference_mode, where changes of them go unseen"
    return None


def _compiled(
    extractor: Extractor, pieces: list[Piece], x: torch.Tensor
) -> list[tuple[Piece, Step, str | None]]:
    """(piece, step, why it is none of cofit's) in order; as few and as large as possible."""

    def attempt(piece: Piece) -> Graph | str:
        try:
            return lower(extractor, piece, x if piece is pieces[0] or piece is whole else None)
        except CofitError as error:
            return str(error).partition("; supported:")[0]  # a long list

    whole = Piece.joined(pieces)
    found = attempt(whole)
    if not isinstance(found, str) or len(pieces) == 1:
        return [_step(extractor, whole, found)]
    parts = []
    reasons = [found if isinstance(found := attempt(piece), str) else None for piece in pieces]
    for refused, run in groupby(range(len(pieces)), key=lambda i: reasons[i] is not None):
        members = list(run)
        piece = Piece.joined([pieces[i] for i in members])
        if refused:
            why = "; ".join(dict.fromkeys(str(reasons[i]) for i in members))
            parts.append(_step(extractor, piece, why))
        else:
            parts.append(_step(extractor, piece, attempt(piece)))
    return parts


def _step(extractor: Extractor, piece: Piece, found: Graph | str) -> tuple[Piece, Step, str | None]:
    if not isinstance(found, str):
        try:
            return piece, compile_piece(extractor, piece, found), None
        except CofitError as error:
            found = str(error)
    return piece, extractor.eager(piece), found
