"""Lists of kept positions, which sparse kernels read in place of a counter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.codegen.kernel import Constant
from cofit.codegen.kernels.window import Window
from cofit.structures import Encoding
from cofit.structures.formats import bspc

Array = NDArray[np.generic]
LEAST_LANES = 4  # floats of the narrowest vector registers


@dataclass(frozen=True, eq=False)
class Lists:
    """Kept positions per block of `out` outputs: block i has entries start[i] to start[i + 1].

    Attributes:
        out: outputs of a block.
        start: (blocks + 1,).
        channel: (n,) input channel, and kernel position `r`, `s` of each entry.
        values: (n, out).
        rows: (blocks * out,) output of each place in the blocks, None where they are in order.
            Some may stand there twice, with the same weights, and some nowhere: they are idle.
    """

    out: int
    start: Array
    channel: NDArray[np.int64]
    r: NDArray[np.int64]
    s: NDArray[np.int64]
    values: Array
    rows: NDArray[np.int64] | None = None

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.start.size - 1

    def leaves_idle(self, outputs: int) -> bool:
        """Whether some of so many outputs stand nowhere."""
        return self.rows is not None and np.unique(self.rows).size < outputs


def block_lists(encoding: Encoding) -> Lists:
    """Lists of an ocb encoding; input channels of a block become entries of their own."""
    _, channels, rows, columns = (*encoding.shape, 1, 1)[:4]
    out, width = encoding.parameters["out"], encoding.parameters["in"]
    count = encoding.arrays["count"].astype(np.int64)
    index = encoding.arrays["index"].astype(np.int64)
    values = encoding.arrays["values"].reshape(-1, out, width)
    owner = np.repeat(np.arange(count.size), count)
    area = rows * columns
    channel = (index // area * width)[:, None] + np.arange(width)
    inside = channel < channels  # columns beyond a ragged edge are not stored
    repeat = np.broadcast_to
    tap = repeat((index % area)[:, None], channel.shape)[inside]
    per_block = np.bincount(repeat(owner[:, None], channel.shape)[inside], minlength=count.size)
    return Lists(
        out,
        np.concatenate([[0], np.cumsum(per_block)]),
        channel[inside],
        tap // columns,
        tap % columns,
        values.transpose(0, 2, 1)[inside],
    )


def stripe_lists(encoding: Encoding, lanes: int) -> Lists:
    """Lists of a bspc encoding: stripes without their removed rows, in whole vectors.

    Places that are left over in a vector compute a row of the stripe once more.

    Args:
        encoding: of the weight.
        lanes: floats of the machine's vectors; narrower ones are taken where no more are needed.
    """
    stripe = encoding.parameters["stripe"]
    kept = bspc.stripes(encoding)
    most = max(len(rows) for rows, _ in kept)
    lanes = narrowest(most, lanes)
    out = max(-(-most // lanes), 1) * lanes
    owner = np.repeat(np.arange(len(kept)), [len(columns) for _, columns in kept])
    values = np.zeros((owner.size, out), encoding.arrays["values"].dtype)
    rows = np.zeros((len(kept), out), np.int64)
    stored, at = encoding.arrays["values"], 0
    for i, (own, columns) in enumerate(kept):
        block = stored[at : at + len(own) * len(columns)].reshape(len(columns), len(own))
        at += block.size
        rows[i] = i * stripe  # any row will do for a stripe that keeps none
        if len(own):
            places = np.minimum(np.arange(out), len(own) - 1)
            rows[i], values[owner == i] = own[places], block[:, places]
    channel = np.concatenate([columns for _, columns in kept]).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(kept)))])
    tap = np.zeros_like(channel)
    whole = out == stripe and rows.size == encoding.shape[0]
    in_order = whole and bool((rows.reshape(-1) == np.arange(rows.size)).all())
    return Lists(out, start, channel, tap, tap, values, None if in_order else rows.reshape(-1))


def narrowest(rows: int, lanes: int) -> int:
    """Floats of the narrowest vectors of which so many rows need no more than of `lanes` floats."""
    while lanes > LEAST_LANES and -(-rows // (lanes // 2)) <= -(-rows // lanes):
        lanes //= 2
    return lanes


def part_lists(lists: Lists, win: Window) -> Lists:
    """Lists by part of the input channels, then by block; channels count from the part's first."""
    owner = np.repeat(np.arange(lists.blocks), np.diff(lists.start))
    return collect(
        lists.out,
        win.parts * lists.blocks,
        lists.channel // win.held * lists.blocks + owner,
        lists.channel % win.held,
        lists.r,
        lists.s,
        lists.values,
    )


def collect(
    out: int,
    blocks: int,
    owner: NDArray[np.int64],
    channel: NDArray[np.int64],
    r: NDArray[np.int64],
    s: NDArray[np.int64],
    values: Array,
) -> Lists:
    """Lists of entries in any order, `owner` being the block of each."""
    order = np.argsort(owner, kind="stable")
    count = np.bincount(owner, minlength=blocks)
    return Lists(
        out,
        np.concatenate([[0], np.cumsum(count)]),
        channel[order],
        r[order],
        s[order],
        values[order],
    )


def offset_type(offsets: NDArray[np.int64]) -> Array:
    """Offsets as uint16 where they fit, else int32."""
    small = offsets.size == 0 or int(offsets.max()) < 65536
    return offsets.astype(np.uint16 if small else np.int32)


def fill_idle(win: Window, bias: NDArray[np.float32]) -> tuple[str, Constant]:
    """C that gives every output its activated bias, which is all that idle ones get."""
    rest = {"none": bias, "relu": np.maximum(bias, 0), "relu6": np.clip(bias, 0, 6)}[win.fused]
    fill = (
        f"for (int i = 0; i < {win.out_height * win.out_width}; ++i)\n"
        f"    for (int j = 0; j < {win.outputs}; ++j) out[i * {win.outputs} + j] = rest[j];"
    )
    return fill, Constant("rest", rest)
