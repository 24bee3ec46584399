"""int8 convolutions and linear layers on a CPU with vectors of eight or sixteen int32.

Eight output channels share a vector, pairs of int16 inputs are multiplied and added at once; two
vectors by six pixels of sums stay in registers. With VNNI sixteen share one, and four uint8 inputs
are multiplied and added at once. The same integers as everywhere else.
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
    reject_sum,
    share_blocks,
    target_of,
)
from cofit.codegen.kernels.s8_host_plane import PAIRS, QUADS, Grain, pair_tile, plane_of, quads_of
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
    """conv2d and linear without structure; weights padded to whole vectors and entries."""

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
        out, width = encoding.parameters["out"], encoding.parameters["in"]
        if machine.quads and out % QUADS.rows == 0 and width % QUADS.width == 0:
            plane = quads_of(graph, op, machine, encoding.parameters["out"])
            vectors = plane.tile.vectors
        else:
            plane = plane_of(graph, op, pair_tile(machine))
            vectors = 2 if out % TILE_ROWS == 0 else 1
        grain = plane.grain
        rows = list_rows(encoding, plane.window, grain)
        assert rows.start is not None
        costs = (np.diff(rows.start) + LIST_ENTRIES).tolist()
        shares = share_blocks(graph, op, machine, plane.window, costs, grain.macs_per_cycle)
        declaration, constants = host_layer(
            graph, op, rows, multiple=out, shares=shares, residual=residual, above=plane.above
        )
        access = "S8_APART" if width == 1 else "S8_ADJACENT"
        call = call_of(
            shares,
            f"{grain.kernel}_block({{layer}}, {out}, &walk, plane, y0, y1, sums, {{to}}, "
            f"{vectors});",
            op,
            residual,
        )
        return KernelCode(
            "\n".join((declaration, plane.walk(access), plane.loop(call, shares))),
            constants,
            host_support(graph, *grain.support),
            plane.scratch_bytes,
            in_place_of(op, residual),
            variant=f"{graph.tensors[op.inputs[1]].structure}{plane.variant}",
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
    if machine.quads:
        plane = quads_of(graph, op, machine)
    else:
        plane = plane_of(graph, op, pair_tile(machine))
    w, length, places, grain = plane.window, plane.run, plane.places(), plane.grain
    runs = weight.transpose(0, 2, 3, 1).reshape(len(weight), len(places), length)
    whole = np.pad(runs, ((0, 0), (0, 0), (0, -length % grain.width)))
    entries = len(places) * whole.shape[2] // grain.width
    grouped = whole.reshape(w.groups, len(weight) // w.groups, grain.width * entries)
    rows = dense_rows(grouped, plane.entries(places), order, grain)
    blocks = [1.0] * -(-len(weight) // TILE_ROWS)
    shares = share_blocks(graph, op, machine, w, blocks, grain.macs_per_cycle)
    declaration, constants = host_layer(
        graph, op, rows, w.groups, grain.rows, shares, residual, plane.above
    )
    to = "{to}" if order is None else "{whole}"  # `order` counts from the first channel
    tile = f", {plane.tile.vectors}" if grain is QUADS else ""
    dense = f"{grain.kernel}_dense"
    call = call_of(
        shares,
        f"{dense}({{layer}}, {entries}, &walk, plane, y0, y1, sums, {to}{tile});",
        op,
        residual,
    )
    if order is not None:
        call = f"{_idle(w, shares, order)}\n{call}"
    if w.groups > 1:
        to = target_of(op, residual, f"g * {w.outputs // w.groups}")
        call = (
            f"for (int32_t g = 0; g < {w.groups}; g++)\n"
            f"    {dense}(layers + g, {entries}, &walk, plane + g * {w.channels // w.groups}, "
            f"y0, y1, sums,\n            {to}{tile});"
        )
    return KernelCode(
        "\n".join((declaration, plane.walk("S8_ADJACENT"), plane.loop(call, shares))),
        constants,
        host_support(graph, *grain.support),
        plane.scratch_bytes,
        in_place_of(op, residual),
        variant=f"dense{plane.variant}",
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
    weight: Int8, index: NDArray[np.int64] | None = None, order: NDArray[np.uint16] | None = None,
    grain: Grain = PAIRS,
) -> HostRows:  # fmt: skip
    """Rows of weights (groups, K, n), n whole entries, by `TILE_ROWS` and what is left of them.

    Each as (entries, rows, width).
    """
    packed = [np.zeros(0, np.int8)]
    for group in weight:
        padded = np.pad(group, ((0, -len(group) % grain.rows), (0, 0)))
        for k in range(0, len(padded), TILE_ROWS):
            part = padded[k : k + TILE_ROWS]
            packed.append(part.reshape(len(part), -1, grain.width).transpose(1, 0, 2).ravel())
    return HostRows(np.concatenate(packed), index, order)


def list_rows(encoding: Encoding, window: Window, grain: Grain = PAIRS) -> HostRows:
    """Lists of ocb blocks of whole vectors of rows, each with its two or one places an entry."""
    count, index, values = _entries(encoding, window, grain.width)
    height = TILE_ROWS if encoding.parameters["out"] % TILE_ROWS == 0 else LANES
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    return HostRows(_pack_lists(count, values, height), index, start=start)


def _entries(
    encoding: Encoding, w: Window, together: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Int8]:
    """(entries per group, places in a window, values (entries, out, together)) of ocb blocks.

    Blocks of one input are paired in order, an odd last one with itself at weight zero: two places
    for an entry. Wider ones are runs of neighbours with one place each; a run that begins past the
    last channel holds zeros.
    """
    out, width = encoding.parameters["out"], encoding.parameters["in"]
    slab, tap = np.divmod(encoding.arrays["index"].astype(np.int64), w.kernel[0] * w.kernel[1])
    r, s = np.divmod(tap, w.kernel[1])
    place = (r * w.dilation[0] * w.padded_width + s * w.dilation[1]) * w.channels + slab * width
    values = encoding.arrays["values"].astype(np.int8).reshape(-1, out, width)
    count = encoding.arrays["count"].astype(np.int64)
    if width > 1:
        parts = width // together
        runs = values.reshape(-1, out, parts, together).transpose(0, 2, 1, 3)
        index = (place[:, None] + together * np.arange(parts)).ravel()
        return count * parts, index, runs.reshape(-1, out, together)
    end = np.cumsum(count)
    last = end[count % 2 == 1]
    place = np.insert(place, last, place[last - 1])
    paired = np.insert(values[:, :, 0], last, 0, axis=0)
    return (count + 1) // 2, place, paired.reshape(-1, 2, out).transpose(0, 2, 1)


def _pack_lists(count: NDArray[np.int64], values: Int8, height: int) -> Int8:
    """(entries, out, n) to, per group and `height` rows of it, (entries, height, n)."""
    packed, start, (_, out, n) = [np.zeros(0, np.int8)], 0, values.shape
    for entries in count.tolist():
        own = values[start : start + entries].reshape(entries, out // height, height, n)
        packed.append(own.transpose(1, 0, 2, 3).ravel())
        start += entries
    return np.concatenate(packed)
