"""int8 GRU and LSTM with states of 16 bits: plain C, for every machine."""

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
        parameters = recurrent_parameters(graph, op)
        w_ih, w_hh, b_ih, b_hh = recurrent_values(graph, op)
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

        body = (
            f"static const s8_gates gates[2] = {{\n    {gates('ih', w_ih)},\n"
            f"    {gates('hh', w_hh)}}};\n{cell_text(graph, op, at['sigmoid'], at['tanh'])}\n"
            f"s8_{op.kind}(&cell, gates, in0, (int16_t *)(void *)scratch, out);"
        )
        states = 1 if op.kind == "gru" else 2
        return KernelCode(
            body,
            tuple(constants.values()),
            (requantise_support(graph), "s8_recurrent.h"),
            scratch_bytes=2 * (states * w_hh.shape[1] + 2 * len(w_hh)),
            variant=f"{graph.tensors[op.output].shape[1]} steps, gates Q3.12",
        )


def recurrent_values(graph: Graph, op: Op) -> tuple[NDArray[Any], ...]:
    """W_ih (G, C), W_hh (G, H), b_ih (G,), b_hh (G,) as stored."""
    return tuple(np.asarray(graph.tensors[name].data) for name in op.inputs[1:])


def cell_text(graph: Graph, op: Op, sigmoid: str, tanh: str) -> str:
    """C declaration of the `s8_cell` named `cell`, with C expressions of its tables."""
    (_, steps, inputs), (_, _, hidden) = (
        graph.tensors[name].shape for name in (op.inputs[0], op.output)
    )
    multiplier, shift = state_requant(graph, op)
    return (
        f"static const s8_cell cell = {{.sigmoid = {sigmoid}, .tanh = {tanh},\n"
        f"    .steps = {steps}, .inputs = {inputs}, .hidden = {hidden},\n"
        f"    .offset = {-affine(graph, op.inputs[0])[1]},\n"
        f"    .multiplier = {multiplier}, .shift = {shift}, {bounds_fields(graph, op)}}};"
    )
