"""A channel of DRAM with near-memory units: geometry, timing, energies (`ddr4-2400.toml`)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cofit.core import ConfigError
from cofit.core.quantities import HardwareFile

FILE = Path(__file__).with_name("ddr4-2400.toml")
ENERGY_SETS = ("paper_recall", "dramsim3")
"""Energies of DRAM as the publication states them, and as they follow from datasheet currents."""

_GEOMETRY = {
    "dimms": "count", "ranks_per_dimm": "count", "bank_groups": "count",
    "banks_per_group": "count", "rows": "count", "row_bytes": "bytes", "devices": "count",
    "burst_bytes": "bytes", "page_bytes": "bytes",
}  # fmt: skip
_CYCLES = (
    "cl", "rcd", "rp", "ras", "rrd_s", "rrd_l", "ccd_s", "ccd_l", "faw", "rtp", "burst", "rtrs",
    "refi", "rfc",
)  # fmt: skip
_TIMING = {"clock_period": "time", "queue": "count", **dict.fromkeys(_CYCLES, "cycles")}
_NEAR = {
    "cache": "bytes", "instructions_per_cycle": "count", "tags": "count",
    "poolings_per_packet": "count", "pipeline": "cycles",
}  # fmt: skip
_CURRENT = {"vdd": "voltage", **dict.fromkeys(("idd0", "idd2n", "idd3n", "idd4r"), "current")}
_ENERGY = {"io": "energy per bit", "cache_access": "energy", "add": "energy", "multiply": "energy"}
_DRAM_ENERGY = {"activate": "energy", "read": "energy per bit"}
_TOP: dict[str, type] = {
    "name": str, "about": str, "source": dict, "geometry": dict, "timing": dict, "near": dict,
    "current": dict, "energy": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Geometry:
    """Counts and sizes; a row is that of a bank over all devices of a rank."""

    dimms: int
    ranks_per_dimm: int
    bank_groups: int
    banks_per_group: int
    rows: int
    row_bytes: int
    devices: int
    burst_bytes: int
    page_bytes: int

    @property
    def ranks(self) -> int:
        """Ranks of the channel."""
        return self.dimms * self.ranks_per_dimm

    @property
    def banks(self) -> int:
        """Banks of a rank."""
        return self.bank_groups * self.banks_per_group

    @property
    def pages_per_row(self) -> int:
        """Pages of virtual memory that lie in one row."""
        return self.row_bytes // self.page_bytes


@dataclass(frozen=True)
class Timing:
    """Constraints in cycles of the command clock, named as in the standard without the t.

    Attributes:
        clock_period_s: one cycle.
        queue: requests that a controller chooses from.
        burst: cycles of the data bus per burst.
        rtrs: idle cycles of the data bus when the rank changes.
    """

    clock_period_s: float
    queue: int
    cl: int
    rcd: int
    rp: int
    ras: int
    rrd_s: int
    rrd_l: int
    ccd_s: int
    ccd_l: int
    faw: int
    rtp: int
    burst: int
    rtrs: int
    refi: int
    rfc: int


@dataclass(frozen=True)
class Near:
    """The near-memory units.

    Attributes:
        cache_bytes: of every rank.
        instructions_per_cycle: that the channel carries.
        tags: sums that a unit keeps.
        poolings_per_packet: whose sums are formed together.
        pipeline: cycles from the last operand to its sum.
    """

    cache_bytes: int
    instructions_per_cycle: int
    tags: int
    poolings_per_packet: int
    pipeline: int

    @property
    def packets_in_flight(self) -> int:
        """Packets that the tags suffice for."""
        return self.tags // self.poolings_per_packet


@dataclass(frozen=True)
class Currents:
    """Supply of one device."""

    vdd_v: float
    idd0_a: float
    idd2n_a: float
    idd3n_a: float
    idd4r_a: float


@dataclass(frozen=True)
class EnergySet:
    """Energies of what happens: an activate, a bit read, a bit over the channel, arithmetic."""

    name: str
    activate_pj: float
    read_pj_per_bit: float
    io_pj_per_bit: float
    cache_access_pj: float
    add_pj: float
    multiply_pj: float


@dataclass(frozen=True)
class MemorySystem:
    """A channel of memory.

    Attributes:
        name: of the file.
        geometry: of the channel.
        timing: of a rank.
        near: units beside the memory.
        currents: of a device.
        energies: sets of energies by name, see `ENERGY_SETS`.
        facts: what a report says of where the numbers come from.
    """

    name: str
    geometry: Geometry
    timing: Timing
    near: Near
    currents: Currents
    energies: Mapping[str, EnergySet]
    facts: Mapping[str, str] = field(default_factory=dict)

    def with_ranks(self, ranks: int) -> MemorySystem:
        """The same memory with another number of ranks.

        Raises:
            ConfigError: it is not 1 or a multiple of the ranks of a DIMM.
        """
        each = min(ranks, self.geometry.ranks_per_dimm)
        if ranks < 1 or ranks % each:
            raise ConfigError(f"{ranks} ranks; give 1 or a multiple of {each}")
        changed = replace(self.geometry, dimms=ranks // each, ranks_per_dimm=each)
        return replace(self, geometry=changed)

    def with_cache(self, cache_bytes: int) -> MemorySystem:
        """The same memory with another cache in every rank."""
        return replace(self, near=replace(self.near, cache_bytes=cache_bytes))

    def energy(self, name: str) -> EnergySet:
        """A set of energies.

        Raises:
            ConfigError: listing the known ones.
        """
        if name not in self.energies:
            raise ConfigError(
                f"unknown energies {name!r}; known: {', '.join(self.energies)}; choose one"
            )
        return self.energies[name]


@functools.cache
def memory_system() -> MemorySystem:
    """The memory that comes with cofit: DDR4-2400, 8 ranks."""
    return read_memory(FILE)


def read_memory(path: Path) -> MemorySystem:
    """A memory from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, a number lacks unit or source, a unit does not
            measure the quantity.
    """
    file = HardwareFile(path, "memory", _TOP, _TOP)
    top = file.document
    geometry = _whole(file, "geometry", _GEOMETRY)
    timing = file.numbers(top["timing"], "timing", _TIMING)
    period = timing.pop("clock_period")
    near = _whole(file, "near", _NEAR)
    currents = file.numbers(top["current"], "current", _CURRENT)
    found = MemorySystem(
        name=top["name"],
        geometry=Geometry(**geometry),
        timing=Timing(period, **{key: int(value) for key, value in timing.items()}),
        near=Near(cache_bytes=near.pop("cache"), **near),
        currents=Currents(
            currents.pop("vdd"), **{f"{key}_a": value for key, value in currents.items()}
        ),
        energies={},
    )
    _check(file, found)
    shared = {key: value for key, value in top["energy"].items() if key != "paper_recall"}
    rest = file.numbers(shared, "energy", _ENERGY)
    stated = file.numbers(
        top["energy"].get("paper_recall", {}), "energy.paper_recall", _DRAM_ENERGY
    )
    sets = {
        "paper_recall": (stated["activate"], stated["read"]),
        "dramsim3": (activate_pj(found), read_burst_pj(found) / (8 * geometry["burst_bytes"])),
    }
    energies = {
        name: EnergySet(
            name, activate, read, rest["io"], rest["cache_access"], rest["add"], rest["multiply"]
        )
        for name, (activate, read) in sets.items()
    }
    return replace(found, energies=energies, facts={"memory": top["about"], **file.facts()})


def activate_pj(memory: MemorySystem) -> float:
    """Energy of opening and closing a row of a rank, from the currents of its devices.

    The current of an endless run of activates, less that of standing by with the row open for tRAS
    and closed for tRP.
    """
    t, i = memory.timing, memory.currents
    charge = i.idd0_a * (t.ras + t.rp) - i.idd3n_a * t.ras - i.idd2n_a * t.rp
    return charge * i.vdd_v * memory.geometry.devices * t.clock_period_s * 1e12


def read_burst_pj(memory: MemorySystem) -> float:
    """Energy of reading one burst out of an open row of a rank, from currents."""
    t, i = memory.timing, memory.currents
    charge = (i.idd4r_a - i.idd3n_a) * t.burst
    return charge * i.vdd_v * memory.geometry.devices * t.clock_period_s * 1e12


def _whole(file: HardwareFile, where: str, known: Mapping[str, str]) -> dict[str, int]:
    numbers = file.numbers(file.document[where], where, known)
    for key, value in numbers.items():
        if value < 1 or value != int(value):
            raise file.fail(f"{where}.{key} is {value:g}; it must be a whole number from 1")
    return {key: int(value) for key, value in numbers.items()}


def _check(file: HardwareFile, memory: MemorySystem) -> None:
    g, t = memory.geometry, memory.timing
    if g.row_bytes % g.page_bytes or g.page_bytes % g.burst_bytes:
        raise file.fail(
            f"geometry: rows of {g.row_bytes} B, pages of {g.page_bytes} B and bursts of "
            f"{g.burst_bytes} B; each must be a multiple of the next"
        )
    if t.refi <= t.rfc + t.ras + t.rp:
        raise file.fail(
            f"timing.refi is {t.refi}; refreshing takes {t.rfc} cycles, leave time between"
        )
    if memory.near.packets_in_flight < 1:
        raise file.fail(
            f"near.poolings_per_packet is {memory.near.poolings_per_packet}; there are "
            f"{memory.near.tags} tags, use as many at most"
        )
    if t.clock_period_s <= 0 or t.queue < 1:
        raise file.fail("timing.clock_period and timing.queue must be above zero")
