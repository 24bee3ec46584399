"""Random small graphs of every op kind, as hypothesis strategies.

Topology, shapes and attributes are drawn; the numbers of weights come from a drawn seed. A graph
grows by ops on tensors that are already there (so there are branches, joins, and tensors read
twice); what nothing reads in the end is flattened and concatenated into the one output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from hypothesis import reject
from hypothesis import strategies as st

from cofit.core import UnsupportedOpError
from cofit.ir import (
    Graph,
    Op,
    QuantSpec,
    Ranges,
    Rounding,
    Tensor,
    calibrate,
    quantise,
    quantise_input,
    run_integer,
)
from cofit.ir import attributes as at
from cofit.ir.shapes import output_shape
from cofit.structures import Pattern, parse

MOST_ELEMENTS = 3000
KERNELS = ((1, 1), (3, 3), (3, 3), (1, 3), (3, 1), (2, 2), (5, 5), (1, 7), (4, 2))
CHANNELS = (1, 2, 3, 4, 5, 8, 12, 16, 17)
SIZES = (1, 2, 3, 5, 6, 9, 12)
OUTPUTS = (1, 2, 3, 4, 7, 8, 16, 17, 32, 35)
FUSED: tuple[at.Fused, ...] = ("none", "none", "relu", "relu6")
FUNCTIONS: tuple[at.Function, ...] = (
    "relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "tanh",
)  # fmt: skip
FORMS = (
    "unstructured", "block1x1", "block1x4", "block2x2", "block2x4", "block4x4", "block3x2",
    "block2x1", "block5x3", "block4x8", "block8x1", "block16x1", "block16x4", "block32x1",
    "stripe8", "stripe16", "channel", "connectivity", "pattern4g1", "pattern8g1", "pattern8g4",
    "pattern8g8", "corner4g8", "pattern13g4", "pattern56g1", "nm2:4", "nm1:4", "nm1:3", "nm2:5",
    "connectivity@2+pattern8g1@2.25", "block2x2+int8", "int4",
)  # fmt: skip
RATES = (1.0, 1.5, 2.25, 4.0, 9.0, 50.0)
FOUR_D = (
    "conv", "conv", "conv", "conv", "depthwise", "grouped", "maxpool", "avgpool", "mean", "slice",
    "pad", "activation", "add", "mul", "concat", "reshape", "gate",
)  # fmt: skip
OTHERS = (
    "linear", "linear", "linear", "activation", "add", "mul", "concat", "slice", "pad", "softmax",
    "reshape",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """A float graph, its integer graph, and real inputs (N, ...) for both."""

    floating: Graph
    integer: Graph
    x: np.ndarray

    def named(self, name: str) -> Case:
        """The same under another graph name."""
        return Case(
            replace(self.floating, name=f"{name}f"), replace(self.integer, name=name), self.x
        )


class Growing:
    """A float graph under construction; `draw` decides everything but the weights' values."""

    def __init__(self, draw, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.tensors = {"x": Tensor("x", shape)}
        self.ops: list[Op] = []

    def pick(self, *values):  # type: ignore[no-untyped-def]
        return self.draw(st.sampled_from(values))

    def chance(self, percent: int) -> bool:
        return self.draw(st.integers(1, 100)) <= percent

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def constant(self, values: np.ndarray, structure: str | None = None) -> str:
        name = f"c{len(self.tensors)}"
        data = np.asarray(values, np.float32)
        self.tensors[name] = Tensor(name, data.shape, data=data, structure=structure)
        return name

    def append(self, attributes: at.Attributes, *inputs: str) -> str:
        shape = output_shape(attributes, tuple(self.shape(n) for n in inputs))
        name = f"t{len(self.tensors)}"
        self.tensors[name] = Tensor(name, shape)
        self.ops.append(Op(name, attributes, inputs))
        return name

    def activations(self) -> list[str]:
        """Names, the latest first."""
        return [n for n, t in reversed(self.tensors.items()) if t.data is None]

    def like(self, wanted) -> list[str]:  # type: ignore[no-untyped-def]
        return [n for n in self.activations() if wanted(self.shape(n))]

    def grow(self, x: str) -> None:
        """One more op on a tensor."""
        kind = self.pick(*(FOUR_D if len(self.shape(x)) == 4 else OTHERS))
        getattr(self, kind)(x)

    def conv(self, x: str) -> str:
        return self._conv(x, self.pick(*OUTPUTS), 1)

    def depthwise(self, x: str) -> str:
        channels = self.shape(x)[1]
        return self._conv(x, channels * self.pick(1, 1, 1, 2), channels)

    def grouped(self, x: str) -> str:
        channels = self.shape(x)[1]
        groups = self.pick(*(g for g in range(1, channels + 1) if channels % g == 0))
        return self._conv(x, groups * self.pick(1, 2, 3, 5), groups)

    def _conv(self, x: str, outputs: int, groups: int) -> str:
        _, channels, height, width = self.shape(x)
        kernel = self.pick(*KERNELS)
        dilation = self.pick((1, 1), (1, 1), (2, 1), (1, 3), (2, 2))
        stride = self.pick((1, 1), (1, 1), (2, 2), (1, 2), (3, 1))
        pads = list(
            self.pick((0, 0, 0, 0), None, (1, 1, 1, 1), (0, 1, 0, 1), (2, 0, 1, 3), (3, 3, 3, 3))
            or (kernel[0] // 2, kernel[0] // 2, kernel[1] // 2, kernel[1] // 2)
        )
        # what the input lacks is padded, on one side or the other
        pads[self.pick(0, 1)] += max(0, dilation[0] * (kernel[0] - 1) + 1 - height - sum(pads[:2]))
        pads[self.pick(2, 3)] += max(0, dilation[1] * (kernel[1] - 1) + 1 - width - sum(pads[2:]))
        attributes = at.Conv2d(stride, tuple(pads), dilation, groups, self.pick(*FUSED))  # type: ignore[arg-type]
        return self._weighted(attributes, x, (outputs, channels // groups, *kernel))

    def linear(self, x: str) -> str:
        attributes = at.Linear(self.pick(*FUSED))
        return self._weighted(attributes, x, (self.pick(*OUTPUTS), self.shape(x)[-1]))

    def _weighted(self, attributes: at.Attributes, x: str, shape: tuple[int, ...]) -> str:
        weight = self.rng.standard_normal(shape) * self.pick(1, 1, 1, 0.01, 30)
        weight /= math.sqrt(max(1, math.prod(shape[1:])))
        structure = None
        if self.chance(50):
            weight, structure = self._structured(weight)
        else:
            weight *= self.rng.random(shape) < self.pick(1, 1, 0.5, 0.1, 0)
            if self.chance(20):  # empty filters
                weight[self.rng.random(shape[0]) < 0.4] = 0
        bias = self.rng.standard_normal(shape[0]) * self.pick(1, 0.1, 0, 20)
        return self.append(attributes, x, self.constant(weight, structure), self.constant(bias))

    def _structured(self, weight: np.ndarray) -> tuple[np.ndarray, str]:
        rate = self.pick(*RATES)
        fits = [
            s for form in FORMS if (s := parse(rated(form, rate))).applies(weight.shape) is None
        ]
        patterns = [s for s in fits if isinstance(s, Pattern)]
        sorts = sorted({type(s).__name__ for s in fits})  # so that rare sorts come up too
        sort = self.pick(*sorts)
        alike = [s for s in fits if type(s).__name__ == sort]
        structure = self.pick(*(patterns if patterns and self.chance(30) else alike))
        projected = structure.project(torch.tensor(weight, dtype=torch.float32))
        return projected.numpy(), structure.text

    def maxpool(self, x: str) -> str:
        return self.append(at.MaxPool2d(*self._window(x)), x)

    def avgpool(self, x: str) -> str:
        return self.append(at.AvgPool2d(*self._window(x), self.pick(False, True)), x)

    def _window(self, x: str):  # type: ignore[no-untyped-def]
        size = self.shape(x)[2:]
        kernel, stride, pads = [], [], []
        for length in size:
            k = min(self.pick(1, 2, 3, 4), length + 1)
            low = 1 if k > length else 0
            kernel.append(k)
            stride.append(self.pick(1, 2, 3))
            pads += [self.pick(*range(low, k)), self.pick(*range(k))]
        return tuple(kernel), tuple(stride), tuple(pads)

    def mean(self, x: str) -> str:
        return self.append(at.GlobalMean(self.pick(True, False)), x)

    def slice(self, x: str) -> str:
        start, stop, step = [0], [1], [1]
        for length in self.shape(x)[1:]:
            a = self.pick(0, 0, length // 3)
            b = self.pick(length, length, max(a + 1, length * 2 // 3))
            start.append(a), stop.append(b), step.append(self.pick(1, 1, 2, 3))
        return self.append(at.Slice(tuple(start), tuple(stop), tuple(step)), x)

    def pad(self, x: str) -> str:
        pads = [(0, 0), *((self.pick(0, 0, 1), self.pick(0, 0, 2)) for _ in self.shape(x)[1:])]
        return self.append(at.Pad(tuple(pads)), x)

    def activation(self, x: str) -> str:
        return self.append(at.Activation(self.pick(*FUNCTIONS)), x)

    def softmax(self, x: str) -> str:
        return self.append(at.Softmax(), x)

    def add(self, x: str) -> str:
        return self.append(at.Add(self.pick(*FUSED)), *self._operands(x))

    def mul(self, x: str) -> str:
        return self.append(at.Mul(self.pick(*FUSED)), *self._operands(x))

    def _operands(self, x: str) -> tuple[str, str]:
        shape = self.shape(x)
        if self.chance(55):
            # of the same rank: the batch is the first axis of both
            alike = self.like(lambda o: len(o) == len(shape) and broadcasts(shape, o))
            return x, self.pick(*alike)
        form = tuple(n if self.chance(50) else 1 for n in shape)
        form = form[self.pick(0, 0, 0, 1, len(form)) :]
        values = self.rng.standard_normal(form) * self.pick(1, 0.01, 5, 0)
        if form == shape and self.chance(30):
            return self.constant(values), x
        return x, self.constant(values)

    def gate(self, x: str) -> str:
        """Squeeze and excitation: the mean of a tensor scales it."""
        y = self.activation(self.append(at.GlobalMean(True), x))
        return self.append(at.Mul(self.pick(*FUSED)), x, y)

    def concat(self, x: str) -> str:
        shape = self.shape(x)
        axis = self.pick(*range(1, len(shape)))
        fits = self.like(
            lambda other: (
                len(other) == len(shape)
                and all(
                    a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)) if i != axis
                )
            )
        )
        others = [self.pick(*fits) for _ in range(self.pick(1, 1, 2))]
        return self.append(at.Concat(axis), x, *others)

    def reshape(self, x: str) -> str:
        size = math.prod(self.shape(x))
        rank = self.pick(2, 3, 4, 4)
        shape, rest = [1], size
        for _ in range(rank - 2):
            shape.append(self.pick(*(d for d in range(1, min(rest, 16) + 1) if rest % d == 0)))
            rest //= shape[-1]
        return self.append(at.Reshape((*shape, rest)), x)

    def finish(self) -> Graph:
        """Join what nothing reads."""
        read = {name for op in self.ops for name in op.inputs}
        loose = [op.output for op in self.ops if op.output not in read]
        if len(loose) > 1:
            flat = [
                n if len(self.shape(n)) == 2
                else self.append(at.Reshape((1, math.prod(self.shape(n)))), n)
                for n in loose
            ]  # fmt: skip
            loose = [self.append(at.Concat(1), *flat)]
        return Graph.build("g", ("x",), (loose[0],), tuple(self.ops), self.tensors)


def rated(form: str, rate: float) -> str:
    """The text of a form at a rate, or at the least that it takes."""
    least = {"pattern13": 1.8, "pattern": 2.25, "corner": 2.25}

    def part(text: str) -> str:
        if "@" in text or text.startswith(("nm", "int")):
            return text
        floor = next((rate for name, rate in least.items() if text.startswith(name)), 1.0)
        return f"{text}@{max(rate, floor)}"

    return "+".join(map(part, form.split("+")))


def broadcasts(x: tuple[int, ...], y: tuple[int, ...]) -> bool:
    """Whether y fits x as the second operand of add or mul."""
    padded = (1,) * (len(x) - len(y)) + y
    return len(y) <= len(x) and all(b in (a, 1) for a, b in zip(x, padded, strict=True))


@st.composite
def float_graphs(draw, most: int) -> Graph:  # type: ignore[no-untyped-def]
    """A valid float graph that grew by at most so many ops."""
    rank = draw(st.sampled_from((4, 4, 4, 4, 2, 3)))
    if rank == 4:
        shape = (1, *(draw(st.sampled_from(v)) for v in (CHANNELS, SIZES, SIZES)))
    else:
        shape = (1, *(draw(st.sampled_from((1, 3, 8, 19, 33))) for _ in range(rank - 1)))
    growing = Growing(draw, shape)
    for _ in range(draw(st.integers(2, most))):
        names = [n for n in growing.activations() if math.prod(growing.shape(n)) <= MOST_ELEMENTS]
        growing.grow(names[0] if growing.chance(60) else draw(st.sampled_from(names)))
    return growing.finish()


@st.composite
def cases(draw, most: int) -> Case:  # type: ignore[no-untyped-def]
    """A float graph with an integer graph; ranges are sometimes wrong, so that values saturate."""
    graph = draw(float_graphs(most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = draw(st.sampled_from(((-1, 1), (-3, 3), (0, 1), (0, 255), (-2, 0))))
    x = rng.uniform(low, high, (4, *graph.tensors["x"].shape[1:])).astype(np.float32)
    x[2], x[3] = low, high
    ranges = calibrate(graph, [torch.from_numpy(x)])
    spread = draw(st.sampled_from((0.0, 0.0, 1.0, 3.0)))

    def distorted(bounds):  # type: ignore[no-untyped-def]
        return {n: v * math.exp(rng.uniform(-spread, spread)) for n, v in bounds.items()}

    ranges = Ranges(distorted(ranges.lower), distorted(ranges.upper))
    bits = draw(st.sampled_from((8, 8, 4, None)))
    if bits is None:
        bits = {op.output: int(rng.choice([4, 8])) for op, _ in graph.weighted()}
    spec = QuantSpec(draw(st.sampled_from(tuple(Rounding))))
    integer = quantise(graph, ranges, spec, bits)
    try:  # ranges that are wrong by far can ask for more than 32 bits, which is refused
        run_integer(integer, {"x": quantise_input(integer, x[:1])})
    except UnsupportedOpError:
        reject()
    return Case(graph, integer, x)
