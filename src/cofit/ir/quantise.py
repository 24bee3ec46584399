"""Post-training quantisation: a float graph and its ranges become an integer graph.

Activations are affine int8 with a zero that is exactly representable; weights are symmetric per
output channel, so zeros stay zeros and structures survive; biases are int32 at the scale of input
times weight. Scales are float32 values, so that C and Python read the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from cofit.core import ConfigError, DataError, ModelError, UnknownNameError, UnsupportedOpError
from cofit.ir import attributes as at
from cofit.ir.calibrate import Batch, Ranges
from cofit.ir.quantise_layer import Grid, QuantisedLayer, mean_errors, quantised_norms
from cofit.ir.quantise_recurrent import quantised_recurrent
from cofit.ir.types import DType, Graph, Op, Quantisation, QuantSpec, Tensor

_KEEPING = ("maxpool2d", "avgpool2d", "reshape", "slice", "pad", "transpose")
_UNIT = Quantisation((1 / 256,), -128)  # values in [0, 1)


def quantise(
    graph: Graph,
    ranges: Ranges,
    spec: QuantSpec | None = None,
    weight_bits: Mapping[str, int] | int = 8,
    bias_correction: Iterable[Batch] = (),
    grids: Mapping[str, Grid] | None = None,
) -> Graph:
    """The integer graph of a float graph.

    Pooling, reshape, slice, pad and transpose keep the quantisation of their input, an embedding
    that of its table; inputs of a concatenation
    that nothing else reads take that of its output; softmax and sigmoid have scale 1/256 and zero
    point -128. 8-bit weights are scaled by their largest magnitude, 4-bit ones by the clip that
    gives the least squared error.

    Args:
        graph: a float graph, batch norms folded.
        ranges: of its activations (see `calibrate`).
        spec: rounding of the arithmetic.
        weight_bits: 8 or 4, for all layers or by op name (8 for those not named).
        bias_correction: calibration batches on which the mean error that quantising its input and
            weights gives each output channel of each layer is taken out of its bias.
        grids: by weight name, of weights whose channels are not rounded one by one.

    Raises:
        ModelError: the graph is already an integer graph.
        UnsupportedOpError: a gru begins at a given state.
        DataError: ranges lack an activation, or a weight is NaN or infinite.
        ConfigError: bits other than 4 or 8; UnknownNameError: bits for an op that is not there.
    """
    if graph.is_integer:
        raise ModelError(f"graph {graph.name!r} is already an integer graph")
    for op in graph.ops:
        if op.kind == "gru" and len(op.inputs) > 5:
            raise UnsupportedOpError(
                f"op {op.output!r} (gru) begins at a given state, which is only computed in "
                "float32; quantise the network over whole sequences"
            )
    bits = _bits_by_op(graph, weight_bits)
    activations = _activations(graph, ranges)
    tensors = {
        name: _stored(graph.tensors[name], quantisation)
        for name, quantisation in activations.items()
    }
    tensors |= {name: t for name, t in graph.tensors.items() if t.dtype is DType.I32}
    layers = {
        op.output: QuantisedLayer(
            graph, op, activations, bits[op.output], (grids or {}).get(op.inputs[1])
        )
        for op in graph.ops
        if graph.weight(op) is not None
    }
    tensors |= quantised_norms(graph)
    shifts = mean_errors(graph, layers, activations, bias_correction)
    ops = []
    for op in graph.ops:
        if op.output in layers:
            weight, bias = layers[op.output].tensors(shifts.get(op.output, 0.0))
            tensors |= {weight.name: weight, bias.name: bias}
            op = replace(op, inputs=(op.inputs[0], weight.name, bias.name))
        elif op.kind in ("gru", "lstm"):
            op, constants = quantised_recurrent(graph, op, activations)
            tensors |= constants
        ops.append(op)
    return Graph.build(
        graph.name, graph.inputs, graph.outputs, tuple(ops), tensors, spec or QuantSpec()
    )


def affine_quantisation(lower: float, upper: float) -> Quantisation:
    """Affine int8 that covers [lower, upper] and zero; a range of zero gets the scale 1."""
    lower, upper = min(lower, 0.0), max(upper, 0.0)
    scale = float(np.float32((upper - lower) / 255)) or 1.0
    return Quantisation((scale,), max(-128, min(127, math.floor(-128 - lower / scale + 0.5))))


def _bits_by_op(graph: Graph, weight_bits: Mapping[str, int] | int) -> dict[str, int]:
    names = [op.output for op in graph.ops if graph.weight(op) is not None]
    if isinstance(weight_bits, int):
        bits = dict.fromkeys(names, weight_bits)
    else:
        for name in weight_bits:
            if name not in names:
                raise UnknownNameError("layer with weights", name, names)
        bits = dict.fromkeys(names, 8) | dict(weight_bits)
    for name, width in bits.items():
        if width not in (4, 8):
            raise ConfigError(f"weights of {name!r} cannot have {width} bits; choose 4 or 8")
    return bits


def _activations(graph: Graph, ranges: Ranges) -> dict[str, Quantisation]:
    """Quantisation of every tensor that is not a layer's weight or bias."""
    layer_constants = {
        name
        for op in graph.ops
        if op.kind in ("conv2d", "linear", "layernorm", "gru", "lstm")
        for name in op.inputs[1:]
    }
    names = [
        name
        for name, tensor in graph.tensors.items()
        if name not in layer_constants and tensor.dtype is not DType.I32
    ]
    groups = _Groups(names)
    fixed = set()
    for op in graph.ops:
        if op.kind in _KEEPING:
            groups.join(op.inputs[0], op.output)
        elif op.kind == "embedding":
            groups.join(op.inputs[1], op.output)
        elif _is_unit(op):
            fixed.add(op.output)
    fixed = {groups.head(name) for name in fixed}
    for op in graph.ops:
        if op.kind != "concat":
            continue
        for name in op.inputs:
            alone = len(graph.consumers[name]) == 1 and name not in graph.inputs + graph.outputs
            if alone and not {groups.head(name), groups.head(op.output)} & fixed:
                groups.join(name, op.output)
    found: dict[str, Quantisation] = {}
    for members in groups.members():
        if groups.head(members[0]) in fixed:
            quantisation = _UNIT
        else:
            spans = [_range(graph.tensors[name], ranges) for name in members]
            quantisation = affine_quantisation(min(s[0] for s in spans), max(s[1] for s in spans))
        found |= dict.fromkeys(members, quantisation)
    return found


class _Groups:
    """Disjoint sets of tensors that share one quantisation."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}

    def head(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def join(self, first: str, second: str) -> None:
        self._parent[self.head(first)] = self.head(second)

    def members(self) -> list[list[str]]:
        sets: dict[str, list[str]] = {}
        for name in self._parent:
            sets.setdefault(self.head(name), []).append(name)
        return list(sets.values())


def _is_unit(op: Op) -> bool:
    match op.attributes:
        case at.Softmax() | at.Activation(function="sigmoid"):
            return True
    return False


def _range(tensor: Tensor, ranges: Ranges) -> tuple[float, float]:
    if tensor.data is not None:
        values = tensor.data.astype(np.float64)
        if not np.isfinite(values).all():
            raise DataError(f"constant {tensor.name!r} holds NaN or infinite values")
        return float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if tensor.name not in ranges.lower:
        raise DataError(f"ranges lack the activation {tensor.name!r}; calibrate this very graph")
    return ranges.lower[tensor.name], ranges.upper[tensor.name]


def _stored(tensor: Tensor, quantisation: Quantisation) -> Tensor:
    data = tensor.data
    if data is not None:
        scaled = np.rint(data.astype(np.float64) / quantisation.scale[0]) + quantisation.zero_point
        data = np.clip(scaled, -128, 127).astype(np.int8)
    return replace(tensor, dtype=DType.I8, quantisation=quantisation, data=data)
