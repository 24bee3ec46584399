"""Messages between device and edge: a typed binary header and named tensors. Never a pickle.

A message is a header of fixed size (magic, version, kind, design, frame, durations, length and CRC
of the body) and a body, compressed by zlib: the number of tensors, for each its name, type and
shape, then their bytes in the same order. All integers are little-endian. Nothing of a body is
believed before its length, its CRC and all its shapes have been checked.
"""

from __future__ import annotations

import enum
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from cofit.core import CommunicationError

MAGIC, VERSION = b"cfCI", 1
MOST_BYTES = 1 << 28
"""Of a body, compressed or not; a longer one is refused before memory is taken for it."""
LEVEL = 1
"""Of zlib. On activations after ReLU higher levels take several times as long and save 2 %."""

NAMES = ("x", "neighbours", "batch", "previous", "logits", "text")
DTYPES = (torch.float32, torch.int64, torch.int16, torch.int8, torch.uint8)
_HEADER = struct.Struct("<4sBBHQddII")
HEADER_BYTES = _HEADER.size
_ENTRY = struct.Struct("<BBB")


class Kind(enum.IntEnum):
    """What a message is."""

    HELLO = 1
    FRAME = 2
    RESULT = 3
    ERROR = 4
    PROBE = 5


@dataclass(frozen=True)
class Header:
    """What comes before the body.

    Attributes:
        kind: of the message.
        design: number in the zoo.
        frame: number of the inference.
        compute_s: what the sender computed for this frame.
        stay_s: from the frame's arrival at the sender to its leaving; computing, packing and
            waiting. Durations only: the clocks of both sides need not agree.
        length: bytes of the body that follows.
        crc: of these bytes.
    """

    kind: Kind
    design: int
    frame: int
    compute_s: float
    stay_s: float
    length: int
    crc: int


@dataclass(frozen=True, eq=False)
class Message:
    """A header's fields and the tensors by name; see `Header`."""

    kind: Kind
    design: int = 0
    frame: int = 0
    compute_s: float = 0.0
    stay_s: float = 0.0
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What a HELLO or ERROR says."""
        found = self.tensors.get("text", torch.empty(0, dtype=torch.uint8))
        return bytes(found.tolist()).decode(errors="replace")


def text_tensor(text: str) -> torch.Tensor:
    """UTF-8 as the tensor that `Message.text` reads."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def pack_body(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Named tensors as a compressed body.

    Raises:
        ValueError: a name or a type that has no number.
    """
    heads, blobs = [bytes([len(tensors)])], []
    for name, tensor in tensors.items():
        entry = _ENTRY.pack(NAMES.index(name), DTYPES.index(tensor.dtype), tensor.dim())
        heads.append(entry + struct.pack(f"<{tensor.dim()}I", *tensor.shape))
        blobs.append(tensor.detach().contiguous().numpy().tobytes())
    return zlib.compress(b"".join(heads + blobs), LEVEL)


def pack(message: Message, body: bytes) -> bytes:
    """The header of a message followed by its body, which `pack_body` made."""
    header = _HEADER.pack(
        MAGIC, VERSION, message.kind, message.design, message.frame, message.compute_s,
        message.stay_s, len(body), zlib.crc32(body),
    )  # fmt: skip
    return header + body


def unpack_header(blob: bytes) -> Header:
    """The header in the first `HEADER_BYTES` of a message.

    Raises:
        CommunicationError: it is no message of this protocol, or too long.
    """
    magic, version, kind, design, frame, compute_s, stay_s, length, crc = _HEADER.unpack(blob)
    if magic != MAGIC or version != VERSION:
        raise CommunicationError(
            f"the peer sent {magic!r}, version {version}; a message starts with {MAGIC!r}, "
            f"version {VERSION}; start both sides from one version of cofit"
        )
    if kind not in set(Kind):
        raise CommunicationError(f"the peer sent a message of kind {kind}; known: 1 to {len(Kind)}")
    if length > MOST_BYTES:
        raise CommunicationError(
            f"the peer announced {length} bytes; at most {MOST_BYTES} are taken, send fewer points"
        )
    if not (math.isfinite(compute_s) and math.isfinite(stay_s)):
        raise CommunicationError("the peer sent seconds that are not finite; its message is broken")
    return Header(Kind(kind), design, frame, compute_s, stay_s, length, crc)


def unpack(header: Header, body: bytes) -> Message:
    """The message of a header and the `header.length` bytes that follow it.

    Raises:
        CommunicationError: the body is not what the header says, or malformed.
    """
    if len(body) != header.length or zlib.crc32(body) != header.crc:
        raise CommunicationError(
            f"frame {header.frame} arrived damaged (its CRC differs); the link or peer is broken"
        )
    try:
        tensors = _unpack_body(body)
    except (zlib.error, struct.error, ValueError, IndexError) as error:
        raise CommunicationError(
            f"frame {header.frame} is malformed ({error}); start both sides from one version"
        ) from None
    return Message(
        header.kind, header.design, header.frame, header.compute_s, header.stay_s, tensors
    )


def _unpack_body(body: bytes) -> dict[str, torch.Tensor]:
    unzip = zlib.decompressobj()
    plain = bytearray(unzip.decompress(body, MOST_BYTES))
    if not unzip.eof or unzip.unused_data:
        raise ValueError(f"its body is cut off or longer than {MOST_BYTES} bytes")
    place, entries = 1, []
    for _ in range(plain[0]):
        name, dtype, dims = _ENTRY.unpack_from(plain, place)
        shape = struct.unpack_from(f"<{dims}I", plain, place + _ENTRY.size)
        place += _ENTRY.size + 4 * dims
        entries.append((NAMES[name], DTYPES[dtype], shape))
    if len({name for name, _, _ in entries}) < len(entries):
        raise ValueError("a tensor occurs twice")
    tensors = {}
    for name, dtype, shape in entries:
        count = math.prod(shape)
        if place + count * dtype.itemsize > len(plain):
            raise ValueError(f"{name} of shape {shape} exceeds the body")
        # a copy, aligned as every tensor: kernels may round otherwise on other alignments
        tensors[name] = (
            torch.frombuffer(plain, dtype=dtype, count=count, offset=place).reshape(shape).clone()
            if count
            else torch.empty(shape, dtype=dtype)
        )
        place += count * dtype.itemsize
    if place != len(plain):
        raise ValueError(f"{len(plain) - place} bytes belong to no tensor")
    return tensors
