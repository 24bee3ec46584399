"""The instruction that a channel carries to a near-memory unit for every lookup: 79 bits."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cofit.core import ConfigError
from cofit.targets.memory.system import Geometry

FIELDS = {
    "opcode": 4, "activate": 1, "read": 1, "precharge": 1, "address": 32, "vector_bursts": 3,
    "weight": 32, "locality": 1, "tag": 4,
}  # fmt: skip
"""Bits of every field, lowest first. The vector's bursts are stored less one."""

BITS = sum(FIELDS.values())
OPCODES = ("sum", "weighted sum", "mean", "weighted mean", "8-bit sum", "8-bit weighted sum")


@dataclass(frozen=True)
class Instruction:
    """One lookup.

    Attributes:
        opcode: one of `OPCODES`.
        activate: a row is to be opened.
        read: bursts are to be read.
        precharge: the row is to be closed before.
        address: of the first burst, see `pack_address`.
        vector_bursts: 1 to 8.
        weight: float32; others are refused.
        locality: whether the rank's cache may keep the vector.
        tag: which of 16 sums it is added to.
    """

    opcode: str
    activate: bool
    read: bool
    precharge: bool
    address: int
    vector_bursts: int
    weight: float
    locality: bool
    tag: int


def encode(instruction: Instruction) -> int:
    """The instruction as an integer of 79 bits.

    Raises:
        ConfigError: a field does not fit.
    """
    if instruction.opcode not in OPCODES:
        raise ConfigError(f"opcode {instruction.opcode!r}; known: {', '.join(OPCODES)}")
    values = {
        "opcode": OPCODES.index(instruction.opcode),
        "activate": int(instruction.activate),
        "read": int(instruction.read),
        "precharge": int(instruction.precharge),
        "address": instruction.address,
        "vector_bursts": instruction.vector_bursts - 1,
        "weight": _float_bits(instruction.weight),
        "locality": int(instruction.locality),
        "tag": instruction.tag,
    }
    word = shift = 0
    for name, bits in FIELDS.items():
        if not 0 <= values[name] < 1 << bits:
            raise ConfigError(
                f"{name} is {getattr(instruction, name)}, which does not fit its {bits} bits"
            )
        word |= values[name] << shift
        shift += bits
    return word


def decode(word: int) -> Instruction:
    """The instruction that `encode` made an integer of.

    Raises:
        ConfigError: it has more than 79 bits, or an unknown opcode.
    """
    if not 0 <= word < 1 << BITS:
        raise ConfigError(f"instruction {word:#x} does not fit {BITS} bits")
    values, rest = {}, word
    for name, bits in FIELDS.items():
        values[name] = rest & ((1 << bits) - 1)
        rest >>= bits
    if values["opcode"] >= len(OPCODES):
        raise ConfigError(f"opcode {values['opcode']}; known: 0 to {len(OPCODES) - 1}")
    return Instruction(
        opcode=OPCODES[values["opcode"]],
        activate=bool(values["activate"]),
        read=bool(values["read"]),
        precharge=bool(values["precharge"]),
        address=values["address"],
        vector_bursts=values["vector_bursts"] + 1,
        weight=struct.unpack("<f", values["weight"].to_bytes(4, "little"))[0],
        locality=bool(values["locality"]),
        tag=values["tag"],
    )


def pack_address(geometry: Geometry, rank: int, bank: int, row: int, column: int) -> int:
    """The address of a burst: column, row, bank, rank from the lowest digit.

    Raises:
        ConfigError: a part is out of range.
    """
    address, unit = 0, 1
    parts = {"column": column, "row": row, "bank": bank, "rank": rank}
    for name, size in _sizes(geometry).items():
        if not 0 <= parts[name] < size:
            raise ConfigError(f"{name} {parts[name]} is not from 0 to {size - 1}")
        address += parts[name] * unit
        unit *= size
    if unit > 1 << FIELDS["address"]:
        raise ConfigError(f"memory of {unit} bursts; addresses have {FIELDS['address']} bits")
    return address


def unpack_address(geometry: Geometry, address: int) -> tuple[int, int, int, int]:
    """Rank, bank, row and column of a burst.

    Raises:
        ConfigError: the memory has no such address.
    """
    parts, rest = {}, address
    for name, size in _sizes(geometry).items():
        parts[name] = rest % size
        rest //= size
    if rest or address < 0:
        raise ConfigError(f"address {address:#x} is beyond the memory's end")
    return parts["rank"], parts["bank"], parts["row"], parts["column"]


def _sizes(g: Geometry) -> dict[str, int]:
    bursts = g.row_bytes // g.burst_bytes
    return {"column": bursts, "row": g.rows, "bank": g.banks, "rank": g.ranks}


def _float_bits(weight: float) -> int:
    try:
        stored = struct.pack("<f", weight)
    except OverflowError:
        stored = b""
    if not stored or struct.unpack("<f", stored)[0] != weight:
        raise ConfigError(f"weight {weight!r} is no float32; round it first")
    return int.from_bytes(stored, "little")
