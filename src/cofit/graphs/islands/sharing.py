"""Sums of shared neighbours, formed once per island: a list of operations that is executed.

Over an island's bitmap, rows are scanned in windows of k columns. A row with c ones in a window
costs c additions, or 1 + (k - c) if the sum of the whole window has been formed before: add the
sum, subtract the absent. Forming it costs k - 1, and is done where it saves more.

Source: T. Geng et al., "I-GCN", MICRO 2021. Columns are ordered so that each next one shares most
rows with the last; that choice is ours.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError
from cofit.graphs.graph import Graph
from cofit.graphs.islands.locate import HUB, Islands
from cofit.graphs.islands.native import Ops, library
from cofit.graphs.operations import Operations, additions, at

Ints = NDArray[np.int64]


def share_sums(islands: Islands, window: int, *, sorted_columns: bool = True) -> Operations:
    """The sums of A + I, with shared neighbours of an island summed once.

    Islands come in the order in which they were found; hubs collect what islands add to them. Each
    island is a piece; the last piece is edges between hubs, hubs' own rows and repetitions of
    parallel edges, one addition each.

    Args:
        islands: they are checked first.
        window: columns k.
        sorted_columns: by similarity; else in the order of the search.

    Raises:
        ConfigError: a window below 1.
        VerificationError: these are no islands.
    """
    if window < 1:
        raise ConfigError(f"a window of {window} columns; give at least 1")
    islands.edge_classes()
    graph, n = islands.graph, islands.graph.num_nodes
    single = graph.symmetrised()
    state = np.zeros(n, np.int32)
    state[islands.hubs] = HUB
    room = single.num_edges + n
    to, source, sign = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int8)
    ops = Ops(at(to), at(source), at(sign), 0, n)
    local = np.full(n, -1, np.int64)
    arrays = [at(a) for a in (single.indptr.numpy(), single.indices.numpy(), state)]
    ends = [0]
    for first, size in zip(islands.starts[:-1], islands.sizes, strict=True):
        member = islands.members.ctypes.data + 8 * int(first)
        done = library().cofit_island_ops(
            ctypes.byref(ops), *arrays, member, int(size), window, int(sorted_columns), at(local)
        )
        if not done:
            raise MemoryError(f"no memory for the bitmap of an island of {size} nodes")
        ends.append(ops.count)
    count = ops.count
    inside = Operations(
        n, to[:count].copy(), source[:count].copy(), sign[:count].copy(), ops.partial - n,
        np.array(ends[1:], np.int64),
    )  # fmt: skip
    return inside + _rest(graph, islands.hubs, state == HUB)


def _rest(graph: Graph, hubs: Ints, is_hub: NDArray[np.bool_]) -> Operations:
    """Between hubs, hubs themselves, and all but the first of parallel edges."""
    source, target = (ends.numpy() for ends in graph.edge_index)
    key = target * graph.num_nodes + source
    order = np.argsort(key, kind="stable")
    again = np.zeros(len(key), bool)
    again[order[1:]] = key[order[1:]] == key[order[:-1]]
    left = again | (is_hub[source] & is_hub[target])
    to, rows = np.concatenate([target[left], hubs]), np.concatenate([source[left], hubs])
    return additions(graph.num_nodes, to, rows)


def bitmap_operations(bitmap: NDArray[np.bool_], window: int) -> Operations:
    """The same for the rows and columns of one bitmap (m, m), columns as they are."""
    m = len(bitmap)
    if bitmap.shape != (m, m):
        raise ConfigError(f"a bitmap of shape {bitmap.shape}; give a square one")
    words = (m + 63) // 64
    packed = np.zeros((m, words * 8), np.uint8)
    packed[:, : (m + 7) // 8] = np.packbits(bitmap.T, axis=1, bitorder="little")
    count = int(bitmap.sum())
    to, source = np.empty(count, np.int64), np.empty(count, np.int64)
    sign = np.empty(count, np.int8)
    ops = Ops(at(to), at(source), at(sign), 0, m)
    nodes = np.arange(m)
    library().cofit_bitmap_ops(
        ctypes.byref(ops), at(packed), at(nodes), m, m, words, window, at(nodes)
    )
    kept = slice(ops.count)
    return Operations(m, to[kept], source[kept], sign[kept], ops.partial - m, np.array([ops.count]))
