"""An engine for Bayesian layers: its parameters, the widths that follow, its Verilog."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError, numpy_generator

LATENCY = 3
"""Cycles from a group's last element to its sums, in both flows."""

FILES = ("normal", "sequencer", "pe_base", "pe_dm", "engine")
SEED_BITS = 97
WEIGHT, NOISE = 127, 128
"""Largest magnitudes of sigma (never negative) and of x, mu and eps, all of eight bits."""


@dataclass(frozen=True)
class Engine:
    """Hardware of one layer at a time.

    Attributes:
        memorise: decomposition and memorisation, one multiplier per lane; else the standard flow
            with two.
        lanes: rows computed at once.
        columns: inputs of a layer at most.
        rows: outputs of a layer at most.
        voters: samples per input at most.
        block: row groups (of `lanes` rows) memorised at a time; the memorised share of a layer,
            alpha, is block * lanes / rows. It also orders the random numbers, so that two engines
            agree on them only if their blocks and lanes do.
        fraction: eps is in units of 2**-fraction; 6 clips it at two standard deviations, 5 at four.
        exact: standard flow: keep weights in units of 2**-fraction, not rounded down to units.
        drop: memorised flow: low bits left out of beta = sigma * x; 0 is exact.
        seed: of the generators' start.
    """

    memorise: bool
    lanes: int = 8
    columns: int = 64
    rows: int = 16
    voters: int = 32
    block: int = 1
    fraction: int = 6
    exact: bool = False
    drop: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("lanes", "columns", "rows", "voters", "block"):
            # with one column, a memorised product would be read before it is written
            least = 2 if name == "columns" else 1
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.fraction not in (5, 6):
            raise ConfigError(f"fraction is {self.fraction}; it must be 5 or 6")
        if not 0 <= self.drop <= 7:
            raise ConfigError(f"drop is {self.drop}; it must be from 0 to 7")
        if self.memorise and self.exact:
            raise ConfigError("exact weights belong to the standard flow; set drop=0 instead")
        if not self.memorise and self.drop:
            raise ConfigError("drop belongs to the memorised flow; set memorise=True")

    @property
    def groups(self) -> int:
        """Row groups of the largest layer."""
        return -(-self.rows // self.lanes)

    @property
    def shift(self) -> int:
        """Bits dropped from sigma * eps in the standard flow."""
        return 0 if self.exact else self.fraction

    @property
    def beta_bits(self) -> int:
        """Width of a memorised product; 15 bits hold every sigma * x."""
        return 15 - self.drop

    @property
    def eta_bits(self) -> int:
        """Width of the memorised mu x."""
        return _signed(self.columns * NOISE * NOISE)

    @property
    def accumulator_bits(self) -> int:
        """Narrowest width that no input overflows."""
        if self.memorise:
            eta = self.columns * NOISE * NOISE * 2 ** max(self.fraction - self.drop, 0)
            return _signed(eta + self.columns * ((WEIGHT * NOISE >> self.drop) + 1) * NOISE)
        weight = (NOISE << self.fraction - self.shift) + (WEIGHT * NOISE >> self.shift) + 1
        return _signed(self.columns * weight * NOISE)

    @property
    def unit(self) -> float:
        """What one unit of an output is, in units of mu * x."""
        return 2.0 ** ((self.drop if self.memorise else self.shift) - self.fraction)

    @property
    def multipliers(self) -> int:
        """In all lanes."""
        return self.lanes * (1 if self.memorise else 2)

    def cycles(self, rows: int, columns: int, voters: int) -> int:
        """Cycles of a layer: M N T / P, or (2 M N + T M N) / P, with M filled up to lanes."""
        return -(-rows // self.lanes) * columns * (voters + (2 if self.memorise else 0))

    def parameters(self) -> dict[str, int]:
        """Those of `engine.v`."""
        return {
            "MEMORISE": int(self.memorise),
            "LANES": self.lanes,
            "BLOCK": self.block,
            "COLUMNS": self.columns,
            "GROUPS": self.groups,
            "FRACTION": self.fraction,
            "SHIFT": self.shift,
            "DROP": self.drop,
            "BETA": self.beta_bits,
            "ETA": self.eta_bits,
            "ACC": self.accumulator_bits,
            "COLUMN": _bits(self.columns),
            "GROUP": _bits(self.groups),
            "PASS": _bits(self.voters + 2 * self.memorise),
            "ROW": _bits(self.block),
            "WEIGHT": _bits(self.columns * self.groups),
            "OFFSET": _bits(self.columns * self.block),
        }

    def seeds(self) -> NDArray[np.uint8]:
        """Start of each lane's shift register, bits (lanes, 97), none all zero."""
        bits = numpy_generator(self.seed, "rtl", "normal").integers(
            0, 2, (self.lanes, SEED_BITS), np.uint8
        )
        bits[:, 0] |= ~bits.any(axis=1)
        return bits

    def ports(self) -> dict[str, int]:
        """Input ports and their widths, without the clock."""
        width = self.parameters()
        return {
            "reset": 1, "load_mu": 1, "load_sigma": 1, "load_x": 1,
            "load_address": width["WEIGHT"], "load_data": 8 * self.lanes, "start": 1,
            "last_column": width["COLUMN"], "last_group": width["GROUP"],
            "last_pass": width["PASS"],
        }  # fmt: skip

    def verilog(self, ram: bool = True) -> str:
        """The design as one file; its top module is `layer`, with the ports of `engine`.

        Args:
            ram: with the memories' model; without, they are left to the reader.
        """
        names = (*FILES, "ram") if ram else FILES
        return "\n".join([*(source(name) for name in names), self._top()])

    def _top(self) -> str:
        lanes = self.seeds()
        seed = "".join(str(bit) for row in lanes[::-1] for bit in row[::-1])
        values = [f".{name}({value})" for name, value in self.parameters().items()]
        values.append(f".SEED({seed_literal(seed)})")
        inputs = self.ports()
        outputs = {"busy": 1, "valid": 1, "y": self.accumulator_bits * self.lanes}
        ports = [
            "    input clk",
            *(f"    input {_range(width)}{name}" for name, width in inputs.items()),
            *(f"    output {_range(width)}{name}" for name, width in outputs.items()),
        ]
        wires = ", ".join(f".{name}({name})" for name in ("clk", *inputs, *outputs))
        return (
            "module layer (\n" + ",\n".join(ports) + "\n);\n"
            "    engine #(\n        "
            + ",\n        ".join(values)
            + "\n    ) unit ("
            + wires
            + ");\n"
            "endmodule\n"
        )


def source(name: str) -> str:
    """A Verilog file of this room."""
    return (Path(__file__).parent / "verilog" / f"{name}.v").read_text(encoding="utf-8")


def seed_literal(bits: str) -> str:
    """A sized Verilog constant of bits, highest first."""
    return f"{len(bits)}'b{bits}"


def _range(width: int) -> str:
    return "" if width == 1 else f"[{width - 1}:0] "


def _bits(count: int) -> int:
    """Width of a number below `count`."""
    return max(1, (count - 1).bit_length())


def _signed(magnitude: int) -> int:
    """Width of a signed number of at most this magnitude."""
    return magnitude.bit_length() + 1
