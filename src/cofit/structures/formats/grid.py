"""Values on a per-channel integer grid, around any other format.

At 4 bits `values` holds two's-complement nibbles, low nibble first, each row (leading axis; a
one-dimensional array is one row) padded to a byte. If the weight was float32, `scale[K]` is stored
and `decode` multiplies by it. The name is that of the inner format with "+int8" or "+int4", or
that alone around dense; int8 elements at 8 bits are simply the inner format.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from cofit.structures.contract import Array, Encoding
from cofit.structures.formats.layout import Decoder


def wrap(inner: Encoding, bits: int, scale: NDArray[np.float32] | None) -> Encoding:
    """Store an encoding of int8 elements at `bits` bits, with its scale if it has one."""
    if bits == 8 and scale is None:
        return inner
    arrays, parameters = dict(inner.arrays), dict(inner.parameters) | {"bits": bits}
    if bits == 4:
        arrays["values"], parameters["row"] = _pack(inner.arrays["values"])
    if scale is not None:
        arrays["scale"] = scale
    name = f"int{bits}" if inner.format == "dense" else f"{inner.format}+int{bits}"
    return Encoding(name, inner.shape, arrays, parameters, decoder(inner.decoder))


def decoder(inner: Decoder) -> Decoder:
    """Decoder of the wrapped form of the format that `inner` decodes."""
    return functools.partial(_decode, inner)


def _decode(inner: Decoder, encoding: Encoding) -> Array:
    arrays = dict(encoding.arrays)
    scale = arrays.pop("scale", None)
    if encoding.parameters["bits"] == 4:
        arrays["values"] = _unpack(arrays["values"], encoding.parameters["row"])
    name = encoding.format.rpartition("+")[0] or "dense"
    levels = inner(Encoding(name, encoding.shape, arrays, encoding.parameters, inner))
    if scale is None:
        return levels
    # exact: a level has 7 bits and a scale 16, together fewer than float32's 24
    return levels.astype(np.float32) * scale.reshape(-1, *[1] * (levels.ndim - 1))


def _pack(values: Array) -> tuple[Array, int]:
    count = 1 if values.ndim == 1 else len(values)
    row = values.size if values.ndim == 1 else math.prod(values.shape[1:])
    nibbles = np.zeros((count, row + row % 2), np.uint8)
    nibbles[:, :row] = values.reshape(count, row).view(np.uint8) & 15
    return nibbles[:, 0::2] | nibbles[:, 1::2] << 4, row


def _unpack(packed: Array, row: int) -> Array:
    count, width = packed.shape
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(count, 2 * width)[:, :row]
    return ((nibbles ^ 8).astype(np.int8) - 8).astype(np.int8)
