"""fkw: kernels of few shapes, after filter kernel reorder (PatDNN, ASPLOS 2020, section 5).

Groups of `group` consecutive output channels share input channel and pattern of every kernel.
`offset[G+1]` first kernel of each group; `reorder[K]` original output channel of each stored one;
`index[n]` input channel of each kernel; `stride[G, P+1]` cumulative run lengths per pattern inside
the group; `values[n, entries, group]`. Kernels inside a group are sorted by pattern, then channel.

Groups are ordered by their number of kernels, longest first, so that neighbours run equally long;
among equals each group is followed by the one with most equal (channel, pattern) at equal slots.
A ragged group stays last. Bytes at group 1 and 4 float32 entries: 4(K+1) + 2K + 2n + 2K(P+1) + 16n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cofit.structures.contract import Array, Encoding
from cofit.structures.formats.layout import Layout, four, index_type

Index = NDArray[np.intp]


def encode(weight: Array, patterns: Sequence[int], group: int) -> Encoding:
    """Store the kernels that hold a non-zero.

    Args:
        weight: member of the pattern set, (K, C, R, S) or (K, C).
        patterns: masks of equal size; bit `r*S + s` is kernel position (r, s).
        group: output channels that share channel and pattern.
    """
    k, c, r, s = four(weight.shape)
    groups, bits = math.ceil(k / group), _bits(patterns, r * s)
    padded: Array = np.zeros((groups * group, c, r * s), weight.dtype)
    padded[:k] = weight.reshape(k, c, r * s)
    padded = padded.reshape(groups, group, c, r * s)
    used = np.asarray(padded.any(axis=1))  # (G, C, RS)
    owner, channel = np.nonzero(used.any(axis=-1))
    outside = used[owner, channel].astype(np.int32) @ (~bits).T.astype(np.int32)
    pattern = np.argmax(outside == 0, axis=1)  # the first pattern that covers the kernel

    order = _reorder(owner, pattern * c + channel, groups, ragged=bool(k % group))
    rank = np.empty(groups, np.intp)
    rank[order] = np.arange(groups)
    kernels = np.lexsort((channel, pattern, rank[owner]))
    owner, channel, pattern = owner[kernels], channel[kernels], pattern[kernels]

    runs = np.zeros((groups, len(patterns) + 1), np.int64)
    np.add.at(runs, (rank[owner], pattern + 1), 1)
    slots = (order[:, None] * group + np.arange(group)).reshape(-1)
    kind = index_type(max(k, c))
    arrays: dict[str, Array] = {
        "offset": np.concatenate([[0], np.cumsum(runs.sum(axis=1))]).astype("<u4"),
        "reorder": slots[slots < k].astype(kind),
        "index": channel.astype(kind),
        "stride": np.cumsum(runs, axis=1).astype(kind),
        "values": padded[
            owner[:, None, None],
            np.arange(group),
            channel[:, None, None],
            _positions(bits)[pattern][:, :, None],
        ],
    }
    parameters = {"group": group, "patterns": len(patterns), "entries": patterns[0].bit_count()}
    parameters |= {f"pattern{i}": mask for i, mask in enumerate(patterns)}
    return Encoding("fkw", weight.shape, arrays, parameters, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, zeros elsewhere."""
    k, c, r, s = four(encoding.shape)
    parameters, arrays = encoding.parameters, encoding.arrays
    group, count = parameters["group"], parameters["patterns"]
    bits = _bits([parameters[f"pattern{i}"] for i in range(count)], r * s)
    groups = math.ceil(k / group)
    offset, stride = arrays["offset"].astype(np.int64), arrays["stride"].astype(np.int64)
    owner = np.repeat(np.arange(groups), offset[1:] - offset[:-1])
    runs = (stride[:, 1:] - stride[:, :-1]).reshape(-1)
    pattern = np.repeat(np.tile(np.arange(count), groups), runs)
    values = arrays["values"].reshape(len(owner), parameters["entries"], group)
    stored: Array = np.zeros((groups, group, c, r * s), values.dtype)
    stored[
        owner[:, None, None],
        np.arange(group),
        arrays["index"][:, None, None],
        _positions(bits)[pattern][:, :, None],
    ] = values
    weight: Array = np.zeros((k, c, r * s), values.dtype)
    weight[arrays["reorder"]] = stored.reshape(groups * group, c, r * s)[:k]
    return weight.reshape(encoding.shape)


def layout(shape: tuple[int, ...], patterns: int, entries: int, group: int, kept: int) -> Layout:
    """One row per kept kernel (of a whole group)."""
    k, c, _, _ = four(shape)
    groups = math.ceil(k / group)
    index_bytes = index_type(max(k, c)).itemsize * (k + kept + groups * (patterns + 1))
    return Layout(4 * (groups + 1) + index_bytes, kept, entries * group)


def _bits(patterns: Sequence[int], positions: int) -> NDArray[np.bool_]:
    return np.array([[mask >> i & 1 for i in range(positions)] for mask in patterns], bool)


def _positions(bits: NDArray[np.bool_]) -> Index:
    return np.nonzero(bits)[1].reshape(len(bits), -1)


def _reorder(owner: Index, slot: Index, groups: int, *, ragged: bool) -> Index:
    """Order of the groups; `slot[i]` identifies (pattern, channel) of kernel i of `owner[i]`."""
    whole = groups - 1 if ragged else groups
    count = np.bincount(owner, minlength=groups)
    sorted_slots = slot[np.lexsort((slot, owner))]
    start = np.concatenate([[0], np.cumsum(count)])
    order: list[int] = []
    for length in sorted(set(count[:whole].tolist()), reverse=True):
        members = np.flatnonzero(count[:whole] == length)
        rows = sorted_slots[start[members][:, None] + np.arange(length)]
        order += members[_chain(rows)].tolist()
    order += range(whole, groups)
    return np.array(order, np.intp)


def _chain(rows: Index) -> Index:
    """Greedy chain: after each row the unused row most equal to it, ties to the lower index."""
    chain = np.zeros(len(rows), np.intp)
    unused = np.arange(1, len(rows))
    for i in range(1, len(rows)):
        nearest = np.argmax((rows[unused] == rows[chain[i - 1]]).sum(axis=1))
        chain[i] = unused[nearest]
        unused = np.delete(unused, nearest)
    return chain
