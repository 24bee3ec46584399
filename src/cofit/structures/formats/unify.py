"""unify: blocks of one magnitude as signs and a value, some free, the pruned ones absent.

`kept` (a bit per block; absent where none is pruned), `free` (a bit per kept block; absent where
none is free), `signs` (out * in bits per unified block, 1 is negative), `magnitudes[unified]`
(upper half of a float32, or a byte), `values[free, out, in]`. Bits lie lowest first; each array is
padded to a byte. Blocks and their elements are numbered as in `Tiles`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.structures.contract import Array, Encoding
from cofit.structures.tiles import Tiles

HALF = 16
"""Bits of a stored magnitude of float32 weights: sign, exponent and 7 bits of mantissa."""


def encode(
    weight: Array, tiles: Tiles, pruned: NDArray[np.bool_] | None, unified: NDArray[np.bool_]
) -> Encoding:
    """Store a member.

    Args:
        weight: float32 or int8.
        tiles: of its shape.
        pruned: (B,) blocks not to store, all zero; None stores every block.
        unified: (B,) blocks of one magnitude, in float32 one of 16 bits.
    """
    blocks: Array = tiles.split(torch.from_numpy(weight)).numpy()
    kept = np.ones(len(blocks), bool) if pruned is None else ~pruned
    uniform = blocks[unified]
    magnitudes: Array = np.abs(uniform).max(axis=1, initial=0)
    if weight.dtype == np.int8:
        magnitudes = np.abs(uniform.astype(np.int16)).max(axis=1, initial=0).astype(np.uint8)
    else:
        magnitudes = (magnitudes.view(np.uint32) >> HALF).astype("<u2")
    arrays: dict[str, Array] = {} if pruned is None else {"kept": _pack(kept)}
    free = kept & ~unified
    if free.any():
        arrays["free"] = _pack(free[kept])
    arrays |= {
        "signs": _pack(uniform < 0),
        "magnitudes": magnitudes,
        "values": blocks[free].reshape(-1, tiles.out, tiles.in_),
    }
    parameters = {"out": tiles.out, "in": tiles.in_, "free": int(free.any())}
    return Encoding("unify", weight.shape, arrays, parameters, decode)


def decode(encoding: Encoding) -> Array:
    """The weight, zeros where blocks are pruned."""
    arrays, parameters = encoding.arrays, encoding.parameters
    tiles = Tiles(encoding.shape, parameters["out"], parameters["in"])
    kept, free = classes(encoding)
    values = arrays["values"]
    blocks: Array = np.zeros((tiles.blocks, tiles.size), values.dtype)
    blocks[free] = values.reshape(-1, tiles.size)
    unified = kept & ~free
    signs = _unpack(arrays["signs"], int(unified.sum()) * tiles.size).reshape(-1, tiles.size)
    magnitudes = arrays["magnitudes"]
    if values.dtype == np.float32:
        magnitudes = (magnitudes.astype(np.uint32) << HALF).view(np.float32)
    else:
        magnitudes = magnitudes.astype(np.int16)
    uniform = np.where(signs, -magnitudes[:, None], magnitudes[:, None])
    blocks[unified] = (uniform + uniform.dtype.type(0)).astype(values.dtype)
    joined: Array = tiles.join(torch.from_numpy(blocks)).numpy()
    return np.ascontiguousarray(joined)


def classes(encoding: Encoding) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Blocks (B,) that are kept, and those of them that are free."""
    parameters = encoding.parameters
    count = Tiles(encoding.shape, parameters["out"], parameters["in"]).blocks
    kept = np.ones(count, bool)
    if "kept" in encoding.arrays:
        kept = _unpack(encoding.arrays["kept"], count)
    free = np.zeros(count, bool)
    if "free" in encoding.arrays:
        free[kept] = _unpack(encoding.arrays["free"], int(kept.sum()))
    return kept, free


def nbytes(tiles: Tiles, pruned: int, unified: int, element_bytes: int) -> int:
    """Closed form of the stored bytes."""
    kept = tiles.blocks - pruned
    free = kept - unified
    return (
        (math.ceil(tiles.blocks / 8) if pruned else 0)
        + (math.ceil(kept / 8) if free else 0)
        + math.ceil(unified * tiles.size / 8)
        + unified * (1 if element_bytes == 1 else HALF // 8)
        + free * tiles.size * element_bytes
    )


def _pack(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(bits.ravel(), bitorder="little")


def _unpack(packed: Array, count: int) -> NDArray[np.bool_]:
    if len(packed) != math.ceil(count / 8):
        raise ValueError(f"{len(packed)} bytes of bits, {math.ceil(count / 8)} expected")
    return np.unpackbits(packed, count=count, bitorder="little").astype(bool)
