"""Quantised constants of GRU and LSTM ops: int8 weights per row, int32 biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cofit.core import DataError
from cofit.ir.integer.recurrent import GATE_BITS, STATE_BITS
from cofit.ir.quantise_layer import weight_scales
from cofit.ir.types import DType, Graph, Op, Quantisation, Tensor


def quantised_recurrent(
    graph: Graph, op: Op, activations: Mapping[str, Quantisation]
) -> tuple[Op, dict[str, Tensor]]:
    """The op over its own constants, and these, by name."""
    x, w_ih, w_hh, b_ih, b_hh = op.inputs
    found: dict[str, Tensor] = {}
    for weight, bias, scale_x in (
        (w_ih, b_ih, activations[x].scale[0]),
        (w_hh, b_hh, 2.0**-STATE_BITS),
    ):
        rows, start = (_values(graph, op, name) for name in (weight, bias))
        scales = weight_scales(rows, 8)
        # as for a layer: rows of zeros are their bias alone, and biases fit int32
        scales = np.where(scales > 0, scales, 2.0**-GATE_BITS / (256 * scale_x))
        scales = np.maximum(scales, np.abs(start) / (scale_x * 2.0**29))
        scales = scales.astype(np.float32).astype(np.float64)
        steps = scale_x * scales
        stored = np.clip(np.rint(rows / scales[:, None]), -127, 127).astype(np.int8)
        parts = (
            (weight, DType.I8, Quantisation(tuple(scales.tolist())), stored),
            (bias, DType.I32, Quantisation(tuple(steps.tolist()), 0, 32),
             np.rint(start / steps).astype(np.int32)),
        )  # fmt: skip
        for name, dtype, quantisation, data in parts:
            shared = len(graph.consumers[name]) > 1 or op.inputs.count(name) > 1
            own = f"{op.output}.{name}" if shared else name
            while own in found:
                own = f"{own}_hh"
            found[own] = replace(
                graph.tensors[name], name=own, dtype=dtype, quantisation=quantisation, data=data
            )
    w, b, u, v = found
    return replace(op, inputs=(x, w, u, b, v)), found


def _values(graph: Graph, op: Op, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    data = graph.tensors[name].data
    assert data is not None
    if not np.isfinite(data.astype(np.float64)).all():
        raise DataError(f"op {op.output!r} has weights that are NaN or infinite")
    return data.astype(np.float64)
