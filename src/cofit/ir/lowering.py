"""The graph in the making: exported nodes become ops, one row of a table per aten operator.

What depends on no input is computed here and becomes a constant. Parameters enter in float64;
everything computed from them stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from cofit.core import ModelError, UnsupportedOpError
from cofit.ir import attributes as at
from cofit.ir.shapes import output_shape
from cofit.ir.types import Op, Tensor


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that depends on no input; `name` is its parameter's, None if it was computed."""

    value: torch.Tensor
    name: str | None = None


@dataclass(frozen=True)
class Ref:
    """A tensor that the graph computes."""

    name: str
    shape: tuple[int, ...]


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
        shape: shape of its result, () if it has several.
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
        name, shape = self._unique(node.name), tuple(node.meta["val"].shape)
        self.tensors[name] = Tensor(name, shape)
        self._values[node] = Ref(name, shape)
        return name

    def output(self, node: Any) -> str:
        """Name of the tensor that a result of the program stands for."""
        value = self._values.get(node)
        if not isinstance(value, Ref):
            raise ModelError(
                f"output {node} is no tensor computed from the input; return only such"
            )
        return value.name

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
            self._values[node] = first[node.args[1]]
        elif not any(isinstance(leaf, Ref) for leaf in _leaves(arguments.values())):
            self._values[node] = first if function in _SAME else self._folded(node)
        elif function in self._table:
            try:
                self._values[node] = self._table[function](self, SimpleNamespace(**arguments))
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

    def users(self) -> set[str]:
        """Functions that read the node being lowered."""
        return {function_name(user) for user in self.node.users}

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
