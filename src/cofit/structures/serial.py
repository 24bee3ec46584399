"""Encodings as bytes: a header with version, the arrays, and a CRC32 over both.

Layout, little endian: magic "CFWE", version u16, length of the header u32, header (JSON: format,
shape, parameters, and name, type and shape of each array), arrays in that order, CRC32 u32 of
everything before it.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from typing import Any

import numpy as np

from cofit.core import FileError
from cofit.structures.contract import Array, Encoding
from cofit.structures.formats import decoder

VERSION = 1
_MAGIC = b"CFWE"
_PREFIX = struct.Struct("<4sHI")
_TYPES = ("|u1", "|i1", "<i2", "<u2", "<u4", "<f4")
_MOST_ELEMENTS = 2**31


def to_bytes(encoding: Encoding) -> bytes:
    """Serial form of an encoding."""
    header = {
        "format": encoding.format,
        "shape": encoding.shape,
        "parameters": dict(encoding.parameters),
        "arrays": [[name, a.dtype.str, a.shape] for name, a in encoding.arrays.items()],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    blobs = [np.ascontiguousarray(array).tobytes() for array in encoding.arrays.values()]
    body = b"".join([_PREFIX.pack(_MAGIC, VERSION, len(text)), text, *blobs])
    return body + struct.pack("<I", zlib.crc32(body))


def from_bytes(blob: bytes) -> Encoding:
    """Read a serial form, checked to its last byte and decoded once.

    Raises:
        FileError: the bytes are truncated, corrupted, of another version, or inconsistent.
    """
    if len(blob) < _PREFIX.size + 4 or blob[:4] != _MAGIC:
        raise FileError("these bytes are no encoded weight; write them with to_bytes")
    _, version, length = _PREFIX.unpack_from(blob)
    if version != VERSION:
        raise FileError(f"the encoded weight has version {version}; this cofit reads {VERSION}")
    if zlib.crc32(blob[:-4]) != struct.unpack("<I", blob[-4:])[0]:
        raise FileError("the encoded weight is damaged (CRC32 differs); encode it again")
    try:
        header = json.loads(blob[_PREFIX.size : _PREFIX.size + length])
        encoding = _read(header, blob[_PREFIX.size + length : -4])
        encoding.decode()
    except (
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        MemoryError,
        RecursionError,
    ) as error:
        raise FileError(
            f"the encoded weight contradicts itself ({error}); encode it again"
        ) from error
    return encoding


def _read(header: Any, payload: bytes) -> Encoding:
    shape = tuple(int(n) for n in header["shape"])
    if min(shape, default=0) < 1 or math.prod(shape) > _MOST_ELEMENTS:
        raise ValueError(f"shape {shape}")
    arrays: dict[str, Array] = {}
    at = 0
    for name, kind, sides in header["arrays"]:
        if kind not in _TYPES:
            raise ValueError(f"array {name!r} of type {kind!r}")
        count = math.prod(sides)
        arrays[name] = np.frombuffer(payload, np.dtype(kind), count, at).reshape(sides)
        at += arrays[name].nbytes
    if at != len(payload):
        raise ValueError(f"{len(payload)} bytes of arrays, {at} expected")
    parameters = {str(name): int(value) for name, value in header["parameters"].items()}
    name = header["format"]
    return Encoding(name, shape, arrays, parameters, decoder(name))
