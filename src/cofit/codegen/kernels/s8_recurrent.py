"""int8 GRU and LSTM with states of 16 bits: plain C, the same on the host and Cortex-M."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.s8_layer import bounds_fields, requantise_support
from cofit.codegen.machine import Machine
from cofit.core import UnsupportedOpError
from cofit.ir import Graph, Op
from cofit.ir.integer import affine, gate_table, recurrent_parameters, state_requant


class S8Recurrent:
    """Every gru and lstm op whose sums fit int32."""

    name = "s8-recurrent"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other ops, sums out of range."""
        if op.kind not in ("gru", "lstm"):
            return f"{op.kind} is not recurrent"
        try:
            recurrent_parameters(graph, op)
        except UnsupportedOpError as error:
            return str(error)
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call; scratch holds the state and the gates of a step."""
        steps = graph.tensors[op.inputs[0]].shape[1]
        parameters = recurrent_parameters(graph, op)
        w_ih, w_hh, b_ih, b_hh = (_values(graph, name) for name in op.inputs[1:])
        parts: dict[str, NDArray[Any]] = {
            "sigmoid": gate_table("sigmoid"), "tanh": gate_table("tanh"),
            "w_ih": w_ih.astype(np.int8), "w_hh": w_hh.astype(np.int8),
            "b_ih": b_ih.astype(np.int32), "b_hh": b_hh.astype(np.int32),
            "m_ih": parameters.inner[0], "s_ih": parameters.inner[1],
            "m_hh": parameters.outer[0], "s_hh": parameters.outer[1],
        }  # fmt: skip
        constants = {name: Constant(f"table_{name}", values) for name, values in parts.items()}
        at = {name: array_name(constant) for name, constant in constants.items()}

        def gates(side: str, weight: NDArray[Any]) -> str:
            return (
                f"{{.weights = {at[f'w_{side}']}, .bias = {at[f'b_{side}']},\n"
                f"        .multiplier = {at[f'm_{side}']}, .shift = {at[f's_{side}']},\n"
                f"        .rows = {weight.shape[0]}, .columns = {weight.shape[1]}}}"
            )

        multiplier, shift = state_requant(graph, op)
        body = (
            f"static const s8_cell cell = {{\n    .inner = {gates('ih', w_ih)},\n"
            f"    .outer = {gates('hh', w_hh)},\n"
            f"    .sigmoid = {at['sigmoid']}, .tanh = {at['tanh']},\n"
            f"    .steps = {steps}, .offset = {-affine(graph, op.inputs[0])[1]},\n"
            f"    .multiplier = {multiplier}, .shift = {shift},\n"
            f"    {bounds_fields(graph, op)}}};\n"
            f"s8_{op.kind}(&cell, in0, (int16_t *)(void *)scratch, out);"
        )
        states = 1 if op.kind == "gru" else 2
        return KernelCode(
            body,
            tuple(constants.values()),
            (requantise_support(graph), "s8_recurrent.h"),
            scratch_bytes=2 * (states * w_hh.shape[1] + 2 * len(w_hh)),
            variant=f"{steps} steps, gates Q3.12",
        )


def _values(graph: Graph, name: str) -> NDArray[Any]:
    return np.asarray(graph.tensors[name].data)
