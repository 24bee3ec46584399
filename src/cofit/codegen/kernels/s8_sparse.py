"""int8 convolutions and linear layers of a structure: the encoding's lists over int16 columns.

Columns lie in order (r, s, c), so that neighbouring input channels of a block are neighbours; for
patterns and N:M in order (c, r, s), so that horizontal pairs and the M of a group are. The
encoding's positions are translated into places in the column when the code is generated: arrays of
the same size, no arithmetic at run time. Reads past a ragged channel edge meet zero weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.encoded import lines_as_blocks, too_dense
from cofit.codegen.kernels.s8_dense import pack_dense
from cofit.codegen.kernels.s8_layer import (
    SHUFFLE,
    Columns,
    Int8,
    Rows,
    columns_of,
    constant,
    is_host,
    layer_constants,
    pair_call,
    reject_weighted,
    requantise_support,
    weight_values,
)
from cofit.codegen.kernels.shares import count_of, declared
from cofit.codegen.machine import Machine
from cofit.core import StructureError, UnknownNameError
from cofit.ir import Graph, Op, Tensor
from cofit.ir.integer import affine, conv_requant, output_bounds, requantise
from cofit.structures import Encoding, parse
from cofit.structures.formats import ocb

FORMATS = ("ocb", "csr", "fkw", "kept", "nm")
VECTOR_DENSITY = 1 / 64  # above it, vectors compute all products faster than these loops the kept
_WIDTHS = ("int8", "int4")


@dataclass(frozen=True)
class Plan:
    """One format's share of the code.

    Attributes:
        columns: order of the columns and what is read past their end.
        rows: the packed encoding.
        function: prefix of the support function.
        arguments: those between `layer` and the columns.
        constants: arrays named in `arguments`.
        partial: whether all outputs are first set to a constant `idle`.
        support: further support files.
        header: name of the function's support file, if it is another.
    """

    columns: Columns
    rows: Rows
    function: str
    arguments: tuple[str, ...] = ()
    constants: tuple[Constant, ...] = ()
    partial: bool = False
    support: tuple[str, ...] = ()
    header: str = ""


class S8Sparse:
    """Weights whose tensor names a structure with a compact format."""

    name = "s8-sparse"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Groups, and structures without a format for this loop."""
        reason = reject_weighted(graph, op)
        if reason is not None:
            return reason
        encoding = listed_encoding(graph, op)
        if isinstance(encoding, Encoding) and is_host(machine):
            return too_dense(encoding, VECTOR_DENSITY)
        return reason_of(encoding)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """The encoding's loop for pairs of pixels."""
        encoding = listed_encoding(graph, op)
        assert isinstance(encoding, Encoding)
        plan = _plan(graph, op, encoding)
        declaration, constants = layer_constants(graph, op, plan.rows)
        shares = plan.columns.shares(graph, op, machine)
        call = pair_call(plan.columns, plan.function, plan.arguments)
        idle = [plan.columns.idle(shares)] if plan.partial else []
        return KernelCode(
            declared(shares, "\n".join((declaration, *idle, plan.columns.loop(call, shares)))),
            (*constants, *plan.constants),
            (
                requantise_support(graph), f"{plan.header or plan.function}.h",
                *plan.columns.support,
                *plan.support,
            ),
            plan.columns.scratch_bytes,
            variant=str(graph.tensors[op.inputs[1]].structure),
            shares=count_of(shares),
        )  # fmt: skip


def listed_encoding(graph: Graph, op: Op) -> Encoding | str:
    """`structured_encoding` for scalar loops, or why the dense loop is better in bytes and time."""
    encoding = structured_encoding(graph, op)
    if isinstance(encoding, str):
        return encoding
    dense = math.prod(encoding.shape)
    if encoding.nbytes >= dense:
        return f"{encoding.nbytes} bytes with indices, {dense} dense"
    return encoding


def structured_encoding(graph: Graph, op: Op) -> Encoding | str:
    """The int8 encoding of an op's weight, or why there is none; 4-bit values are held in bytes."""
    weight = graph.tensors[op.inputs[1]]
    if weight.structure is not None and getattr(op.attributes, "groups", 1) != 1:
        return "grouped convolutions are computed densely"
    return int8_encoding(weight, weight_values(graph, op))


def int8_encoding(weight: Tensor, values: Int8) -> Encoding | str:
    """The encoding of the stored values of a weight, or why there is none.

    Stripes and word lines become blocks, outputs that are gone blocks of zeros: these loops have
    no lists of rows.
    """
    if weight.structure is None:
        return "the weight has no structure"
    text = "+".join(part for part in weight.structure.split("+") if part not in _WIDTHS)
    if not text:
        return f"structure {weight.structure!r} keeps all weights"
    try:
        encoding = parse(text).encode(values)
    except (StructureError, UnknownNameError) as error:
        return str(error)
    if encoding.format == "bspc":
        encoding = ocb.encode(values, encoding.parameters["stripe"], 1)
    elif encoding.format == "lines":
        encoding = lines_as_blocks(encoding)
    return _unsupported(encoding) or encoding


def reason_of(encoding: Encoding | str) -> str | None:
    """The reason, if it is one."""
    return encoding if isinstance(encoding, str) else None


def _unsupported(encoding: Encoding) -> str | None:
    if encoding.format not in FORMATS:
        return f"format {encoding.format!r} has no int8 loop (known: {', '.join(FORMATS)})"
    if any(a.dtype.itemsize == 4 for n, a in encoding.arrays.items() if n in ("index", "count")):
        return "its columns have more than 65535 elements"
    if (
        encoding.format == "ocb"
        and encoding.parameters["in"] not in (1, 2)
        and (encoding.parameters["in"] % 4)
    ):
        return f"blocks of {encoding.parameters['in']} input channels have no int8 loop (1, 2, 4 n)"
    if encoding.format == "fkw" and any(m.bit_count() != 4 for m in _masks(encoding)):
        return "its patterns do not keep four weights"
    return None


def pattern_taps(encoding: Encoding) -> list[list[int]]:
    """Kept taps, row by row, of each pattern of fkw."""
    _, _, r, s = encoding.shape
    return [[b for b in range(r * s) if mask >> b & 1] for mask in _masks(encoding)]


def _masks(encoding: Encoding) -> list[int]:
    return [encoding.parameters[f"pattern{i}"] for i in range(encoding.parameters["patterns"])]


def _plan(graph: Graph, op: Op, encoding: Encoding) -> Plan:
    match encoding.format:
        case "ocb":
            return _block(graph, op, *block_entries(encoding))
        case "csr":
            values = encoding.arrays["values"].astype(np.int8).reshape(-1, 1, 1)
            index = csr_places(encoding)
            return _block(graph, op, encoding.arrays["count"].astype(np.uint16), index, values)
        case "fkw":
            return _pattern(graph, op, encoding)
        case "kept":
            return _kept(graph, op, encoding)
    return _nm(graph, op, encoding)


def block_entries(encoding: Encoding) -> tuple[NDArray[np.uint16], NDArray[np.uint16], Int8]:
    """(count, place in a (r, s, c) column, values (n, out, in <= 4)) of ocb.

    Wide blocks are split into fours; into twos where places are odd, since fours are read as two
    words at once, which must be aligned. A part that begins past the last channel holds zeros.
    """
    _, channels, r, s = (*encoding.shape, 1, 1)[:4]
    out, width = encoding.parameters["out"], encoding.parameters["in"]
    slab, tap = np.divmod(encoding.arrays["index"].astype(np.int64), r * s)
    place = tap * channels + slab * width
    values = encoding.arrays["values"].astype(np.int8).reshape(-1, out, width)
    count = encoding.arrays["count"].astype(np.int64)
    most = 2 if (place % 2).any() else 4
    if width > most:
        parts = width // most
        place = (place[:, None] + most * np.arange(parts)).ravel()
        values = values.reshape(-1, out, parts, most).transpose(0, 2, 1, 3).reshape(-1, out, most)
        count = count * parts
    return count.astype(np.uint16), place.astype(np.uint16), values


def csr_places(encoding: Encoding) -> NDArray[np.uint16]:
    """Places in a (r, s, c) column of csr's positions."""
    _, channels, r, s = (*encoding.shape, 1, 1)[:4]
    channel, tap = np.divmod(encoding.arrays["index"].astype(np.int64), r * s)
    return (tap * channels + channel).astype(np.uint16)


def _block(
    graph: Graph, op: Op, count: NDArray[np.uint16], index: NDArray[np.uint16], values: Int8
) -> Plan:
    out, width = values.shape[1:]
    k = weight_values(graph, op).shape[0]
    packed, start = [np.zeros(0, np.int8)], 0
    for group, entries in enumerate(count.tolist()):
        rows = values[start : start + entries, : min(out, k - group * out)]
        pairs = rows.shape[1] // 2 * 2
        packed.extend(pack_rows(rows[:, i : i + 2]) for i in range(0, pairs, 2))
        packed.extend(pack_rows(rows[:, i : i + 1]) for i in range(pairs, rows.shape[1]))
        start += entries
    reach = max(int(index.max(initial=0)) + width - columns_of(graph, op).length, 0)
    return Plan(
        columns_of(graph, op, reach=reach),
        Rows(np.concatenate(packed), None, count, index),
        f"s8_block{width}",
        (str(out),),
        header="s8_block",
    )


def pack_rows(rows: Int8) -> Int8:
    """(n, 1 or 2 rows, 1, 2 or 4) in the order of `s8_singles`, `s8_pairs`, `s8_quads`."""
    n, height, width = rows.shape
    if width == 4:
        return rows[..., SHUFFLE].ravel()
    if width == 1:
        return rows.ravel()
    if height == 2:
        return rows.transpose(0, 2, 1).ravel()
    even = n // 2 * 2
    crossed = rows[:even].reshape(-1, 2, 2).transpose(0, 2, 1)
    return np.concatenate([crossed.ravel(), rows[even:].ravel()])


def _pattern(graph: Graph, op: Op, encoding: Encoding) -> Plan:
    arrays, size = encoding.arrays, encoding.parameters["group"]
    _, _, r, s = encoding.shape
    taps = pattern_taps(encoding)
    values = arrays["values"].astype(np.int8).reshape(-1, 4, size)[:, SHUFFLE].transpose(0, 2, 1)
    k, offset, packed = encoding.shape[0], arrays["offset"].tolist(), [np.zeros(0, np.int8)]
    for group in range(len(offset) - 1):
        rows = values[offset[group] : offset[group + 1], : min(size, k - group * size)]
        packed.extend(rows[:, i : i + 2].ravel() for i in range(0, rows.shape[1], 2))
    return Plan(
        columns_of(graph, op, planar=True),
        Rows(
            np.concatenate(packed),
            arrays["reorder"].astype(np.uint16),
            arrays["stride"].astype(np.uint16).ravel(),
            (arrays["index"].astype(np.int64) * (r * s)).astype(np.uint16),
        ),
        "s8_pattern",
        (str(size), "taps", str(len(taps))),
        (constant("taps", np.array(taps, np.uint8)),),
    )


def _kept(graph: Graph, op: Op, encoding: Encoding) -> Plan:
    """The kept channels densely, after the rest is set to what its biases alone give."""
    columns = columns_of(graph, op)
    kept = encoding.arrays["kept"].astype(np.uint16)
    weight = weight_values(graph, op)[kept].transpose(0, 2, 3, 1).reshape(len(kept), columns.length)
    return Plan(
        columns,
        Rows(pack_dense(weight), kept),
        "s8_dense",
        constants=(constant("idle", idle_outputs(graph, op)),),
        partial=True,
        support=("s8_copy.h",),
    )


def idle_outputs(graph: Graph, op: Op) -> Int8:
    """(K,) stored outputs as the biases alone give them; an idle channel's value is among these."""
    bias = graph.tensors[op.inputs[2]].data
    assert bias is not None and graph.spec is not None
    scaled = requantise(bias, *conv_requant(graph, op), graph.spec.rounding)
    idle = np.clip(scaled + affine(graph, op.output)[1], *output_bounds(graph, op))
    return idle.astype(np.int8)


def _nm(graph: Graph, op: Op, encoding: Encoding) -> Plan:
    n, m = encoding.parameters["n"], encoding.parameters["m"]
    lane = encoding.arrays["lane"]
    length = columns_of(graph, op).length
    return Plan(
        columns_of(graph, op, planar=True, reach=-length % m),
        Rows(encoding.arrays["values"].astype(np.int8).ravel()),
        "s8_nm",
        ("lane", str(n), str(m)),
        (constant("lane", lane.ravel()),),
    )
