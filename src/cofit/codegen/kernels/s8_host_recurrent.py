"""int8 GRU and LSTM on a CPU with vectors: 16 gates by pairs of inputs, eight functions at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.s8_host import dense_rows
from cofit.codegen.kernels.s8_host_layer import (
    CACHE_LINE_BYTES,
    LANES,
    host_support,
    no_vectors,
    rounding_name,
    vector_shifts,
)
from cofit.codegen.kernels.s8_recurrent import S8Recurrent, cell_text, recurrent_values
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.ir.integer import gate_table, recurrent_parameters, state_requant
from cofit.ir.integer.recurrent import Rows


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
        pitch = -(-len(w_hh) // LANES) * LANES
        tables = [Constant(f"table_{name}", gate_table(name)) for name in ("sigmoid", "tanh")]
        constants, layers = list(tables), []
        for side, weight, bias, pair in (
            ("ih", w_ih, b_ih, parameters.inner),
            ("hh", w_hh, b_hh, parameters.outer),
        ):
            arrays = _layer_arrays(weight, bias, pair)
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
            f"s8_host_recurrent(&cell, layers, in0, (int16_t *)(void *)scratch, out, "
            f"{int(op.kind == 'lstm')}, {rounding});"
        )
        elements = 2 * w_hh.shape[1] + 1 + w_ih.shape[1] + 1 + 2 * pitch
        return KernelCode(
            body,
            tuple(constants),
            host_support(graph, "s8_host_recurrent.h"),
            scratch_bytes=2 * elements,
            variant=f"{graph.tensors[op.output].shape[1]} steps, gates Q3.12",
        )


def _rounding(graph: Graph, op: Op, pair: Rows) -> str:
    return rounding_name(graph, op, vector_shifts(*pair))


def _layer_arrays(weight: NDArray[Any], bias: NDArray[Any], pair: Rows) -> dict[str, NDArray[Any]]:
    """Pointers of an `s8_host_layer`: rows in whole vectors, runs of an even length."""
    rows, columns = weight.shape
    more = (0, -rows % LANES)
    even = np.pad(weight.astype(np.int8), ((0, 0), (0, columns % 2)))
    multiplier, shift = pair
    return {
        "weights": dense_rows(even[None]).weights,
        "index": np.arange(0, columns, 2, dtype=np.int32),
        "bias": np.pad(bias.astype(np.int32), more),
        "multiplier": np.pad(multiplier, more),
        "shift": np.pad(vector_shifts(multiplier, shift), more, constant_values=-1),
    }
