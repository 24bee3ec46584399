"""int8 convolutions and linear layers on a CPU with vectors of eight int32.

Eight output channels share a vector, pairs of int16 column elements are multiplied and added at
once, four pixels keep each weight at hand. The same integers as everywhere else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.s8_layer import (
    Columns,
    Int8,
    Rows,
    columns_of,
    is_host,
    layer_constants,
    reject_weighted,
    requantise_support,
    weight_values,
)
from cofit.codegen.kernels.s8_sparse import (
    block_entries,
    reason_of,
    structured_encoding,
)
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.structures import Encoding

LANES, TILE_ROWS, TILE_PIXELS = 8, 16, 4


class S8HostDense:
    """conv2d and linear without structure; weights padded to 16 rows and an even column."""

    name = "s8-host-dense"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors."""
        return _no_vectors(machine) or reject_weighted(graph, op)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Column by column for four pixels."""
        columns = columns_of(graph, op, reach=1, tile=TILE_PIXELS)
        groups = columns.window.groups
        weight = weight_values(graph, op).transpose(0, 2, 3, 1).reshape(groups, -1, columns.length)
        packed = np.concatenate([_pack_dense(part) for part in weight])
        declaration, constants = layer_constants(graph, op, Rows(packed), groups)
        return KernelCode(
            f"{declaration}\n{columns.loop(_call(columns, 's8_host_dense'))}",
            constants,
            (requantise_support(graph), "s8_host_dense.h", *columns.support),
            columns.scratch_bytes,
            variant="16 rows x 4 pixels",
        )


class S8HostBlock:
    """Blocks of a multiple of eight output channels."""

    name = "s8-host-block"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, other formats, narrow blocks."""
        reason = _no_vectors(machine) or reject_weighted(graph, op)
        if reason is not None:
            return reason
        encoding = structured_encoding(graph, op)
        if isinstance(encoding, str):
            return reason_of(encoding)
        if encoding.format != "ocb" or encoding.parameters["out"] % LANES:
            return f"{encoding.format} {dict(encoding.parameters)} is not a block of 8 n outputs"
        return None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """The list of kept pairs for four pixels."""
        encoding = structured_encoding(graph, op)
        assert isinstance(encoding, Encoding)
        rows = _pack_apart(encoding) if encoding.parameters["in"] == 1 else _pack_adjacent(encoding)
        assert rows.index is not None
        end = int(rows.index.max(initial=0)) + 2
        length = columns_of(graph, op).length
        columns = columns_of(graph, op, reach=max(end - length, 0), tile=TILE_PIXELS)
        declaration, constants = layer_constants(graph, op, rows)
        kind = "apart" if encoding.parameters["in"] == 1 else "adjacent"
        call = _call(columns, f"s8_host_block_{kind}", f"{encoding.parameters['out']}, ")
        return KernelCode(
            f"{declaration}\n{columns.loop(call)}",
            constants,
            (requantise_support(graph), "s8_host_block.h", *columns.support),
            columns.scratch_bytes,
            variant=f"{graph.tensors[op.inputs[1]].structure} x 4 pixels",
        )


def _no_vectors(machine: Machine) -> str | None:
    return None if is_host(machine) else f"{machine.name} has no vectors of eight int32"


def _call(columns: Columns, function: str, arguments: str = "") -> str:
    return (
        f"{function}_{columns.together}(layer, {arguments}x, {columns.stride}, y, "
        f"{columns.window.outputs});"
    )


def _pack_dense(weight: Int8) -> Int8:
    """(K, n) to (K / 16, n / 2, 16, 2), zeros beyond the edges."""
    k, n = weight.shape
    padded = np.pad(weight, ((0, -k % TILE_ROWS), (0, n % 2)))
    return padded.reshape(-1, TILE_ROWS, (n + 1) // 2, 2).transpose(0, 2, 1, 3).ravel()


def _pack_adjacent(encoding: Encoding) -> Rows:
    """Blocks of 2 or 4 n columns as pairs of neighbours."""
    count, place, values = block_entries(encoding)
    parts = values.shape[2] // 2
    index = (place[:, None] + 2 * np.arange(parts, dtype=np.uint16)).ravel()
    pairs = values.reshape(*values.shape[:2], parts, 2).transpose(0, 2, 1, 3)
    return _rows(count * np.uint16(parts), index, pairs.reshape(len(index), values.shape[1], 2))


def _pack_apart(encoding: Encoding) -> Rows:
    """Blocks of one column, two by two; an odd last one is paired with itself at weight zero."""
    count, place, values = block_entries(encoding)
    places, pairs = [np.zeros(0, np.uint16)], [np.zeros((0, values.shape[1], 2), np.int8)]
    start = 0
    for entries in count.tolist():
        own, rows = place[start : start + entries], values[start : start + entries, :, 0]
        if entries % 2:
            own, rows = np.append(own, own[-1:]), np.pad(rows, ((0, 1), (0, 0)))
        places.append(own)
        pairs.append(rows.reshape(len(rows) // 2, 2, rows.shape[1]).transpose(0, 2, 1))
        start += entries
    return _rows((count + 1) // 2, np.concatenate(places), np.concatenate(pairs))


def _rows(count: NDArray[np.uint16], index: NDArray[np.uint16], pairs: Int8) -> Rows:
    """`pairs` (entries, out, 2) to, per group and eight rows of it, (entries, 8, 2)."""
    packed, start, out = [np.zeros(0, np.int8)], 0, pairs.shape[1]
    for entries in count.tolist():
        own = pairs[start : start + entries].reshape(entries, out // LANES, LANES, 2)
        packed.append(own.transpose(1, 0, 2, 3).ravel())
        start += entries
    return Rows(np.concatenate(packed), None, count.astype(np.uint16), index.astype(np.uint16))
