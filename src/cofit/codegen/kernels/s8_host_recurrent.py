"""int8 GRU and LSTM on a CPU with vectors: 16 gates by pairs of inputs, eight functions at once.

A weight in blocks or stripes of whole vectors of rows is multiplied by lists of kept columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.s8_host import dense_rows, list_rows
from cofit.codegen.kernels.s8_host_layer import (
    CACHE_LINE_BYTES,
    LANES,
    host_support,
    no_vectors,
    rounding_name,
    vector_shifts,
)
from cofit.codegen.kernels.s8_recurrent import (
    S8Recurrent,
    cell_text,
    forms_of,
    recurrent_blocks,
    recurrent_values,
)
from cofit.codegen.kernels.window import Window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, Tensor
from cofit.ir.integer import gate_table, recurrent_parameters, state_requant
from cofit.ir.integer.recurrent import Rows
from cofit.structures import Encoding


class S8HostRecurrent:
    """Every gru and lstm op whose sums fit int32."""

    name = "s8-host-recurrent"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, and what S8Recurrent rejects."""
        return no_vectors(machine) or S8Recurrent().reject(graph, op, machine)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call; scratch holds the state, the cell, a step's input and its gates."""
        w_ih, w_hh, b_ih, b_hh = recurrent_values(graph, op)
        parameters = recurrent_parameters(graph, op)
        blocks = [_blocks(weight) for weight in graph.weights(op)]
        heights = [block.parameters["out"] if block else 0 for block in blocks]
        pitch = max(-(-len(w_hh) // h) * h for h in (LANES, *filter(None, heights)))
        tables = [Constant(f"table_{name}", gate_table(name)) for name in ("sigmoid", "tanh")]
        constants, layers = list(tables), []
        for side, weight, bias, pair, block in (
            ("ih", w_ih, b_ih, parameters.inner, blocks[0]),
            ("hh", w_hh, b_hh, parameters.outer, blocks[1]),
        ):
            arrays = _layer_arrays(weight, bias, pair, block)
            own = [
                Constant(f"{name}_{side}", values, CACHE_LINE_BYTES)
                for name, values in arrays.items()
            ]
            constants += own
            fields = [
                f".{name} = {array_name(array)}" for name, array in zip(arrays, own, strict=True)
            ]
            layers.append(
                f"{{{', '.join(fields)},\n     .rows = {len(weight)}, .pitch = {pitch}, "
                f".rounding = {_rounding(graph, op, pair)}}}"
            )
        multiplier, shift = (np.array([v], np.int32) for v in state_requant(graph, op))
        rounding = _rounding(graph, op, (multiplier, shift))
        body = (
            f"static const s8_host_layer layers[2] = {{\n    {layers[0]},\n    {layers[1]}}};\n"
            f"{cell_text(graph, op, *map(array_name, tables))}\n"
            f"s8_host_recurrent(&cell, layers, {heights[0]}, {heights[1]}, in0, "
            f"(int16_t *)(void *)scratch, out, "
            f"{int(op.kind == 'lstm')}, {rounding});"
        )
        elements = 2 * w_hh.shape[1] + 1 + w_ih.shape[1] + 1 + 2 * pitch
        return KernelCode(
            body,
            tuple(constants),
            host_support(graph, "s8_host_recurrent.h"),
            scratch_bytes=2 * elements,
            variant=f"{graph.tensors[op.output].shape[1]} steps, gates Q3.12"
            + forms_of(graph, op, blocks),
        )


def _rounding(graph: Graph, op: Op, pair: Rows) -> str:
    return rounding_name(graph, op, vector_shifts(*pair))


def _blocks(weight: Tensor) -> Encoding | None:
    """Blocks of whole vectors of rows, if these are what the weight is made of."""
    encoding = recurrent_blocks(weight)
    if encoding is None or encoding.parameters["in"] > 1 or encoding.parameters["out"] % LANES:
        return None
    return encoding


def _layer_arrays(
    weight: NDArray[Any], bias: NDArray[Any], pair: Rows, block: Encoding | None
) -> dict[str, NDArray[Any]]:
    """Pointers of an `s8_host_layer`: rows in whole vectors, runs of an even length."""
    rows, columns = weight.shape
    height = LANES if block is None else block.parameters["out"]
    more = (0, -rows % height)
    multiplier, shift = pair
    found: dict[str, NDArray[Any]] = {
        "bias": np.pad(bias.astype(np.int32), more),
        "multiplier": np.pad(multiplier, more),
        "shift": np.pad(vector_shifts(multiplier, shift), more, constant_values=-1),
    }
    if block is None:
        even = np.pad(weight.astype(np.int8), ((0, 0), (0, columns % 2)))
        weights = dense_rows(even[None]).weights
        return found | {"weights": weights, "index": np.arange(0, columns, 2, dtype=np.int32)}
    listed = list_rows(block, Window(columns, 1, 1, rows, 1, 1))
    assert listed.index is not None and listed.start is not None
    index = listed.index.astype(np.int32)
    return found | {"weights": listed.weights, "index": index, "start": listed.start}
