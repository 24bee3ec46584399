"""int8 GRU and LSTM with states of 16 bits: plain C, for every machine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.block_lists import block_lists
from cofit.codegen.kernels.encoded import too_dense
from cofit.codegen.kernels.s8_layer import bounds_fields, requantise_support
from cofit.codegen.kernels.s8_sparse import int8_encoding
from cofit.codegen.machine import Machine
from cofit.core import UnsupportedOpError
from cofit.ir import Graph, Op, Tensor
from cofit.ir.integer import affine, gate_table, recurrent_parameters, state_requant
from cofit.structures import Encoding

DENSITY_LIMIT = 0.8  # above it, lists save nothing
_SCRATCH = "(int16_t *)(void *)scratch"


class S8Recurrent:
    """Every gru and lstm op whose sums fit int32; blocks of weights by lists of columns."""

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
        blocks = [recurrent_blocks(weight) for weight in graph.weights(op)]
        listed = any(blocks)
        tables: dict[str, NDArray[Any]] = {
            "table_sigmoid": gate_table("sigmoid"), "table_tanh": gate_table("tanh"),
        }  # fmt: skip
        most = 0
        for side, weight, bias, rows, block in (
            ("ih", w_ih, b_ih, parameters.inner, blocks[0]),
            ("hh", w_hh, b_hh, parameters.outer, blocks[1]),
        ):
            arrays: dict[str, NDArray[Any]] = {"weights": weight.astype(np.int8)}
            if block is not None:
                arrays = _list_arrays(block)
                most = max(most, int(np.diff(arrays["start"].astype(np.int64)).max()))
            arrays |= {
                "bias": bias.astype(np.int32), "multiplier": rows[0], "shift": rows[1],
            }  # fmt: skip
            tables |= {f"{name}_{side}": values for name, values in arrays.items()}
        constants = {name: Constant(name, values) for name, values in tables.items()}
        at = {name: array_name(constant) for name, constant in constants.items()}

        def gates(side: str, weight: NDArray[Any], block: Encoding | None) -> str:
            dense = (
                f"{{.weights = {at[f'weights_{side}']}, .bias = {at[f'bias_{side}']},\n"
                f"        .multiplier = {at[f'multiplier_{side}']},\n"
                f"        .shift = {at[f'shift_{side}']},\n"
                f"        .rows = {weight.shape[0]}, .columns = {weight.shape[1]}}}"
            )
            if block is None:
                return f"{{.gates = {dense}}}" if listed else dense
            return (
                f"{{.gates = {dense},\n        .start = {at[f'start_{side}']}, "
                f".index = {at[f'index_{side}']}, .height = {block.parameters['out']}}}"
            )

        kind, call = ("s8_gates", f"s8_{op.kind}(&cell, gates, in0, {_SCRATCH}, out);")
        if listed:
            lstm = int(op.kind == "lstm")
            kind = "s8_listed_gates"
            call = f"s8_recurrent_by_lists(&cell, gates, in0, {_SCRATCH}, out, {lstm});"
        body = (
            f"static const {kind} gates[2] = {{\n    {gates('ih', w_ih, blocks[0])},\n"
            f"    {gates('hh', w_hh, blocks[1])}}};\n"
            f"{cell_text(graph, op, at['table_sigmoid'], at['table_tanh'])}\n{call}"
        )
        states = 2 if listed or op.kind == "lstm" else 1
        elements = states * w_hh.shape[1] + 2 * len(w_hh)
        if listed:
            elements += w_ih.shape[1] + most
        return KernelCode(
            body,
            tuple(constants.values()),
            (
                requantise_support(graph),
                "s8_recurrent_lists.h" if listed else "s8_recurrent.h",
            ),
            scratch_bytes=2 * elements,
            variant=f"{graph.tensors[op.output].shape[1]} steps, gates Q3.12"
            + forms_of(graph, op, blocks),
        )


def recurrent_blocks(weight: Tensor) -> Encoding | None:
    """Blocks of rows that share their columns, if the weight is made of such and sparse enough."""
    encoding = int8_encoding(weight, np.asarray(weight.data).astype(np.int8))
    if isinstance(encoding, str) or encoding.format != "ocb" or not encoding.arrays["values"].size:
        return None
    return None if too_dense(encoding, DENSITY_LIMIT) else encoding


def forms_of(graph: Graph, op: Op, blocks: Sequence[Encoding | None]) -> str:
    """Which structures the code makes use of, for reports."""
    return "".join(
        f", {side} {weight.structure}"
        for side, weight, block in zip(("ih", "hh"), graph.weights(op), blocks, strict=True)
        if block is not None
    )


def _list_arrays(block: Encoding) -> dict[str, NDArray[Any]]:
    """Weights row by row within a block, and its columns; the rows of the last may be fewer."""
    lists, rows = block_lists(block), block.shape[0]
    weights = [
        lists.values[start:end, : rows - i * lists.out].T.ravel()
        for i, (start, end) in enumerate(pairwise(lists.start.tolist()))
    ]
    return {
        "weights": np.concatenate(weights).astype(np.int8),
        "start": lists.start.astype(np.uint32),
        "index": lists.channel.astype(np.uint16),
    }


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
