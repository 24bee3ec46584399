"""Drives an engine's netlist through a layer: load, start, collect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError
from cofit.rtl.design import LATENCY, Engine
from cofit.rtl.model import Integers, check
from cofit.rtl.simulation import Simulator


@dataclass(frozen=True, eq=False)
class Layer:
    """Operands of a layer for many vectors; weights without a vector axis are shared.

    Attributes:
        mu: (V, M, N) or (M, N), int8.
        sigma: the same shape, none negative.
        x: (V, N), int8.
        voters: samples per input.
    """

    mu: NDArray[np.int8]
    sigma: NDArray[np.int8]
    x: NDArray[np.int8]
    voters: int

    def __post_init__(self) -> None:
        check(self.mu, self.sigma, self.x)
        if self.voters < 1:
            raise ConfigError(f"voters is {self.voters}; it must be at least 1")
        if self.columns < 2:
            raise ConfigError("a layer of one column; it must have at least 2")

    @property
    def rows(self) -> int:
        """Outputs."""
        return int(self.mu.shape[-2])

    @property
    def columns(self) -> int:
        """Inputs."""
        return int(self.mu.shape[-1])

    def check_fits(self, engine: Engine) -> None:
        """Refuse a layer that is larger than the engine."""
        for name in ("rows", "columns", "voters"):
            have, room = getattr(self, name), getattr(engine, name)
            if have > room:
                raise ConfigError(
                    f"the layer has {have} {name}, the engine room for {room}; make one with "
                    f"{name}={have}"
                )

    def words(self, engine: Engine, values: NDArray[np.int8]) -> NDArray[np.uint8]:
        """A weight memory's contents, bits (address, V or 1, 8 * lanes)."""
        several = values.reshape(-1, self.rows, self.columns)
        groups = -(-self.rows // engine.lanes)
        filled = np.zeros((len(several), groups * engine.lanes, self.columns), np.int8)
        filled[:, : self.rows] = several
        by_group = filled.reshape(len(several), groups, engine.lanes, self.columns)
        by_address = by_group.transpose(1, 3, 0, 2).reshape(-1, len(several), engine.lanes)
        return np.unpackbits(
            np.ascontiguousarray(by_address).view(np.uint8), axis=2, bitorder="little"
        )

    def controls(self, engine: Engine) -> dict[str, int]:
        """The loop bounds as the engine takes them."""
        return {
            "last_column": self.columns - 1,
            "last_group": -(-self.rows // engine.lanes) - 1,
            "last_pass": self.voters - 1 + (2 if engine.memorise else 0),
        }


def reset(simulator: Simulator) -> None:
    """Two cycles of reset; the generators stand at their seeds."""
    simulator.set({"reset": 1})
    simulator.step(2)
    simulator.set({"reset": 0})


def load(simulator: Simulator, engine: Engine, layer: Layer, weights: bool = True) -> None:
    """Fill the memories through the load port, a word per cycle."""
    layer.check_fits(engine)
    if weights:
        for port, values in (("load_mu", layer.mu), ("load_sigma", layer.sigma)):
            simulator.set({port: 1})
            for address, word in enumerate(layer.words(engine, values)):
                simulator.set({"load_address": address, "load_data": word})
                simulator.step()
            simulator.set({port: 0})
    simulator.set({"load_x": 1})
    for address, column in enumerate(layer.x.T):
        data = np.zeros((len(column), engine.lanes), np.int8)
        data[:, 0] = column
        word = np.unpackbits(data.view(np.uint8), axis=1, bitorder="little")
        simulator.set({"load_address": address, "load_data": word})
        simulator.step()
    simulator.set({"load_x": 0, "load_address": 0, "load_data": 0})


def compute(simulator: Simulator, engine: Engine, layer: Layer) -> Integers:
    """Start the loaded layer and collect its sums, (V, T, M), in the engine's unit."""
    groups = -(-layer.rows // engine.lanes)
    simulator.set({**layer.controls(engine), "start": 1})
    simulator.step()
    simulator.set({"start": 0})
    limit = engine.cycles(layer.rows, layer.columns, layer.voters) + 16
    bits = simulator.finish(groups * layer.voters, limit, LATENCY)
    return arrange(engine, layer, integers(bits, engine))


def integers(bits: NDArray[np.uint8], engine: Engine) -> Integers:
    """Signed values (emitted, lanes, V) of bits (emitted, lanes * accumulator bits, V)."""
    width = engine.accumulator_bits
    by_lane = bits.reshape(len(bits), engine.lanes, width, -1).astype(np.int64)
    weight = 1 << np.arange(width, dtype=np.int64)
    weight[-1] = -weight[-1]
    values: Integers = np.einsum("elbv,b->elv", by_lane, weight)
    return values


def arrange(engine: Engine, layer: Layer, emitted: Integers) -> Integers:
    """Sums (V, T, M) out of what was emitted, (T * groups, lanes, V) by (block, voter, group)."""
    groups = -(-layer.rows // engine.lanes)
    if len(emitted) != groups * layer.voters:
        raise ConfigError(f"{len(emitted)} values were emitted, not {groups * layer.voters}")
    out = np.empty((layer.voters, groups, engine.lanes, emitted.shape[-1]), np.int64)
    at = 0
    for first in range(0, groups, engine.block):
        size = min(engine.block, groups - first)
        part = emitted[at : at + size * layer.voters]
        out[:, first : first + size] = part.reshape(layer.voters, size, *part.shape[1:])
        at += len(part)
    flat = out.reshape(layer.voters, groups * engine.lanes, -1)[:, : layer.rows]
    return flat.transpose(2, 0, 1)
