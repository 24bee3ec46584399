"""Lists of kept positions for kernels over planes: of single filters, or shared by a few."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernels.block_lists import Lists, collect
from cofit.codegen.kernels.f32_pattern import taps
from cofit.structures import Encoding

MOST_SHARED = 4  # filters of a tile; more would leave few vectors of pixels


def single_lists(encoding: Encoding) -> Lists:
    """One list per output channel, in order of channel and position."""
    outputs, _, rows, columns = (*encoding.shape, 1, 1)[:4]
    if encoding.format == "csr":
        count = encoding.arrays["count"].astype(np.int64)
        position = encoding.arrays["index"].astype(np.int64)
        values = encoding.arrays["values"]
    else:
        weight = encoding.decode().reshape(outputs, -1)
        owner, position = np.nonzero(weight)
        count = np.bincount(owner, minlength=outputs)
        values = weight[owner, position]
    area = rows * columns
    return Lists(
        1,
        np.concatenate([[0], np.cumsum(count)]),
        position // area,
        position % area // columns,
        position % columns,
        values.reshape(-1, 1),
    )


def shared_lists(encoding: Encoding, most: int = MOST_SHARED) -> Lists:
    """Lists of an fkw encoding for F filters at a time; F divides its group and `most`.

    In order of channel, whatever the pattern: a sum by parts of the channels is then taken in the
    same order as a whole one, and the parts, which depend on the rows of a share, change no bit.
    """
    group, entries = encoding.parameters["group"], encoding.parameters["entries"]
    patterns, arrays = encoding.parameters["patterns"], encoding.arrays
    filters = math.gcd(group, most)
    pieces = group // filters
    offset = arrays["offset"].astype(np.int64)
    kernels: NDArray[np.int64] = offset[1:] - offset[:-1]
    ends: NDArray[np.int64] = arrays["stride"].astype(np.int64).reshape(-1, patterns + 1)
    runs: NDArray[np.int64] = (ends[:, 1:] - ends[:, :-1]).ravel()
    pattern = np.repeat(np.tile(np.arange(patterns), kernels.size), runs)
    position = np.array(
        [taps(encoding.parameters[f"pattern{p}"], encoding.shape[3]) for p in range(patterns)]
    ).reshape(patterns, entries, 2)[pattern]
    owner = np.repeat(np.repeat(np.arange(kernels.size), kernels), entries)
    channel = np.repeat(arrays["index"].astype(np.int64), entries)
    values = arrays["values"].reshape(-1, pieces, filters)
    order = np.argsort(channel, kind="stable")
    owner, channel, values = owner[order], channel[order], values[order]
    position = position.reshape(-1, 2)[order]
    return collect(
        filters,
        kernels.size * pieces,
        (owner[:, None] * pieces + np.arange(pieces)).ravel(),
        np.repeat(channel, pieces),
        np.repeat(position[:, 0], pieces),
        np.repeat(position[:, 1], pieces),
        values.reshape(-1, filters),
    )
