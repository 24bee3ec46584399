"""Energy of the whole data path on real operands: weights, activations and the sums they make."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.data import Dataset
from cofit.ir import Graph, Op, run_integer
from cofit.ir import attributes as at
from cofit.ir.integer import quantise_input
from cofit.reproductions.hamming_codesign.permutations import cluster, reorder
from cofit.reproductions.hamming_codesign.streams import (
    natural,
    segmented,
    streams,
    weight_matrix,
)
from cofit.reproductions.hamming_codesign.study import MEASURES, Settings
from cofit.reproductions.harness import Step
from cofit.rtl import stream_mac
from cofit.targets.datapath import Activity, Operands, Sequence, activity, datapath, sequence

ENCODING = "twos_complement"
"""Of the unit whose energy is known."""

POSITIONS = 16
"""Output positions of one image whose operands are streamed, from the middle of each layer."""

TRANSITIONS = 256
"""Cycles of a layer that pass through the netlist."""

Int8 = NDArray[np.int8]


@dataclass(frozen=True)
class Layer:
    """One layer of a network under one measure.

    Attributes:
        name: of its weight.
        measure: in which it was streamed.
        sequence: what the units see, `POSITIONS` positions at most.
        share: of the layer's positions that these are.
    """

    name: str
    measure: str
    sequence: Sequence
    share: float


def layers(graph: Graph, image: Int8, measure: str, height: int) -> list[Layer]:
    """The layers of an integer graph as an input-stationary array streams them.

    Args:
        graph: before any permutation.
        image: (1, C, H, W), stored values.
        measure: one of `MEASURES`.
        height: of the array.
    """
    if measure == "reordered":
        graph = reorder(graph, ENCODING)
    elif measure == "clustered":
        graph = cluster(graph, ENCODING, height)
    values = run_integer(graph, {graph.inputs[0]: image}, keep=True)
    order = segmented if measure in ("segmented", "clustered") else natural
    found = []
    for (op, weight), each in zip(graph.weighted(), streams(graph, ENCODING), strict=True):
        assert weight.data is not None
        columns = input_columns(graph, op, values[op.inputs[0]])
        first = max(len(columns) - POSITIONS, 0) // 2
        chosen = columns[first : first + POSITIONS]
        operands = Operands(weight_matrix(weight.data), chosen)
        streamed = sequence(operands, height, order(each, height))
        found.append(Layer(weight.name, measure, streamed, len(chosen) / len(columns)))
    return found


def input_columns(graph: Graph, op: Op, x: Int8) -> Int8:
    """Stored inputs of each output position, in the order of `weight_matrix`.

    Padding is what stands for zero. (P, C) of a plain layer, (P, K, C) of a depthwise one.
    """
    if not isinstance(op.attributes, at.Conv2d):
        return x.reshape(-1, x.shape[-1])
    conv, weight = op.attributes, graph.tensors[op.inputs[1]]
    quantisation = graph.tensors[op.inputs[0]].quantisation
    assert quantisation is not None
    top, bottom, left, right = conv.padding
    padded = np.pad(
        x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=quantisation.zero_point
    )
    sides = zip(weight.shape[2:], conv.dilation, strict=True)
    reach = [(size - 1) * step + 1 for size, step in sides]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, :: conv.stride[0], :: conv.stride[1]]
    windows = windows[..., :: conv.dilation[0], :: conv.dilation[1]]  # (N, C, Y, X, R, S)
    if conv.groups == 1:
        return np.ascontiguousarray(windows.transpose(0, 2, 3, 4, 5, 1)).reshape(
            -1, math.prod(weight.shape[1:])
        )
    assert weight.shape[1] == 1  # this network's layers with groups are depthwise
    return np.ascontiguousarray(windows.transpose(0, 2, 3, 1, 4, 5)).reshape(
        -1, weight.shape[0], math.prod(weight.shape[2:])
    )


def priced(graph: Graph, settings: Settings, data: Dataset, step: Step) -> dict[str, Any]:
    """Per layer what each measure costs the data path, by "height/measure"; whole layers."""
    image = quantise_input(graph, np.ascontiguousarray(data.test.inputs[:1].numpy()))
    found: dict[str, Any] = {}
    pairs = list(itertools.product(_heights(settings), MEASURES))
    for done, (height, measure) in enumerate(pairs):
        found[f"{height}/{measure}"] = [
            asdict(activity(layer.sequence, datapath())) | {"share": layer.share}
            for layer in layers(graph, image, measure, height)
        ]
        step.progress("data path", done + 1, len(pairs))
    return {"datapath": found}


def _heights(settings: Settings) -> tuple[int, ...]:
    return tuple(dict.fromkeys((settings.height, min(settings.heights))))


def activities(found: dict[str, Any], height: int, measure: str) -> list[tuple[Activity, float]]:
    """Per layer, out of a stored step, with the share of its positions that were streamed."""
    rows = [dict(row) for row in found["datapath"][f"{height}/{measure}"]]
    shares = [row.pop("share") for row in rows]
    return [(Activity(**row), share) for row, share in zip(rows, shares, strict=True)]


def through_gates(graph: Graph, settings: Settings, data: Dataset, _: Step) -> dict[str, Any]:
    """Mean energy of streams by the table and by the netlist, every layer in two orders.

    Raises:
        MissingDependencyError: Yosys is not installed.
    """
    image = quantise_input(graph, np.ascontiguousarray(data.test.inputs[:1].numpy()))
    table, gates = [], []
    for measure in ("natural", "segmented"):
        for layer in layers(graph, image, measure, settings.height):
            part = Sequence(
                layer.sequence.weights[:TRANSITIONS],
                layer.sequence.inputs[:TRANSITIONS],
                layer.sequence.sums[:TRANSITIONS],
            )
            table.append(activity(part, datapath()).per_mac_j)
            gates.append(stream_mac(part.weights, part.inputs, part.sums).logic_j)
    return {"table": table, "gates": gates}
