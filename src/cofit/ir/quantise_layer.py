"""Quantised weights and biases of one layer, and the correction of its bias."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import DataError
from cofit.ir import attributes as at
from cofit.ir.calibrate import Batch, named
from cofit.ir.execute import apply, run_float
from cofit.ir.integer.layernorm import BIAS_BOUND, FRACTION_BITS, WEIGHT_BITS
from cofit.ir.types import DType, Graph, Op, Quantisation, Tensor

Float64 = NDArray[np.float64]
_CLIPS = np.linspace(0.3, 1.0, 71)  # fractions of the largest weight tried at 4 bits


def weight_scales(weight: Float64, bits: int) -> Float64:
    """Symmetric scale of each output channel: weight (K, ...) gives (K,), 0 for channels of zeros.

    8 bits: largest magnitude / 127. 4 bits: the clip of the largest magnitude that minimises the
    squared error of the rounded weights.
    """
    rows = weight.reshape(len(weight), -1)
    top = (1 << (bits - 1)) - 1
    scales: Float64 = np.abs(rows).max(axis=1) / top
    if bits == 8:
        return scales
    best = np.full(len(rows), np.inf)
    chosen = scales.copy()
    for clip in _CLIPS:
        trial = scales * clip
        error = ((_rounded(rows, trial, top) * trial[:, None] - rows) ** 2).sum(axis=1)
        chosen = np.where(error < best, trial, chosen)
        best = np.minimum(error, best)
    return chosen


class Grid(Protocol):
    """How the channels of a weight lie on integers where they do not do so one by one."""

    def scales(self, least: Float64) -> Float64:
        """Scales (K,) to take where each channel by itself would take these; none is below."""
        ...

    def levels(self, weight: Float64, scales: Float64, largest: int) -> Float64:
        """Integers of magnitude up to `largest` for a weight (K, ...), near weight / scale."""
        ...


class QuantisedLayer:
    """The quantised weight of one conv2d or linear op, and what its bias needs."""

    def __init__(
        self,
        graph: Graph,
        op: Op,
        activations: Mapping[str, Quantisation],
        bits: int,
        grid: Grid | None = None,
    ) -> None:
        self.op, self.bits = op, bits
        x, weight, bias = (graph.tensors[name] for name in op.inputs)
        assert weight.data is not None and bias.data is not None
        self.source, self.bias = weight, bias.data.astype(np.float64)
        # a constant that another op reads too gets a copy of this op's own
        shared = [len(graph.consumers[t.name]) > 1 for t in (weight, bias)]
        self.names = [
            f"{op.output}.{t.name}" if twice else t.name
            for t, twice in zip((weight, bias), shared, strict=True)
        ]
        values = weight.data.astype(np.float64)
        if not (np.isfinite(values).all() and np.isfinite(self.bias).all()):
            raise DataError(f"op {op.output!r} has weights that are NaN or infinite")
        self.scale_x = activations[x.name].scale[0]
        scale_y = activations[op.output].scale[0]
        scales = weight_scales(values, bits).astype(np.float32).astype(np.float64)
        # a channel of zeros is its bias alone: held in steps of 1/256 of the output's
        scales = np.where(scales > 0, scales, scale_y / (256 * self.scale_x))
        # a channel of tiny weights must not push its bias out of int32
        scales = np.maximum(scales, np.abs(self.bias) / (self.scale_x * 2.0**29))
        scales = scales if grid is None else grid.scales(scales)
        self.scales = scales.astype(np.float32).astype(np.float64)
        top = (1 << (bits - 1)) - 1
        if grid is None:
            rows = _rounded(values.reshape(len(values), -1), self.scales, top)
        else:
            rows = grid.levels(values, self.scales, top)
        self.stored = rows.reshape(values.shape).astype(np.int8)

    @property
    def real_weight(self) -> torch.Tensor:
        """What the stored weight stands for, float32."""
        scales = self.scales.reshape(-1, *[1] * (self.stored.ndim - 1))
        return torch.from_numpy((self.stored * scales).astype(np.float32))

    def tensors(self, shift: Float64 | float) -> tuple[Tensor, Tensor]:
        """Weight and bias tensors, `shift` (K,) added to the real bias."""
        weight = replace(
            self.source,
            name=self.names[0],
            dtype=DType.I8,
            quantisation=Quantisation(tuple(self.scales.tolist()), 0, self.bits),
            data=self.stored,
        )
        scales = self.scale_x * self.scales
        bias = np.rint((self.bias + shift) / scales).astype(np.int32)
        quantisation = Quantisation(tuple(scales.tolist()), 0, 32)
        return weight, Tensor(self.names[1], bias.shape, DType.I32, quantisation, bias)


def quantised_norms(graph: Graph) -> dict[str, Tensor]:
    """Weights (12 bits) and biases of all layer norms, by name.

    They do not depend on activations, so that norms which share them share these too.
    """
    found: dict[str, Tensor] = {}
    for op in graph.ops:
        if op.kind != "layernorm":
            continue
        weight, bias = (graph.tensors[name] for name in op.inputs[1:])
        assert weight.data is not None and bias.data is not None
        values = [t.data.astype(np.float64) for t in (weight, bias) if t.data is not None]
        if not all(np.isfinite(v).all() for v in values):
            raise DataError(f"op {op.output!r} has weights that are NaN or infinite")
        unit = 1 << FRACTION_BITS
        scale = max(
            float(np.abs(values[0]).max()) / ((1 << (WEIGHT_BITS - 1)) - 1),
            float(np.abs(values[1]).max()) * unit / BIAS_BOUND,
        )
        scale = float(np.float32(scale)) or 1.0
        parts = (
            (weight, DType.I16, scale, WEIGHT_BITS),
            (bias, DType.I32, scale / unit, 32),
        )
        for (tensor, dtype, step, bits), real in zip(parts, values, strict=True):
            stored = np.rint(real / step).astype(dtype.value)
            quantisation = Quantisation((step,), 0, bits)
            found[tensor.name] = replace(
                tensor, dtype=dtype, quantisation=quantisation, data=stored
            )
    return found


def _rounded(rows: Float64, scales: Float64, top: int) -> Float64:
    """Rows / scale, rounded and clamped to [-top, top]; rows (K, n), scales (K,)."""
    safe = np.where(scales > 0, scales, 1.0)[:, None]
    rounded: Float64 = np.clip(np.rint(rows / safe), -top, top)
    return rounded


def mean_errors(
    graph: Graph,
    layers: Mapping[str, QuantisedLayer],
    activations: Mapping[str, Quantisation],
    batches: Iterable[Batch],
) -> dict[str, Float64]:
    """Mean over batches of float minus quantised output, before the clamp, (K,) per layer."""
    sums: dict[str, Float64] = {}
    count = 0
    with torch.no_grad():
        for batch in batches:
            inputs = named(graph, batch)
            values = run_float(graph, inputs, keep=True)
            size = len(next(iter(inputs.values())))
            for name, layer in layers.items():
                error = _layer_error(graph, layer, activations, values)
                sums[name] = sums.get(name, 0.0) + size * error
            count += size
    return {name: total / count for name, total in sums.items()}


def _layer_error(
    graph: Graph,
    layer: QuantisedLayer,
    activations: Mapping[str, Quantisation],
    values: Mapping[str, torch.Tensor],
) -> Float64:
    op = layer.op
    assert isinstance(op.attributes, at.Conv2d | at.Linear)
    bare = replace(op, attributes=replace(op.attributes, fused="none"))
    x, weight, bias = (values[name] for name in op.inputs)
    quantisation = activations[op.inputs[0]]
    scale, zero_point = quantisation.scale[0], quantisation.zero_point
    rounded = torch.clamp(torch.round(x / scale) + zero_point, -128, 127)
    exact = apply(bare, [x, weight, bias])
    approximate = apply(bare, [(rounded - zero_point) * scale, layer.real_weight, bias])
    axis = 1 if op.kind == "conv2d" else exact.ndim - 1
    difference = (exact - approximate).double().movedim(axis, 0).flatten(1)
    result: Float64 = difference.mean(dim=1).numpy()
    return result
