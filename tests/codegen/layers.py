"""Random layers and small graphs for the tests of generated programs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cofit.ir import Graph, Op, Tensor, attributes
from cofit.ir.shapes import output_shape


@dataclass
class Builder:
    """Adds ops one after the other; float32, names t0, t1, ..."""

    name: str
    shape: tuple[int, ...]
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.tensors = {"x": Tensor("x", self.shape)}
        self.ops: list[Op] = []

    def constant(self, values: np.ndarray, structure: str | None = None) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors[name] = Tensor(
            name, values.shape, data=values.astype(np.float32), structure=structure
        )
        return name

    def add(self, op: attributes.Attributes, *inputs: str) -> str:
        shapes = tuple(self.tensors[n].shape for n in inputs)
        name = f"t{len(self.tensors)}"
        self.tensors[name] = Tensor(name, output_shape(op, shapes))
        self.ops.append(Op(name, op, inputs))
        return name

    def conv(self, x: str, outputs: int, kernel: int = 1, density: float = 1.0, **attrs) -> str:
        groups = attrs.get("groups", 1)
        channels = self.tensors[x].shape[1] // groups
        weight = self.rng.standard_normal((outputs, channels, kernel, kernel))
        weight *= self.rng.random(weight.shape) < density
        bias = self.rng.standard_normal(outputs)
        return self.add(attributes.Conv2d(**attrs), x, self.constant(weight), self.constant(bias))

    def linear(self, x: str, outputs: int, **attrs) -> str:
        weight = self.rng.standard_normal((outputs, self.tensors[x].shape[-1]))
        bias = self.rng.standard_normal(outputs)
        return self.add(attributes.Linear(**attrs), x, self.constant(weight), self.constant(bias))

    def graph(self, output: str) -> Graph:
        return Graph.build(self.name, ("x",), (output,), tuple(self.ops), self.tensors)


def random_layer(name: str, rng: np.random.Generator) -> Graph:
    """One convolution or linear layer: kernel 1/3/5, stride, dilation, groups, ragged sizes."""

    def pick(*values: int) -> int:
        return int(rng.choice(values))

    fused = ("none", "relu", "relu6")[pick(0, 1, 2)]
    if rng.random() < 0.15:
        rows = (1, pick(1, 3)) if rng.random() < 0.5 else (1,)
        b = Builder(name, (*rows, pick(1, 7, 16, 33)), rng)
        return b.graph(b.linear("x", pick(1, 5, 16, 40), fused=fused))
    kernel, stride, dilation = pick(1, 3, 3, 5), pick(1, 1, 2), pick(1, 1, 2)
    reach = dilation * (kernel - 1) + 1
    height, width = reach + pick(0, 1, 4, 7), reach + pick(0, 2, 5, 13)
    padding = tuple(pick(0, kernel // 2, 1) for _ in range(4))
    groups = pick(1, 1, 2, 3, 8)
    depthwise = rng.random() < 0.25
    channels = groups if depthwise else groups * pick(1, 3, 8)
    outputs = groups if depthwise else groups * pick(1, 3, 8, 17)
    if depthwise:
        channels = outputs = groups = pick(1, 5, 8, 19)
    b = Builder(name, (1, channels, height, width), rng)
    y = b.conv(
        "x", outputs, kernel, density=float(rng.choice([0.0, 0.3, 1.0])), stride=(stride, stride),
        padding=padding, dilation=(dilation, dilation), groups=groups, fused=fused,
    )  # fmt: skip
    return b.graph(y)


SEQUENCE_KINDS = frozenset({"matmul", "transpose", "layernorm", "embedding", "gru", "lstm"})
"""Tried in `test_sequence_programs.py` and `test_s8_sequences.py`."""


def every_op(name: str, rng: np.random.Generator) -> Graph:
    """A graph with every operator kind but those of sequences, in-place chances and aliases."""
    at = attributes
    b = Builder(name, (1, 5, 9, 11), rng)
    a = b.conv("x", 16, 3, padding=(1, 1, 1, 1), fused="relu6")
    c = b.add(at.Activation("hardswish"), a)
    c = b.add(at.Add(fused="relu"), c, a)
    c = b.add(at.Mul(), c, b.constant(rng.standard_normal((16, 1, 1))))
    gate = b.add(at.GlobalMean(), c)
    gate = b.add(at.Activation("sigmoid"), b.conv(gate, 16))
    c = b.add(at.Mul(), c, gate)
    left = b.add(at.MaxPool2d((3, 3), (2, 2), (1, 1, 0, 1)), c)
    right = b.add(at.AvgPool2d((2, 3), (2, 2), (1, 0, 0, 1)), c)
    wide = b.add(at.Concat(1), left, right)
    wide = b.add(at.Pad(((0, 0), (0, 0), (1, 0), (0, 2))), wide)
    wide = b.add(at.Slice((0, 1, 0, 1), (1, 32, 6, 7), (1, 2, 1, 1)), wide)
    wide = b.add(at.Concat(2), wide, wide)
    shape = b.tensors[wide].shape
    size = int(np.prod(shape))
    swapped = b.add(at.Reshape((1, shape[3], shape[2], shape[1])), wide)
    mean = b.add(at.AvgPool2d((2, 2), (1, 1), (1, 1, 1, 1), count_padding=True), swapped)
    back = b.add(at.Reshape((1, shape[1], shape[2] * shape[3])), swapped)
    back = b.add(at.Activation("tanh"), b.linear(back, 12, fused="relu"))
    back = b.add(at.Softmax(), back)
    flat = b.add(at.Reshape((1, int(np.prod(b.tensors[back].shape)))), back)
    other = b.add(at.Reshape((1, int(np.prod(b.tensors[mean].shape)))), mean)
    whole = b.add(at.Reshape((1, size)), swapped)
    joined = b.add(at.Concat(1), flat, other, whole)
    y = b.linear(joined, 7)
    y = b.add(at.Add(), y, b.add(at.Activation("hardsigmoid"), y))
    return b.graph(y)
