"""The graph in the making: exported nodes become ops, one row of a table per aten operator.

What depends on no input is computed here and becomes a constant. Parameters enter in float64;
everything computed from them stays there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from cofit.core import ModelError, UnsupportedOpError
from cofit.ir import attributes as at
from cofit.ir.shapes import output_shape
from cofit.ir.types import DType, Op, Tensor


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that depends on no input; `name` is its parameter's, None if it was computed."""

    value: torch.Tensor
    name: str | None = None


@dataclass(frozen=True)
class Ref:
    """A tensor that the graph computes.

    `shape` is the graph's: `lead` axes of size one, the batch first, stand before those of torch.
    """

    name: str
    shape: tuple[int, ...]
    lead: int = 0

    def axis(self, dim: int) -> int:
        """The graph's axis of torch's."""
        return dim % (len(self.shape) - self.lead) + self.lead


Value = Any
"""What a node stands for: a Ref, a Constant, or a plain number, None, or list of values."""

Lowering = Callable[["Builder", Any], Value]
"""Emits one aten operator; gets the builder and the arguments by their schema names."""

# these hand a parameter on, which must keep its name
_SAME = frozenset({"alias", "clone", "contiguous", "detach", "lift_fresh_copy"})


class Refusal(Exception):
    """An operator is known, but not with these arguments; the text says which."""


class Builder:
    """Ops and tensors of the graph in the making.

    Attributes:
        ops: emitted so far, in order.
        tensors: of those ops.
        node: the node being lowered.
        shape: shape of its result as torch has it, () if it has several.
    """

    def __init__(self, table: Mapping[str, Lowering]) -> None:
        self.ops: list[Op] = []
        self.tensors: dict[str, Tensor] = {}
        self.node: Node
        self.shape: tuple[int, ...] = ()
        self._table = table
        self._values: dict[Node, Value] = {}
        self._taken: set[str] = set()

    def parameter(self, node: Node, name: str, value: torch.Tensor) -> None:
        """Bind a placeholder to a parameter, buffer or constant, whose name no op may then take."""
        self._values[node] = Constant(value.detach().cpu(), name)
        self._taken.add(name)

    def input(self, node: Node) -> str:
        """Bind a placeholder to an input of the graph and return its name."""
        example = node.meta["val"]
        name, shape = self._unique(node.name), tuple(example.shape)
        dtype = DType.F32 if example.is_floating_point() else DType.I32
        self.tensors[name] = Tensor(name, shape, dtype)
        self._values[node] = Ref(name, shape)
        return name

    def output(self, node: Any) -> str:
        """Name of the tensor that a result of the program stands for."""
        value = self._values.get(node)
        if not isinstance(value, Ref):
            raise ModelError(
                f"output {node} is no tensor computed from the input; return only such"
            )
        shape = value.shape[value.lead :]
        if shape[:1] != (1,):
            raise ModelError(f"output {node} is {shape}; its first axis must be the batch")
        if value.lead:
            self.node = node
        return self.reshaped(value, shape, image=True).name

    def lower(self, node: Node) -> None:
        """Emit or fold one call.

        Raises:
            UnsupportedOpError: naming where, what, and what is supported.
        """
        self.node, function = node, function_name(node)
        value = node.meta.get("val")
        self.shape = tuple(value.shape) if isinstance(value, torch.Tensor) else ()
        arguments = {name: self._resolve(arg) for name, arg in _bind(node).items()}
        first: Value = next(iter(arguments.values()), None)
        if function.startswith("_assert"):  # of torch.export's own; verification checks all
            self._values[node] = None
        elif function == "getitem":
            self._values[node] = self._as_torch(first[node.args[1]])
        elif not any(isinstance(leaf, Ref) for leaf in _leaves(arguments.values())):
            self._values[node] = first if function in _SAME else self._folded(node)
        elif function in self._table:
            try:
                found = self._table[function](self, SimpleNamespace(**arguments))
                self._values[node] = self._as_torch(found) if self.shape else found
            except (Refusal, ValueError) as error:
                raise UnsupportedOpError(
                    f"{self._where()} uses {function!r} in a way cofit cannot represent: {error}"
                ) from error
        else:
            raise UnsupportedOpError(
                f"{self._where()} uses {function!r}, which cofit cannot represent; "
                f"supported: {', '.join(sorted({name.lstrip('_') for name in self._table}))}"
            )

    def emit(
        self,
        attributes: at.Attributes,
        *inputs: Ref | Constant,
        layer: str | None = None,
        part: str = "",
        roles: Sequence[str] = ("", "constant"),
    ) -> Ref:
        """Append an op and return its output.

        Args:
            attributes: kind and parameters.
            inputs: operands.
            layer: name of the op, by default that of the node's layer or function.
            part: added to the name, where one node becomes several ops.
            roles: by operand, last part of the name of a constant that has none.
        """
        first = next(x for x in inputs if isinstance(x, Ref))
        if not isinstance(attributes, at.Embedding) and self.tensors[first.name].dtype is DType.I32:
            raise Refusal("tokens (torch.int64 or torch.int32); only an embedding reads those")
        layer = layer or self._label()
        output = self._unique(".".join(filter(None, (layer, part))))
        names = tuple(
            x.name if isinstance(x, Ref) else self._register(x, f"{layer}.{role}")
            for x, role in zip(inputs, roles, strict=False)
        )
        if isinstance(attributes, at.Concat):
            names = tuple(x.name for x in inputs if isinstance(x, Ref))
        shape = output_shape(attributes, tuple(self.tensors[n].shape for n in names))
        self.ops.append(Op(output, attributes, names))
        self.tensors[output] = Tensor(output, shape)
        return Ref(output, shape)

    def reshaped(self, x: Ref, shape: tuple[int, ...], image: bool = False, part: str = "") -> Ref:
        """The elements of `x` in a shape of torch.

        The graph holds it with its batch axis before it unless the first axis is of size one, and
        not in rank 4, which lies in another order in memory, unless it is an `image`.
        """
        held = shape if shape[:1] == (1,) else (1, *shape)
        if len(held) == 4 and not (image and held == shape):
            held = (1, *held)
        if x.shape != held:
            x = self.emit(at.Reshape(held), x, part=part)
        return replace(x, lead=len(held) - len(shape))

    def cut(self, x: Ref, axis: int, start: int, stop: int, step: int, part: str = "") -> Ref:
        """A range along one of the graph's axes."""
        starts, stops, steps = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
        starts[axis], stops[axis], steps[axis] = start, stop, step
        cut = self.emit(at.Slice(tuple(starts), tuple(stops), tuple(steps)), x, part=part)
        return replace(cut, lead=x.lead)

    def linear(self, x: Ref, weight: Constant, bias: Value = None) -> Ref:
        """A linear op by a constant (K, C)."""
        return self.weighted(at.Linear(), x, weight, bias)

    def weighted(self, layer: at.Attributes, x: Ref, weight: Constant, bias: Value) -> Ref:
        """A conv2d or linear, called by the path of its weight, with a zero bias if it has none."""
        owner, _, leaf = (weight.name or "").rpartition(".")
        if bias is None:
            bias = Constant(weight.value.new_zeros(len(weight.value)))
        if not isinstance(bias, Constant):
            raise Refusal("its bias is computed from the input; only constants will do")
        return self.emit(
            layer, x, weight, bias,
            layer=owner if leaf == "weight" else None, roles=("", "weight", "bias"),
        )  # fmt: skip

    def users(self) -> set[str]:
        """Functions that read the node being lowered."""
        return {function_name(user) for user in self.node.users}

    def _as_torch(self, value: Value) -> Value:
        """A result with the axes that torch says it has."""
        if not isinstance(value, Ref) or math.prod(value.shape) != math.prod(self.shape):
            return value  # what a product broadcasts is not widened
        lead = len(value.shape) - len(self.shape)
        if lead >= 0 and value.shape == (1,) * lead + self.shape:
            return replace(value, lead=lead)
        return self.reshaped(value, self.shape)

    def _register(self, constant: Constant, default: str) -> str:
        # in one memory order, whatever the module's: kernels on another would round differently
        data = constant.value.to(torch.float64).contiguous().numpy()
        name = constant.name or default
        held = self.tensors.get(name)
        if held is not None:
            if held.data is not None and np.array_equal(held.data, data):
                return name
            name = self._unique(name)
        self._taken.add(name)
        self.tensors[name] = Tensor(name, data.shape, data=data)
        return name

    def _unique(self, name: str) -> str:
        free, number = name, 0
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free

    def _label(self) -> str:
        """The path of a torch layer; elsewhere the path of the module and the function's name."""
        path, kind = _module(self.node)
        if path and kind.startswith(("torch.nn.modules.", "torch.nn.utils.")):
            return path
        return f"{path}.{function_name(self.node)}" if path else function_name(self.node)

    def _where(self) -> str:
        path, _ = _module(self.node)
        return f"{path!r} (node {self.node.name!r})" if path else f"node {self.node.name!r}"

    def _resolve(self, argument: Any) -> Value:
        if isinstance(argument, Node):
            return self._values.get(argument)
        if isinstance(argument, list | tuple):
            return [self._resolve(item) for item in argument]
        return argument

    def _folded(self, node: Node) -> Value:
        assert callable(node.target)
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise UnsupportedOpError(
                f"{self._where()} draws random numbers; remove it in eval mode"
            )
        args = [_plain(self._resolve(arg)) for arg in node.args]
        kwargs = {name: _plain(self._resolve(arg)) for name, arg in node.kwargs.items()}
        with torch.no_grad():
            return _wrapped(node.target(*args, **kwargs))


def function_name(node: Node) -> str:
    """The operator's name without its overload, for example "conv2d"."""
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        return str(schema.name).split("::")[-1]
    return str(getattr(node.target, "__name__", node.target))


def _module(node: Node) -> tuple[str, str]:
    """(path, class) of the innermost module whose forward called the node."""
    stack = node.meta.get("nn_module_stack") or {"": ("", "")}
    path, kind = list(stack.values())[-1]
    return str(path).split("@")[0], str(kind)  # "@1" counts the calls of one module


def _bind(node: Node) -> dict[str, Any]:
    """Arguments by the names of the operator's schema, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {str(i): arg for i, arg in enumerate(node.args)}
    names = [argument.name for argument in schema.arguments]
    defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    return {name: given.get(name, defaults.get(name)) for name in names}


def _leaves(values: Any) -> Iterator[Value]:
    for value in values:
        if isinstance(value, list):
            yield from _leaves(value)
        else:
            yield value


def _plain(value: Value) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Constant) else value


def _wrapped(value: Any) -> Value:
    if isinstance(value, list | tuple):
        return [_wrapped(item) for item in value]
    return Constant(value) if isinstance(value, torch.Tensor) else value
