"""Time and energy of layers on a platform: a roofline with occupancy, over many draws at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError
from cofit.targets.platforms.tables import PRECISIONS, Parameters
from cofit.targets.platforms.tiles import Tile, balance, best_tile, cycles
from cofit.targets.platforms.work import ACTIVATION_BITS, WEIGHT_BITS, LayerWork

Draws = NDArray[np.float64]
Factors = Mapping[str, Draws]
REGISTER_TILE = 8
"""Filters and pixels between which a processor's kernels share operands."""

PRUNED_SHARE = {"none": 1.0, "filter": 1.0, "block": 0.8, "pattern": 0.7, "unstructured": 0.2}
"""Share of the ideal speed-up that a processor's kernels reach, by scheme; measured ones may be
given instead. Never slower than dense: then it would run dense."""


@dataclass(frozen=True, eq=False)
class LayerEstimate:
    """One layer; arrays have one value per draw.

    Attributes:
        name: of the layer.
        latency_s: its time.
        energy_j: moving and computing, without static power.
        bound: "compute" or "bandwidth", as most of the time goes undrawn.
    """

    name: str
    latency_s: Draws
    energy_j: Draws
    bound: str


@dataclass(frozen=True, eq=False)
class Estimate:
    """A network on a platform; arrays have one value per draw, the first is undrawn.

    Attributes:
        platform: its name.
        layers: in order.
        latency_s: of a frame.
        energy_j: static power over the frame, computing, and moving.
        board_energy_j: the board's power over the frame.
        tiles: of an FPGA, by precision.
    """

    platform: str
    layers: tuple[LayerEstimate, ...]
    latency_s: Draws
    energy_j: Draws
    board_energy_j: Draws
    tiles: Mapping[str, Tile]

    @property
    def frames_per_j(self) -> Draws:
        """Efficiency by the energies of what happens."""
        return 1 / self.energy_j

    @property
    def board_frames_per_j(self) -> Draws:
        """Efficiency by the power of the board."""
        return 1 / self.board_energy_j


def layer_time(
    operations: float | Draws, peak: float | Draws, nbytes: float | Draws, bandwidth: float | Draws
) -> Draws:
    """Seconds of a roofline: the longer of computing and moving.

    Raises:
        ConfigError: no peak or no bandwidth.
    """
    for name, value in (("peak", peak), ("bandwidth", bandwidth)):
        if not np.all(np.asarray(value) > 0):
            raise ConfigError(f"{name} is {value}; it must be above zero")
    return np.maximum(np.asarray(operations) / peak, np.asarray(nbytes) / bandwidth)


def estimate(
    found: Parameters,
    works: Sequence[LayerWork],
    factors: Factors | None = None,
    pruned_share: Mapping[str, float] = PRUNED_SHARE,
) -> Estimate:
    """Time and energy of a network.

    Every layer moves its weights, inputs and outputs from and to DRAM once.

    Args:
        found: numbers of the platform.
        works: layers of the network.
        factors: by name of a value, factors on it; see `draw`. None is the platform as it is.
        pruned_share: see `PRUNED_SHARE`; used for processors.

    Raises:
        ConfigError: a processor knows no precision as wide as needed.
        TargetError: no array fits an FPGA.
    """
    values = _Values(found, factors or {})
    model = _Fabric(values, works) if found.kind == "fpga" else _Cores(values, pruned_share)
    layers = tuple(_layer(values, model, work) for work in works)
    latency = sum((layer.latency_s for layer in layers), np.zeros(values.count))
    moving = sum((layer.energy_j for layer in layers), np.zeros(values.count))
    return Estimate(
        found.name,
        layers,
        latency,
        moving + values["board.static_power"] * latency,
        values["board.board_power"] * latency,
        model.tiles,
    )


class _Values:
    """Numbers of a platform times their factors; the first draw is without."""

    def __init__(self, found: Parameters, factors: Factors) -> None:
        self.found, self._factors = found, factors
        self.count = 1 + max((len(f) for f in factors.values()), default=0)

    def __getitem__(self, name: str) -> Draws:
        value = np.full(self.count, self.found[name])
        if name in self._factors:
            value[1:] *= self._factors[name]
        if name.startswith(("share.", "fabric.dsp_share", "fabric.lut_share")):
            value = np.minimum(value, 1.0)
        return value


class _Fabric:
    """An FPGA: an array of multipliers per precision, made for the network."""

    def __init__(self, values: _Values, works: Sequence[LayerWork]) -> None:
        self._values = values
        self.tiles: dict[str, Tile] = {}
        bram = values.found["fabric.bram"]
        for precision in dict.fromkeys(work.precision for work in works):
            mine = [work for work in works if work.precision == precision]
            self.tiles[precision] = best_tile(mine, self._capacity(precision)[0], bram)

    def _capacity(self, precision: str) -> Draws:
        """MACs per cycle that DSPs and LUTs have room for."""
        v, total = self._values, np.zeros(self._values.count)
        if f"macs_per_dsp.{precision}" in v.found.values:
            total += v["fabric.dsp"] * v["fabric.dsp_share"] * v[f"macs_per_dsp.{precision}"]
        if f"luts_per_mac.{precision}" in v.found.values:
            total += v["fabric.lut"] * v["fabric.lut_share"] / v[f"luts_per_mac.{precision}"]
        return total

    def compute_s(self, work: LayerWork) -> Draws:
        tile = self.tiles[work.precision]
        room = self._capacity(work.precision)
        dense = float(cycles(work, tile.filters, tile.channels)) / self._values["fabric.clock"]
        seconds: Draws = dense * (room[0] / room) * self.remaining(work)
        return seconds

    def remaining(self, work: LayerWork) -> float:
        """Share of a dense layer's time that a pruned one takes."""
        if work.kept is None:
            return 1.0
        tile = self.tiles[work.precision]
        lanes = min(tile.filters, work.filters)
        even = balance(work.kept, lanes, min(tile.channels, work.channels) * work.taps)
        return min(1.0, work.density / even)

    def arithmetic(self, work: LayerWork) -> str:
        return work.precision

    def chip_bytes(self, work: LayerWork) -> float:
        tile = self.tiles[work.precision]
        moved = ACTIVATION_BITS[work.precision] / tile.filters
        return (moved + WEIGHT_BITS[work.precision] / tile.channels) / 8


class _Cores:
    """A processor: peaks by precision, reached in part by kind of layer."""

    tiles: Mapping[str, Tile]

    def __init__(self, values: _Values, pruned_share: Mapping[str, float]) -> None:
        self._values, self._share, self.tiles = values, pruned_share, {}

    def compute_s(self, work: LayerWork) -> Draws:
        peak = self._values[f"peak.{self.arithmetic(work)}"]
        reached = peak * self._values[f"share.{work.kind}"]
        return work.macs * self.remaining(work) / reached

    def remaining(self, work: LayerWork) -> float:
        """Share of a dense layer's time that a pruned one takes."""
        return min(1.0, work.density / self._share[work.scheme])

    def arithmetic(self, work: LayerWork) -> str:
        """The narrowest precision that it computes at and that holds the layer's."""
        wide_enough = PRECISIONS[PRECISIONS.index(work.precision) :: -1]
        for precision in wide_enough:
            if f"peak.{precision}" in self._values.found.values:
                return precision
        raise ConfigError(
            f"{self._values.found.name} computes nothing as wide as {work.precision}; it has no "
            "peak of that or a wider precision"
        )

    def chip_bytes(self, work: LayerWork) -> float:
        bits = ACTIVATION_BITS[work.precision] + WEIGHT_BITS[work.precision]
        return bits / REGISTER_TILE / 8


def _layer(values: _Values, model: _Fabric | _Cores, work: LayerWork) -> LayerEstimate:
    compute = model.compute_s(work)
    moved = work.weight_bytes + work.activation_bytes
    bandwidth = values["board.bandwidth"]
    busy = layer_time(compute, 1.0, moved, bandwidth)
    macs = work.macs * work.density
    scale, overhead = values["board.node_scale"], values["board.overhead"]
    arithmetic = macs * values[f"energy.{model.arithmetic(work)}"] * overhead * scale
    chip = macs * model.chip_bytes(work) * values["energy.sram_byte"] * scale
    dram = moved * values["energy.dram_byte"]
    return LayerEstimate(
        work.name,
        busy + values["board.launch"],
        (arithmetic + chip + dram) * 1e-12,
        "compute" if compute[0] >= moved / bandwidth[0] else "bandwidth",
    )
