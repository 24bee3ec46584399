"""A graph of dynamo, cut into pieces between which a single tensor passes.

Programs have one input and one output, so these cuts are where compiled code and eager PyTorch can
meet. What is computed from weights alone belongs to every piece that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx, nn
from torch.fx.node import map_arg

Arguments = tuple[Any, ...]

_SIZED = frozenset({"view", "reshape", "expand"})
_FACTORIES = frozenset({"zeros", "ones", "new_zeros", "new_ones"})


@dataclass(frozen=True)
class Piece:
    """Calls in execution order.

    Attributes:
        inputs: computed tensors that the piece reads.
        nodes: the calls, without those that depend on weights or sizes alone.
        result: what it gives; None means the results of the whole graph.
    """

    inputs: tuple[fx.Node, ...]
    nodes: tuple[fx.Node, ...]
    result: fx.Node | None

    @staticmethod
    def joined(pieces: Sequence[Piece]) -> Piece:
        """Consecutive pieces as one."""
        nodes = tuple(node for piece in pieces for node in piece.nodes)
        return Piece(pieces[0].inputs, nodes, pieces[-1].result)


class Roles:
    """Placeholders of a graph, by what they stand for.

    Attributes:
        weights: parameters and buffers of modules.
        numbers: sizes that may change from call to call.
        inputs: all other tensors.
        paths: of the weights, module by module, from where dynamo found them.
        batch: the number that is the size of the batch, if one is.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.placeholders = [n for n in module.graph.nodes if n.op == "placeholder"]
        self.weights: list[fx.Node] = []
        self.numbers: list[fx.Node] = []
        self.inputs: list[fx.Node] = []
        self.paths: dict[fx.Node, list[str]] = {}
        for node in self.placeholders:
            if not isinstance(node.meta["example_value"], torch.Tensor):
                self.numbers.append(node)
            elif "_dynamo_static_input_type" in node.meta.get("tensor_dict", {}):
                self.weights.append(node)
                self.paths[node] = _path(str(node.meta["grapharg"].source.name))
            else:
                self.inputs.append(node)
        batches = {str(n.meta["example_value"].shape[:1]) for n in self.inputs}
        symbols = {f"torch.Size([{n.meta['example_value']}])": n for n in self.numbers}
        self.batch = symbols.get(batches.pop()) if len(batches) == 1 else None


@dataclass(frozen=True)
class Seen:
    """What a node gave in one run."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    channels_last: bool


def observe(module: fx.GraphModule, arguments: Sequence[Any]) -> dict[fx.Node, Seen]:
    """Run a graph and note every tensor it computes."""
    seen: dict[fx.Node, Seen] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                turned = value.ndim == 4 and not value.is_contiguous()
                turned = turned and value.is_contiguous(memory_format=torch.channels_last)
                seen[n] = Seen(tuple(value.shape), value.dtype, turned)
            return value

    Recorder(module).run(*arguments)
    return seen


def cut(module: fx.GraphModule, roles: Roles, seen: Mapping[fx.Node, Seen]) -> list[Piece]:
    """The smallest pieces, in order; together they are the graph."""
    moving: dict[fx.Node, None] = dict.fromkeys(roles.inputs)
    fixed = set(roles.weights) | {n for n in module.graph.nodes if n.op == "get_attr"}
    for node in module.graph.nodes:
        if node.op in ("placeholder", "get_attr", "output"):
            continue
        before = node.all_input_nodes
        if any(n in moving for n in before) or (node in seen and fixed.isdisjoint(before)):
            moving[node] = None
        elif not fixed.isdisjoint(before):
            fixed.add(node)
    order = list(moving)
    index = {node: i for i, node in enumerate(order)}
    (output,) = (n for n in module.graph.nodes if n.op == "output")
    index[output] = len(order)
    last = [max((index[user] for user in n.users if user in index), default=-1) for n in order]
    whole = tuple(output.args[0]) == (order[-1],)

    pieces: list[Piece] = []
    inputs, start = tuple(roles.inputs), len(roles.inputs)
    for i in range(start, len(order)):
        live = [n for n, end in zip(order[: i + 1], last, strict=False) if end > i]
        ends = i == len(order) - 1
        if ends or (len(live) == 1 and _passes(seen.get(live[0]), seen.get(inputs[0]))):
            result = None if ends and not whole else live[0]
            pieces.append(Piece(inputs, tuple(order[start : i + 1]), result))
            inputs, start = tuple(live), i + 1
    return pieces


def _passes(value: Seen | None, before: Seen | None) -> bool:
    """Whether a value is a batch of floats."""
    if value is None or before is None or len(value.shape) < 2:
        return False
    return value.dtype == torch.float32 and value.shape[0] == before.shape[0]


class Extractor:
    """Makes modules of pieces.

    Args:
        module: the graph.
        roles: of its placeholders.
        seen: what its nodes gave.
        values: of the placeholders in that call; weights are held, not copied.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        roles: Roles,
        seen: Mapping[fx.Node, Seen],
        values: Mapping[fx.Node, Any],
    ) -> None:
        self.seen = seen
        self.numbers = [values[node] for node in roles.numbers]
        self._module, self._roles, self._values = module, roles, values
        self._root = nn.Module()
        self._names: dict[fx.Node, str] = {}
        for node in roles.weights:
            self._names[node] = _hold(self._root, roles.paths[node], node.name, self._values[node])
        for node in module.graph.nodes:
            if node.op == "get_attr":
                value = _attribute(module, node.target)
                self._names[node] = _hold(self._root, [], f"constant_{node.name}", value)

    def eager(self, piece: Piece) -> fx.GraphModule:
        """A module of the piece's inputs and then all numbers, for any batch the numbers allow."""
        return self._build(piece, self._roles.numbers, {}, lambda node: node.args)

    def single(self, piece: Piece) -> fx.GraphModule:
        """A module of the piece's input for a batch of one: literal batch sizes are made 1."""
        # where the batch is a number of its own, no literal stands for it
        batch = None if self._roles.batch else self.seen[piece.inputs[0]].shape[0]
        numbers = {
            node: 1 if node is self._roles.batch else self._values[node]
            for node in self._roles.numbers
        }
        return self._build(piece, [], numbers, lambda node: self._for_one(node, batch, numbers))

    def _build(
        self,
        piece: Piece,
        numbers: Sequence[fx.Node],
        known: Mapping[fx.Node, int],
        arguments: Callable[[fx.Node], Arguments | torch.Tensor],
    ) -> fx.GraphModule:
        graph = fx.Graph()
        made: dict[fx.Node, Any] = dict(known)

        def value(node: fx.Node) -> Any:
            if node not in made:
                if node in self._names:
                    made[node] = graph.get_attr(self._names[node])
                else:
                    emit(node)
            return made[node]

        def emit(node: fx.Node) -> None:
            given = arguments(node)
            if isinstance(given, torch.Tensor):
                name = _hold(self._root, [], f"constant_{node.name}", given)
                made[node] = graph.get_attr(name)
            else:
                args, kwargs = map_arg(given, value), map_arg(node.kwargs, value)
                made[node] = graph.create_node(node.op, node.target, args, kwargs, node.name)

        for node in (*piece.inputs, *numbers):
            made[node] = graph.placeholder(node.name)
        for node in piece.nodes:
            emit(node)
        if piece.result is not None:
            graph.output((value(piece.result),))
        else:
            (output,) = (n for n in self._module.graph.nodes if n.op == "output")
            graph.output(map_arg(output.args[0], value))
        return fx.GraphModule(self._root, graph)

    def _for_one(
        self, node: fx.Node, batch: int | None, numbers: Mapping[fx.Node, int]
    ) -> Arguments | torch.Tensor:
        """Arguments with 1 in place of a batch size that was written out, or the constant made."""
        name = str(getattr(node.target, "__name__", node.target))
        gives = self.seen.get(node)
        if name not in _SIZED | _FACTORIES or gives is None:
            return node.args
        first = node.args[: name not in ("zeros", "ones")]  # the tensor it is called on
        rest = node.args[len(first) :]
        nested = len(rest) == 1 and isinstance(rest[0], list | tuple)
        sizes: list[Any] = list(cast(Arguments, rest[0] if nested else rest))
        places = [i for i, size in enumerate(sizes) if size == batch]
        if name in _SIZED:
            places = [i for i in places if i == 0 and gives.shape[0] == batch]
        if len(places) == 1:
            sizes[places[0]] = 1
        known = [numbers.get(size, size) for size in sizes]
        if not first and gives.dtype.is_floating_point and all(type(n) is int for n in known):
            return torch.full(known, float(name == "ones"))  # checked in float64 like all constants
        return (*first, tuple(sizes)) if nested else (*first, *sizes)


def _path(source: str) -> list[str]:
    """["conv", "weight"] of "L['self']._modules['conv']._parameters['weight']"."""
    return re.findall(r"\['([^'.]+)'\]", source)[1:]


def _hold(root: nn.Module, names: list[str], otherwise: str, value: Any) -> str:
    """Put a value under its path, or another name if that is taken; the name it got."""
    owner = root
    for name in names[:-1]:
        below = getattr(owner, name, None)
        if below is None:
            below = nn.Module()
            setattr(owner, name, below)
        if not isinstance(below, nn.Module):
            return _hold(root, [], otherwise, value)
        owner = below
    if not names or hasattr(owner, names[-1]):
        owner, names = root, [otherwise]
    if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
        owner.register_buffer(names[-1], value)
    else:
        setattr(owner, names[-1], value)
    return ".".join(names)


def _attribute(module: nn.Module, target: Any) -> Any:
    value: Any = module
    for name in str(target).split("."):
        value = getattr(value, name)
    return value
