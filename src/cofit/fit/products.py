"""The products of a network by constant weights: each is planned, pruned and solved on its own.

A convolution or linear op has one. A recurrent op has two, by its input and by its state, whose
weights may carry different structures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from cofit.fit.precision import Precision
from cofit.ir import Graph, Op
from cofit.ir import attributes as at
from cofit.targets import OpSignature, signature_of

SIDES = ("ih", "hh")
"""Of a recurrent op, as torch names them: from the input, from the state before."""


@dataclass(frozen=True)
class Product:
    """A weight, what is multiplied by it, and the bias that is added.

    Attributes:
        op: whose product it is.
        weight: name of the weight (K, ...).
        bias: name of the bias (K,).
        side: of a recurrent op which, else "".
        share: of the weights of its op.
    """

    op: Op
    weight: str
    bias: str
    side: str = ""
    share: float = 1.0

    @property
    def name(self) -> str:
        """The op's, with the side of a recurrent one: "conv1", "gru ih"."""
        return f"{self.op.output} {self.side}".strip()

    @property
    def is_plain(self) -> bool:
        """Whether every output reads every input: no convolution with groups."""
        return getattr(self.op.attributes, "groups", 1) == 1

    def reads(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What is multiplied by the weight (N, ...), from all activations by name."""
        if self.side != "hh":
            return values[self.op.inputs[0]]
        states, given = values[self.op.output], self.op.inputs[5:]
        first = values[given[0]] if given else torch.zeros_like(states[:, :1])
        return torch.cat([first, states[:, :-1]], 1)


def products(graph: Graph) -> list[Product]:
    """All products of a graph, in the order of `graph.weighted()`."""
    found = []
    for op in graph.ops:
        weights = graph.weights(op)
        if not isinstance(op.attributes, at.Gru | at.Lstm):
            found += [Product(op, weight.name, op.inputs[2]) for weight in weights]
            continue
        both = sum(weight.size for weight in weights)
        for side, weight, bias in zip(SIDES, weights, op.inputs[3:5], strict=True):
            found.append(Product(op, weight.name, bias, side, weight.size / both))
    return found


def signature(
    graph: Graph, product: Product, structure: str | None, bits: int, precision: Precision
) -> OpSignature:
    """What decides the cost of a product's op where its weight has a structure, stored in bits.

    The other weight of a recurrent op is dense; fp32 weights have no bits to choose.
    """
    of_state = product.side == "hh"
    return signature_of(
        graph,
        product.op,
        None if of_state else structure,
        "float32" if precision == "fp32" else "int8",
        bits=8 if precision == "fp32" else bits,
        of_state=structure if of_state else None,
    )
