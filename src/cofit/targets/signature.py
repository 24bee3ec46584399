"""What decides the cost of one op: its parameters, shapes, structure and precision."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import torch_generator
from cofit.ir import DType, Graph, Op, Quantisation, QuantSpec, Ranges, Tensor, quantise
from cofit.ir.attributes import Attributes, Reshape, Slice
from cofit.ir.shapes import output_shape
from cofit.structures import couples_filters, parse

Precision = Literal["float32", "int8"]
_KEEPS_QUANTISATION = ("maxpool2d", "avgpool2d", "reshape", "slice", "pad")


@dataclass(frozen=True)
class OpSignature:
    """An op without its values.

    Attributes:
        attributes: the op's parameters.
        inputs: shapes of the activation inputs.
        constant: shape of the weight of a conv2d or linear, of a recurrent op's weight for its
            input, or of the constant second operand of an add or mul; None where all inputs are
            activations.
        structure: text of the structure that the weight obeys, None for a dense weight.
        precision: "float32" or "int8".
        bits: bits of a stored weight where the precision is int8.
        of_state: structure of a recurrent op's weight for its state.
    """

    attributes: Attributes
    inputs: tuple[tuple[int, ...], ...]
    constant: tuple[int, ...] | None = None
    structure: str | None = None
    precision: Precision = "float32"
    bits: int = 8
    of_state: str | None = None

    @property
    def is_recurrent(self) -> bool:
        """Whether there is a second weight, for the state."""
        return self.attributes.kind in ("gru", "lstm")

    @property
    def text(self) -> str:
        """Canonical text: the key of cost tables."""
        shapes = "+".join("x".join(map(str, shape)) for shape in self.inputs)
        parameters = json.dumps(asdict(self.attributes), sort_keys=True, separators=(",", ":"))
        weight = "x".join(map(str, self.constant)) if self.constant else "-"
        kind, form = self.attributes.kind, self.structure or "dense"
        if self.is_recurrent:
            form += f"/{self.of_state or 'dense'}"
        precision = self.precision if self.bits == 8 else f"{self.precision}/int{self.bits}"
        return f"{kind} {shapes} {weight} {form} {precision} {parameters}"


def signature_of(
    graph: Graph,
    op: Op,
    structure: str | None = None,
    precision: Precision = "float32",
    bits: int = 8,
    of_state: str | None = None,
) -> OpSignature:
    """Signature of an op of a graph, as if its weights had other structures and precision."""
    tensors = [graph.tensors[name] for name in op.inputs]
    inputs = tuple(t.shape for t in tensors if t.data is None)
    constants = [t.shape for t in tensors if t.data is not None]
    return OpSignature(
        op.attributes, inputs, constants[0] if constants else None, structure, precision, bits,
        of_state,
    )  # fmt: skip


def one_op_graph(signature: OpSignature, name: str, seed: int = 0) -> Graph:
    """A graph whose output `y` is this op, with random weights that obey the structure.

    Raises:
        StructureError: the weight cannot carry the structure.
        UnsupportedOpError: the precision is int8, and a recurrent op begins at a given state.
    """
    generator = torch_generator(seed, "cost-table", signature.text)
    if signature.is_recurrent:
        return _recurrent_graph(signature, name, generator)
    integer = signature.precision == "int8"
    entry = Quantisation((1.0 / 32,), 0) if integer else None
    dtype = DType.I8 if integer else DType.F32
    tensors: dict[str, Tensor] = {}
    ops, names = _operands(signature.inputs, tensors, dtype, entry)
    operands, kind = names, signature.attributes.kind
    weighted = kind in ("conv2d", "linear")
    if signature.constant is not None:
        for constant in _constants(signature, generator, weighted):
            tensors[constant.name] = constant
            operands += (constant.name,)
    shapes = tuple(tensors[n].shape for n in operands)
    exit_ = _output_quantisation(kind, entry, signature.constant) if integer else None
    tensors["y"] = Tensor("y", output_shape(signature.attributes, shapes), dtype, exit_)
    ops.append(Op("y", signature.attributes, operands))
    return Graph.build(name, ("x",), ("y",), tuple(ops), tensors, QuantSpec() if integer else None)


def _recurrent_graph(signature: OpSignature, name: str, generator: torch.Generator) -> Graph:
    """In int8 the quantised form of the graph in float32: so many scales hang together."""
    assert signature.constant is not None
    gates = signature.constant[0]
    hidden = gates // (3 if signature.attributes.kind == "gru" else 4)
    tensors: dict[str, Tensor] = {}
    ops, activations = _operands(signature.inputs, tensors, DType.F32, None)
    for weight, columns, structure in (
        ("w", signature.constant[1], signature.structure), ("u", hidden, signature.of_state),
    ):  # fmt: skip
        values = torch.randn((gates, columns), generator=generator) / columns**0.5
        if structure is not None:
            values = parse(structure).project(values)
        shape = (gates, columns)
        tensors[weight] = Tensor(weight, shape, DType.F32, None, values.numpy(), structure)
    for bias in ("b", "v"):
        start = torch.randn(gates, generator=generator).numpy()
        tensors[bias] = Tensor(bias, (gates,), DType.F32, None, start)
    first, *given = activations
    operands = (first, "w", "u", "b", "v", *given)
    shapes = tuple(tensors[n].shape for n in operands)
    tensors["y"] = Tensor("y", output_shape(signature.attributes, shapes), DType.F32)
    ops.append(Op("y", signature.attributes, operands))
    graph = Graph.build(name, ("x",), ("y",), tuple(ops), tensors)
    if signature.precision == "float32":
        return graph
    reach = {n: 4.0 if n == "x" else 1.0 for n, t in graph.tensors.items() if t.data is None}
    return quantise(graph, Ranges({n: -most for n, most in reach.items()}, reach))


def _operands(
    shapes: tuple[tuple[int, ...], ...],
    tensors: dict[str, Tensor],
    dtype: DType,
    quantisation: Quantisation | None,
) -> tuple[list[Op], tuple[str, ...]]:
    """The activation inputs; programs have one input, so several are cut from a longer one."""
    if len(shapes) == 1:
        tensors["x"] = Tensor("x", shapes[0], dtype, quantisation)
        return [], ("x",)
    sizes = [math.prod(shape) for shape in shapes]
    tensors["x"] = Tensor("x", (1, sum(sizes)), dtype, quantisation)
    ops: list[Op] = []
    for index, (shape, size) in enumerate(zip(shapes, sizes, strict=True)):
        begin = sum(sizes[:index])
        cut, whole = f"cut{index}", f"x{index}"
        tensors[cut] = Tensor(cut, (1, size), dtype, quantisation)
        tensors[whole] = Tensor(whole, shape, dtype, quantisation)
        ops.append(Op(cut, Slice((0, begin), (1, begin + size), (1, 1)), ("x",)))
        ops.append(Op(whole, Reshape(shape), (cut,)))
    return ops, tuple(f"x{index}" for index in range(len(shapes)))


def _constants(signature: OpSignature, generator: torch.Generator, weighted: bool) -> list[Tensor]:
    assert signature.constant is not None
    shape, integer = signature.constant, signature.precision == "int8"
    weight = torch.randn(shape, generator=generator)
    if signature.structure is not None:
        weight = parse(signature.structure).project(weight)
    name = "w" if weighted else "c"
    values: NDArray[np.generic] = weight.numpy()
    if integer:
        scale = float(weight.abs().max()) / (2 ** (signature.bits - 1) - 1) or 1.0
        values = _member(np.rint(weight.numpy() / scale).astype(np.int8), signature.structure)
        channels = shape[0] if weighted else 1
        of_weight = Quantisation((scale,) * channels, bits=signature.bits)
        found = [Tensor(name, shape, DType.I8, of_weight, values, signature.structure)]
        of_bias = Quantisation((scale / 32,) * channels)
    else:
        found = [Tensor(name, shape, DType.F32, None, values, signature.structure)]
    if weighted:
        bias = torch.randn(shape[:1], generator=generator).numpy()
        if integer:
            steps = np.rint(bias / of_bias.scale[0]).astype(np.int32)
            found.append(Tensor("b", shape[:1], DType.I32, of_bias, steps))
        else:
            found.append(Tensor("b", shape[:1], DType.F32, None, bias))
    return found


def _member(values: NDArray[np.int8], structure: str | None) -> NDArray[np.int8]:
    """Rounded weights in their structure, which rounding takes sums of filters out of."""
    found = None if structure is None else parse(structure)
    if found is None or not couples_filters(found):
        return values
    return found.project(torch.from_numpy(values)).numpy()


def _output_quantisation(
    kind: str, entry: Quantisation | None, constant: tuple[int, ...] | None
) -> Quantisation | None:
    if kind == "softmax":
        return Quantisation((1.0 / 256,), -128)
    if kind in _KEEPS_QUANTISATION:
        return entry
    assert entry is not None
    fan_in = math.prod(constant[1:]) if constant is not None else 1
    return Quantisation((entry.scale[0] * math.sqrt(max(fan_in, 1)),), 0)
