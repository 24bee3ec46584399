"""int8 convolutions and linear layers on a CPU with vectors of eight int32.

Eight output channels share a vector, pairs of int16 inputs are multiplied and added at once; two
vectors by six pixels of sums stay in registers. The same integers as everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Kernel, KernelCode, Residual
from cofit.codegen.kernels.s8_host_layer import (
    LANES,
    TILE_ROWS,
    HostRows,
    call_of,
    host_layer,
    host_support,
    in_place_of,
    no_vectors,
    plane_of,
    reject_sum,
    share_blocks,
    target_of,
)
from cofit.codegen.kernels.s8_layer import Int8, constant, reject_weighted, weight_values
from cofit.codegen.kernels.s8_sparse import idle_outputs, reason_of, structured_encoding
from cofit.codegen.kernels.shares import Shares, count_of, filled_range
from cofit.codegen.kernels.window import Window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.structures import Encoding

LIST_ENTRIES = 4  # that take as long as the begin and the end of a list


@dataclass(frozen=True)
class S8HostDense:
    """conv2d and linear without structure; weights padded to 8 rows and an even run."""

    name = "s8-host-dense"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors."""
        return no_vectors(machine) or reject_weighted(graph, op)

    def reject_residual(
        self, graph: Graph, op: Op, residual: Residual, machine: Machine
    ) -> str | None:
        """Sums that float32 gets wrong."""
        return reject_sum(graph, residual)

    def emit(
        self, graph: Graph, op: Op, machine: Machine, residual: Residual | None = None
    ) -> KernelCode:
        """Runs of neighbours."""
        return _dense(graph, op, machine, weight_values(graph, op), residual=residual)

    def variants(self, graph: Graph, op: Op, machine: Machine) -> Sequence[Kernel]:
        """None: it is here to be compared with families that leave products out."""
        return [self]


class S8HostKept:
    """Dense kernels of the output channels that are kept; the others have their biases' values."""

    name = "s8-host-kept"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, other formats."""
        reason = no_vectors(machine) or reject_weighted(graph, op)
        if reason is not None:
            return reason
        encoding = structured_encoding(graph, op)
        if isinstance(encoding, str):
            return reason_of(encoding)
        return None if encoding.format == "kept" else f"{encoding.format} is not kept channels"

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Band by band, idle outputs first, then the kept ones."""
        encoding = structured_encoding(graph, op)
        assert isinstance(encoding, Encoding)
        kept = encoding.arrays["kept"].astype(np.uint16)
        code = _dense(graph, op, machine, weight_values(graph, op)[kept], kept)
        return replace(
            code,
            constants=(*code.constants, constant("idle", idle_outputs(graph, op))),
            support=(*code.support, "s8_copy.h"),
            variant=str(graph.tensors[op.inputs[1]].structure),
        )


@dataclass(frozen=True)
class S8HostBlock:
    """Blocks of a multiple of eight output channels."""

    name = "s8-host-block"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, other formats, narrow blocks."""
        reason = no_vectors(machine) or reject_weighted(graph, op)
        if reason is not None:
            return reason
        encoding = structured_encoding(graph, op)
        if isinstance(encoding, str):
            return reason_of(encoding)
        if encoding.format != "ocb" or encoding.parameters["out"] % LANES:
            return f"{encoding.format} {dict(encoding.parameters)} is not a block of 8 n outputs"
        return None

    def reject_residual(
        self, graph: Graph, op: Op, residual: Residual, machine: Machine
    ) -> str | None:
        """Sums that float32 gets wrong."""
        return reject_sum(graph, residual)

    def emit(
        self, graph: Graph, op: Op, machine: Machine, residual: Residual | None = None
    ) -> KernelCode:
        """The list of kept pairs of each group of outputs."""
        encoding = structured_encoding(graph, op)
        assert isinstance(encoding, Encoding)
        plane, out = plane_of(graph, op), encoding.parameters["out"]
        vectors = 2 if out % TILE_ROWS == 0 else 1
        rows = list_rows(encoding, plane.window)
        assert rows.start is not None
        costs = (np.diff(rows.start) + LIST_ENTRIES).tolist()
        shares = share_blocks(graph, op, machine, plane.window, costs)
        declaration, constants = host_layer(
            graph, op, rows, multiple=out, shares=shares, residual=residual
        )
        access = "S8_APART" if encoding.parameters["in"] == 1 else "S8_ADJACENT"
        call = call_of(
            shares,
            f"s8_host_block({{layer}}, {out}, &walk, plane, y0, y1, sums, {{to}}, {vectors});",
            op,
            residual,
        )
        return KernelCode(
            "\n".join((declaration, plane.walk(access), plane.loop(call, shares))),
            constants,
            host_support(graph, "s8_host_plane.h", "s8_host_list.h"),
            plane.scratch_bytes,
            in_place_of(op, residual),
            variant=str(graph.tensors[op.inputs[1]].structure),
            shares=count_of(shares),
        )

    def variants(self, graph: Graph, op: Op, machine: Machine) -> Sequence[Kernel]:
        """None: it is here to be compared with dense code."""
        return [self]


def _dense(
    graph: Graph, op: Op, machine: Machine, weight: Int8, order: NDArray[np.uint16] | None = None,
    residual: Residual | None = None,
) -> KernelCode:  # fmt: skip
    """Code of dense rows (K, C, R, S), of the output channels `order` if given.

    The others then get the values of a constant `idle`.
    """
    plane = plane_of(graph, op)
    w, length, places = plane.window, plane.run, plane.places()
    runs = weight.transpose(0, 2, 3, 1).reshape(len(weight), len(places), length)
    even = np.pad(runs, ((0, 0), (0, 0), (0, length % 2)))
    entries = len(places) * even.shape[2] // 2
    grouped = even.reshape(w.groups, len(weight) // w.groups, 2 * entries)
    index = places[:, None] + np.arange(0, length, 2)
    rows = dense_rows(grouped, index.ravel(), order)
    blocks = [1.0] * -(-len(weight) // TILE_ROWS)
    shares = share_blocks(graph, op, machine, w, blocks)
    declaration, constants = host_layer(graph, op, rows, w.groups, shares=shares, residual=residual)
    to = "{to}" if order is None else "{whole}"  # `order` counts from the first channel
    call = call_of(
        shares,
        f"s8_host_dense({{layer}}, {entries}, &walk, plane, y0, y1, sums, {to});",
        op,
        residual,
    )
    if order is not None:
        call = f"{_idle(w, shares, order)}\n{call}"
    if w.groups > 1:
        call = (
            f"for (int32_t g = 0; g < {w.groups}; g++)\n"
            f"    s8_host_dense(layers + g, {entries}, &walk, plane + g * "
            f"{w.channels // w.groups}, y0, y1, sums,\n"
            f"                  {target_of(op, residual, f'g * {w.outputs // w.groups}')});"
        )
    return KernelCode(
        "\n".join((declaration, plane.walk("S8_ADJACENT"), plane.loop(call, shares))),
        constants,
        host_support(graph, "s8_host_plane.h", "s8_host_list.h"),
        plane.scratch_bytes,
        in_place_of(op, residual),
        variant="dense",
        shares=count_of(shares),
    )


def _idle(w: Window, shares: Shares | None, kept: NDArray[np.uint16]) -> str:
    """C that sets output rows [y0, y1), of the channels that a share may fill."""
    declaration, first, last = filled_range(shares, kept, TILE_ROWS, w.outputs)
    row = w.out_width * w.outputs
    copy = (
        f"s8_copy(idle + {first}, 0, out + y0 * {row} + {first}, {w.outputs}, {last} - {first}, "
        f"(y1 - y0) * {w.out_width});"
    )
    return f"{declaration}\n{copy}" if declaration else copy


def dense_rows(
    weight: Int8, index: NDArray[np.int64] | None = None, order: NDArray[np.uint16] | None = None
) -> HostRows:
    """Rows of weights (groups, K, n), n even: (n / 2, rows, 2) for each 16 rows and the last 8."""
    packed = [np.zeros(0, np.int8)]
    for group in weight:
        padded = np.pad(group, ((0, -len(group) % LANES), (0, 0)))
        for k in range(0, len(padded), TILE_ROWS):
            part = padded[k : k + TILE_ROWS]
            packed.append(part.reshape(len(part), -1, 2).transpose(1, 0, 2).ravel())
    return HostRows(np.concatenate(packed), index, order)


def list_rows(encoding: Encoding, window: Window) -> HostRows:
    """Lists of ocb blocks of whole vectors of rows, each with its two or one places an entry."""
    count, index, pairs = _entries(encoding, window)
    height = TILE_ROWS if encoding.parameters["out"] % TILE_ROWS == 0 else LANES
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    return HostRows(_pack_lists(count, pairs, height), index, start=start)


def _entries(encoding: Encoding, w: Window) -> tuple[NDArray[np.int64], NDArray[np.int64], Int8]:
    """(entries per group, places in a window, pairs (entries, out, 2)) of ocb blocks.

    Blocks of one input are paired in order, an odd last one with itself at weight zero: two places
    for an entry. Wider ones are pairs of neighbours with one place each; a pair that begins past
    the last channel holds zeros.
    """
    out, width = encoding.parameters["out"], encoding.parameters["in"]
    slab, tap = np.divmod(encoding.arrays["index"].astype(np.int64), w.kernel[0] * w.kernel[1])
    r, s = np.divmod(tap, w.kernel[1])
    place = (r * w.dilation[0] * w.padded_width + s * w.dilation[1]) * w.channels + slab * width
    values = encoding.arrays["values"].astype(np.int8).reshape(-1, out, width)
    count = encoding.arrays["count"].astype(np.int64)
    if width > 1:
        parts = width // 2
        pairs = values.reshape(-1, out, parts, 2).transpose(0, 2, 1, 3).reshape(-1, out, 2)
        return count * parts, (place[:, None] + 2 * np.arange(parts)).ravel(), pairs
    end = np.cumsum(count)
    last = end[count % 2 == 1]
    place = np.insert(place, last, place[last - 1])
    paired = np.insert(values[:, :, 0], last, 0, axis=0)
    return (count + 1) // 2, place, paired.reshape(-1, 2, out).transpose(0, 2, 1)


def _pack_lists(count: NDArray[np.int64], pairs: Int8, height: int) -> Int8:
    """(entries, out, 2) to, per group and `height` rows of it, (entries, height, 2)."""
    packed, start, out = [np.zeros(0, np.int8)], 0, pairs.shape[1]
    for entries in count.tolist():
        own = pairs[start : start + entries].reshape(entries, out // height, height, 2)
        packed.append(own.transpose(1, 0, 2, 3).ravel())
        start += entries
    return np.concatenate(packed)
