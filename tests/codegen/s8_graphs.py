"""Random int8 graphs, machines that run them here, and comparison with the integer reference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from cofit.codegen.emit import Source, emit
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.layout import to_memory
from cofit.codegen.machine import Machine, cortex_m, host
from cofit.ir import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor
from cofit.ir import attributes as at
from cofit.ir.integer import run_integer
from cofit.ir.shapes import output_shape

POISON = 0xA7
PORTABLE = replace(
    cortex_m("m4"), name="portable", triple=None, flags=(), freestanding=False, alignment_bytes=64
)
"""The kernels of a Cortex-M on this CPU, their instructions in plain C."""
HOST = replace(host(), io="native")


@dataclass
class Chain:
    """Builds a graph of ops one after the other, with scales that keep values spread."""

    rng: np.random.Generator
    shape: tuple[int, ...]
    rounding: Rounding = Rounding.DOUBLE
    name: str = "chain"
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    last: str = "x"

    def __post_init__(self) -> None:
        self._tensor("x", self.shape, self._quantisation(0.02))

    def _quantisation(self, scale: float) -> Quantisation:
        return Quantisation((float(scale),), int(self.rng.integers(-128, 128)))

    def _tensor(self, name: str, shape: tuple[int, ...], quantisation: Quantisation) -> None:
        self.tensors[name] = Tensor(name, shape, DType.I8, quantisation)

    @property
    def here(self) -> tuple[int, ...]:
        """Shape of the last activation."""
        return self.tensors[self.last].shape

    @property
    def quantisation(self) -> Quantisation:
        """Quantisation of the last activation."""
        found = self.tensors[self.last].quantisation
        assert found is not None
        return found

    def constant(self, name: str, data: np.ndarray, quantisation: Quantisation) -> str:
        kind = DType.I32 if data.dtype == np.int32 else DType.I8
        self.tensors[name] = Tensor(name, data.shape, kind, quantisation, data)
        return name

    def add(
        self, attributes: at.Attributes, *others: str, keep: bool = True, scale: float = 0.0
    ) -> str:
        """Append an op on the last activation; `keep` gives its output the same quantisation."""
        inputs = (self.last, *others)
        shape = output_shape(attributes, tuple(self.tensors[n].shape for n in inputs))
        name = f"t{len(self.ops)}"
        before = self.quantisation
        if scale:
            quantisation = Quantisation((scale,), -128)
        else:
            quantisation = (
                before
                if keep
                else self._quantisation(before.scale[0] * math.exp(self.rng.uniform(-0.7, 0.7)))
            )
        self._tensor(name, shape, quantisation)
        self.ops.append(Op(name, attributes, inputs))
        self.last = name
        return name

    def weighted(
        self,
        attributes: at.Conv2d | at.Linear,
        weight: np.ndarray,
        structure: str | None = None,
        bits: int = 8,
    ) -> str:
        """Append a conv2d or linear with this int8 weight."""
        rng, tag, k = self.rng, f"t{len(self.ops)}", weight.shape[0]
        scales = 0.01 * np.exp(rng.uniform(-1, 1, k if rng.random() < 0.8 else 1))
        of_weight = Quantisation(tuple(scales.tolist()), 0, bits)
        scale = self.quantisation.scale[0]
        of_bias = Quantisation(tuple((scale * scales).tolist()))
        self.constant(f"{tag}.w", weight.astype(np.int8), of_weight)
        self.tensors[f"{tag}.w"] = replace(self.tensors[f"{tag}.w"], structure=structure)
        spread = 75 * np.sqrt((weight.astype(float) ** 2).reshape(k, -1).sum(1)).max() + 1
        bias = rng.integers(-int(spread) - 1, int(spread) + 1, k).astype(np.int32)
        self.constant(f"{tag}.b", bias, of_bias)
        name = self.add(attributes, f"{tag}.w", f"{tag}.b", keep=False)
        shape = self.tensors[name].shape
        self._tensor(name, shape, self._quantisation(scale * scales.max() * spread / 60))
        return name

    def graph(self) -> Graph:
        return Graph.build(
            self.name, ("x",), (self.last,), tuple(self.ops), self.tensors,
            QuantSpec(self.rounding),
        )  # fmt: skip


def weights(rng: np.random.Generator, shape: tuple[int, ...], limit: int = 127) -> np.ndarray:
    """Random int8 weights, extremes included."""
    values = rng.integers(-limit, limit + 1, shape)
    return np.where(rng.random(shape) < 0.05, -limit, values).astype(np.int8)


def mismatches(graphs: list[Graph], machine: Machine, optimise: str = "-O1") -> list[str]:
    """Every op whose output bytes differ from the integer reference, and every overrun."""
    sources = [emit(graph, machine) for graph in graphs]
    library = build_host(sources, optimise=optimise)
    return [line for source in sources for line in differences(source, HostRunner(source, library))]


def differences(source: Source, runner: HostRunner, seed: int = 0) -> list[str]:
    """As `mismatches`, of one built program."""
    graph = source.graph
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, graph.tensors[graph.inputs[0]].shape).astype(np.int8)
    wanted = run_integer(source.schedule.graph, {graph.inputs[0]: x}, keep=True)
    runner.load(to_memory(x), POISON)
    found = []
    for index, step in enumerate(source.steps):
        runner.step(index)
        got, expected = runner.read(step.writes), wanted[step.writes]
        if not np.array_equal(got, expected):
            bad = int((got != expected).sum())
            found.append(
                f"{step.name}: {step.op.attributes if step.op else ''} {step.kernel} "
                f"{step.code.variant}: {bad} of {got.size} differ"
            )
    overrun = runner.overrun()
    return [*found, overrun] if overrun else found


KERNELS = ((1, 1), (3, 3), (1, 3), (3, 1), (2, 2), (5, 5), (1, 5), (1, 7))


def random_convolution(chain: Chain) -> None:
    """Append a dense, grouped or depthwise convolution of any shape, padded to stay above 4x4."""
    rng = chain.rng
    _, c, h, w = chain.here
    kernel = KERNELS[rng.integers(len(KERNELS))]
    stride, dilation = (tuple(rng.integers(1, 3, 2).tolist()) for _ in range(2))
    pads = rng.integers(0, 3, 4).tolist()
    pads[0] += max(0, dilation[0] * (kernel[0] - 1) + 1 - h - pads[0] - pads[1])
    pads[3] += max(0, dilation[1] * (kernel[1] - 1) + 1 - w - pads[2] - pads[3])
    groups = int(rng.choice([g for g in range(1, c + 1) if c % g == 0]))
    groups = groups if rng.random() < 0.3 else c if rng.random() < 0.2 else 1
    k = c if groups == c and rng.random() < 0.8 else groups * int(rng.integers(1, 40 // groups + 2))
    density = rng.choice([0, 0.2, 1, 1, 1])
    weight = weights(rng, (k, c // groups, *kernel))
    weight *= rng.random(weight.shape) < density
    weight[rng.random(k) < 0.1] = 0  # empty filters
    fused = ("none", "relu", "relu6")[rng.integers(3)]
    conv = at.Conv2d(stride, tuple(pads), dilation, groups, fused)  # type: ignore[arg-type]
    chain.weighted(conv, weight, bits=8)
    if min(chain.here[2:]) < 5:
        chain.add(at.Pad(((0, 0), (0, 0), (2, 3), (1, 4))))
    if chain.here[1] > 24:
        chain.add(at.Slice((0, 2, 0, 0), (1, 19, *chain.here[2:]), (1, 2, 1, 1)))
