"""The IDX format of the MNIST family, gzip-compressed or plain, read with every size checked.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", file formats.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.core import DataError

_UBYTE = 0x08
"""Element code of uint8, the only one that the MNIST family uses."""


def read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """Read a uint8 IDX array of `rank` axes; a `.gz` file is unpacked on the way.

    Raises:
        DataError: the file is absent, truncated, too long, corrupt, or of another kind.
    """
    try:
        blob = path.read_bytes()
        if blob[:2] == b"\x1f\x8b":
            blob = gzip.decompress(blob)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {str(path)!r}: {error}; fetch the file again") from error
    header = 4 + 4 * rank
    if len(blob) < header or blob[:4] != bytes((0, 0, _UBYTE, rank)):
        raise DataError(
            f"{str(path)!r} is not an IDX file of uint8 with {rank} axes: it starts with "
            f"{blob[:4].hex() or 'nothing'}, expected 000008{rank:02x}"
        )
    shape = tuple(int.from_bytes(blob[i : i + 4], "big") for i in range(4, header, 4))
    found = len(blob) - header
    if found != math.prod(shape):
        raise DataError(
            f"{str(path)!r} announces shape {shape}, {math.prod(shape)} bytes, but holds {found}; "
            "fetch the file again"
        )
    return np.frombuffer(blob, np.uint8, offset=header).reshape(shape)
