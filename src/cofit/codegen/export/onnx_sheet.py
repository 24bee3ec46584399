"""Nodes and constants of an ONNX graph in the making."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper


class Sheet:
    """Nodes and constants of an ONNX graph that is being written.

    Args:
        taken: names that `fresh` must not give.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._taken = set(taken)

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node, and give the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, wish: str, values: NDArray[np.generic] | np.generic) -> str:
        """Append a constant, and give its name: the wished one if nothing else has it."""
        name = self.fresh(wish)
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def integers(self, wish: str, values: Iterable[int]) -> str:
        """Append a list of int64, as ONNX wants shapes and spans."""
        return self.constant(wish, np.fromiter(values, np.int64))

    def fresh(self, wish: str) -> str:
        """A name that nothing else has, the wished one if possible."""
        name, count = wish, 1
        while name in self._taken:
            count += 1
            name = f"{wish}/{count}"
        self._taken.add(name)
        return name
