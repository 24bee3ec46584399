"""int8 depthwise convolution on a CPU with vectors: 16 channels by six pixels, two taps at once."""

from __future__ import annotations

import numpy as np

from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.s8_depthwise import S8Depthwise
from cofit.codegen.kernels.s8_host_layer import (
    TILE_ROWS,
    HostRows,
    host_layer,
    host_support,
    no_vectors,
    target_of,
)
from cofit.codegen.kernels.s8_host_plane import plane_of
from cofit.codegen.kernels.s8_layer import Int8, weight_values
from cofit.codegen.kernels.shares import count_of, share_rows
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, kept_macs

INTERLEAVED = (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15)  # as `s8_interleave`

MACS_PER_CYCLE = 16


class S8HostDepthwise:
    """conv2d with one filter for each channel; always dense."""

    name = "s8-host-depthwise"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Machines without vectors, and what S8Depthwise rejects."""
        return no_vectors(machine) or S8Depthwise().reject(graph, op, machine)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Pairs of taps, an odd last one with itself at weight zero."""
        plane = plane_of(graph, op)
        places = plane.places()
        odd = len(places) % 2
        weight = np.pad(weight_values(graph, op).reshape(-1, len(places)), ((0, 0), (0, odd)))
        index = np.append(places, places[len(places) - odd :])
        rows = HostRows(_packed(weight), index)
        shares = share_rows(machine, plane.window.out_height, kept_macs(graph, op) / MACS_PER_CYCLE)
        declaration, constants = host_layer(graph, op, rows, multiple=TILE_ROWS)
        call = (
            f"s8_host_depthwise(layers, {len(index) // 2}, &walk, plane, y0, y1, sums, "
            f"{target_of()});"
        )
        return KernelCode(
            "\n".join((declaration, plane.walk("S8_CHANNELS"), plane.loop(call, shares))),
            constants,
            host_support(graph, "s8_host_plane.h", "s8_host_list.h"),
            plane.scratch_bytes,
            variant="16 channels",
            shares=count_of(shares),
        )


def _packed(weight: Int8) -> Int8:
    """(C, 2 n) to (C / 16, n, 16 interleaved, 2), zeros beyond the last channel."""
    padded = np.pad(weight, ((0, -len(weight) % TILE_ROWS), (0, 0)))
    sixteens = padded.reshape(-1, TILE_ROWS, weight.shape[1] // 2, 2)[:, INTERLEAVED]
    return sixteens.transpose(0, 2, 1, 3).ravel()
