"""int8 convolutions of blocks four channels wide: lists of words over lifted columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.s8_layer import Int8, columns_of, is_host, reject_weighted
from cofit.codegen.kernels.s8_lifted import (
    lifted,
    lifted_columns,
    lifted_scale,
    lifted_weights,
)
from cofit.codegen.kernels.s8_scaled import Scale, scaled_layers
from cofit.codegen.kernels.s8_sparse import block_entries, structured_encoding
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op
from cofit.structures import Encoding

_MOST_BYTES = 65535


class S8Blocks:
    """Blocks of one row, or of an even number, by four columns or more, for pairs of pixels."""

    name = "s8-blocks"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other structures, and what the lifted form cannot hold."""
        reason = reject_weighted(graph, op)
        if reason is not None:
            return reason
        if is_host(machine):
            return "vectors are faster"
        encoding = structured_encoding(graph, op)
        if isinstance(encoding, str):
            return encoding
        if encoding.format != "ocb":
            return f"{encoding.format} has no blocks"
        if columns_of(graph, op).together != 2:
            return "it has a single pixel"
        rows = encoding.parameters["out"]
        if encoding.parameters["in"] % 4 or encoding.shape[1] % 4 or (rows > 1 and rows % 2):
            return "its blocks are not whole words of an even number of rows"
        _, place, values = block_entries(encoding)
        if 4 * int(place.max(initial=0)) > _MOST_BYTES or 2 * len(values) > _MOST_BYTES:
            return "its column or its list is too long for 16 bits"
        found = lifted_scale(graph, op)
        return found if isinstance(found, str) else None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Column by column for pairs of pixels."""
        scale, encoding = lifted_scale(graph, op), structured_encoding(graph, op)
        assert isinstance(scale, Scale) and isinstance(encoding, Encoding)
        tile = 1 if encoding.parameters["out"] == 1 else 2
        columns = lifted_columns(graph, op, tile)
        weights, index, ranges = _packed(encoding, scale, tile)
        declaration, constants = scaled_layers(
            graph, op, scale, weights, lifted_weights(graph, op, scale)[1], tile=tile,
            chunks=columns.chunks, index=index, ranges=ranges,
        )  # fmt: skip
        call = f"s8_blocks_{tile}(layer, x, y, y + {columns.window.outputs});"
        return KernelCode(
            f"{declaration}\n{columns.loop(call)}",
            constants,
            ("s8_blocks.h", *columns.support),
            columns.scratch_bytes,
            variant=str(graph.tensors[op.inputs[1]].structure),
        )


def _packed(
    encoding: Encoding, scale: Scale, tile: int
) -> tuple[Int8, NDArray[np.uint16], NDArray[np.uint16]]:
    """Weights, places in bytes, and (tiles, 2) the bytes of places that each tile takes."""
    count, place, values = block_entries(encoding)
    k, size = encoding.shape[0], encoding.parameters["out"]
    parts, ranges, start = [np.zeros(0, np.int8)], [], 0
    for group, entries in enumerate(count.tolist()):
        block = values[start : start + entries].copy()
        first = group * size
        block[:, : k - first][:, scale.idle[first : first + size]] = 0
        for row in range(0, min(size, k - first), tile):
            parts.append(lifted(block[:, row : row + tile]).ravel())
            ranges.append((2 * start, 2 * (start + entries)))
        start += entries
    index = (4 * place.astype(np.int64)).astype(np.uint16)
    return np.concatenate(parts), index, np.array(ranges, np.uint16)
