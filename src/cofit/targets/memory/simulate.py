"""Lookups through DRAM, cycle by cycle: by a host over one bus, or by a unit in every rank."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError
from cofit.targets.memory.locality import Flags
from cofit.targets.memory.native import Record, Requests, at, library
from cofit.targets.memory.placement import Location, Placement
from cofit.targets.memory.schedule import Packets
from cofit.targets.memory.system import MemorySystem, Timing

COMMANDS = ("read", "activate", "precharge", "refresh", "precharge all")
"""By their number in a log."""

_MOST = {"ranks": 64, "banks": 64, "bank_groups": 16}
_MOST_QUEUE = 256


@dataclass(frozen=True, eq=False)
class Run:
    """What a simulation counted.

    Attributes:
        cycles: from the first request to the last sum.
        lookups: of all bags.
        hits: lookups that a cache answered.
        activates: rows opened.
        bursts: read from DRAM.
        refreshes: of ranks.
        bursts_returned: over the channel: operands for a host, sums of the units.
        cache_accesses: lookups that went through a cache, hit or not.
        imbalance: lookups in DRAM of the fullest rank of a packet over the mean of its ranks, mean
            over packets; 1 for a host.
        log: (C, 5) cycle, command (index of `COMMANDS`), rank, bank, row; empty unless asked for.
    """

    cycles: int
    lookups: int
    hits: int
    activates: int
    bursts: int
    refreshes: int
    bursts_returned: int
    cache_accesses: int
    imbalance: float
    log: NDArray[np.int64]

    @property
    def hit_rate(self) -> float:
        """Share of lookups that a cache answered."""
        return self.hits / max(self.lookups, 1)


def simulate_host(
    packets: Packets,
    placement: Placement,
    hits: Flags | None = None,
    cached: Flags | None = None,
    log: bool = False,
) -> Run:
    """A host that fetches every operand over the bus of its channel.

    All requests are known at once and one enters the controller per cycle; a hit of the host's
    cache takes a cycle per burst.

    Args:
        packets: in the order in which they are sent.
        placement: of the tables.
        hits: (L,) lookups that its cache answers; none by default.
        cached: (L,) lookups that go through its cache; all if `hits` are given.
        log: whether to keep all commands.
    """
    location = placement.locate(packets.bags)
    lookups = packets.bags.lookups
    hit, through = _flags(hits, cached, lookups)
    record, kept = _record(lookups, placement.bursts, log)
    requests = _Arrays(location.rank, location, placement.bursts, hit)
    channel = ctypes.create_string_buffer(library().cofit_channel_bytes())
    timing = _timing(placement.memory)
    done = np.empty(lookups, np.int64)
    cycles = library().cofit_host(
        at(timing), channel, lookups, ctypes.byref(requests.struct), at(done), ctypes.byref(record)
    )
    return Run(
        cycles, lookups, int(hit.sum()), record.activates, record.reads, record.refreshes,
        record.reads, through, 1.0, _kept(kept, record),
    )  # fmt: skip


def simulate_near(
    packets: Packets,
    placement: Placement,
    hits: Flags | None = None,
    cached: Flags | None = None,
    log: bool = False,
) -> Run:
    """Units in every rank that fetch and add; the host reads one sum per bag and DIMM.

    A packet is done when its slowest rank is; the channel then carries its sums, and after them
    the instructions of the packet that gets its tags. As many packets are at work as tags allow,
    and all ranks refresh at the same time.

    Args:
        packets: in the order in which they are sent.
        placement: of the tables.
        hits: (L,) lookups that the ranks' caches answer; none by default.
        cached: (L,) lookups that go through a cache; all if `hits` are given.
        log: whether to keep all commands.
    """
    memory, bags = placement.memory, packets.bags
    ranks = memory.geometry.ranks
    location = placement.locate(bags)
    hit, through = _flags(hits, cached, bags.lookups)
    packet = np.repeat(np.arange(len(packets)), np.diff(bags.offsets[packets.starts]))
    key = location.rank * (len(packets) + 1) + packet
    order = np.argsort(key, kind="stable")
    starts = np.searchsorted(key[order], np.arange(ranks * (len(packets) + 1)))
    place = (np.arange(bags.lookups) - bags.offsets[packets.starts][packet])[order]
    sums = np.diff(packets.starts) * memory.geometry.dimms * placement.bursts
    readback = sums * memory.timing.burst
    record, kept = _record(bags.lookups, placement.bursts, log)
    sorted_ = Location(*(getattr(location, f.name)[order] for f in fields(Location)))
    requests = _Arrays(np.zeros_like(sorted_.rank), sorted_, placement.bursts, hit[order])
    channels = ctypes.create_string_buffer(ranks * library().cofit_channel_bytes())
    arrival, done = np.empty(bags.lookups, np.int64), np.empty(bags.lookups, np.int64)
    timing = _timing(memory)
    near = memory.near
    cycles = library().cofit_near(
        at(timing), channels, len(packets), at(starts), ctypes.byref(requests.struct), at(place),
        at(readback), near.instructions_per_cycle, near.pipeline, near.packets_in_flight,
        at(arrival), at(done), ctypes.byref(record),
    )  # fmt: skip
    return Run(
        cycles, bags.lookups, int(hit.sum()), record.activates, record.reads, record.refreshes,
        int(sums.sum()), through, _imbalance(packet[~hit], location.rank[~hit], ranks),
        _kept(kept, record),
    )  # fmt: skip


def _imbalance(packet: NDArray[np.int64], rank: NDArray[np.int32], ranks: int) -> float:
    if not len(packet):
        return 1.0
    load = np.bincount(packet * ranks + rank, minlength=(int(packet[-1]) + 1) * ranks)
    by_packet = load.reshape(-1, ranks)
    by_packet = by_packet[by_packet.any(1)]
    return float((by_packet.max(1) / by_packet.mean(1)).mean())


class _Arrays:
    """Requests as the library takes them; keeps the arrays alive."""

    def __init__(
        self, rank: NDArray[np.int32], location: Location, bursts: int, hit: Flags
    ) -> None:
        count = len(rank)
        self._arrays: dict[str, NDArray[np.generic]] = {
            "rank": np.ascontiguousarray(rank),
            "bank": np.ascontiguousarray(location.bank),
            "row": np.ascontiguousarray(location.row),
            "bursts": np.full(count, bursts, np.int32),
            "hit": np.ascontiguousarray(hit, np.uint8),
        }
        self.struct = Requests(**{name: at(array) for name, array in self._arrays.items()})


def _timing(memory: MemorySystem) -> NDArray[np.int64]:
    g = memory.geometry
    for name, most in _MOST.items():
        if getattr(g, name) > most:
            raise ConfigError(f"{memory.name}: {getattr(g, name)} {name}; at most {most}")
    if memory.timing.queue > _MOST_QUEUE:
        raise ConfigError(f"{memory.name}: a queue of {memory.timing.queue}; at most {_MOST_QUEUE}")
    names = [f.name for f in fields(Timing) if f.name not in ("clock_period_s", "queue")]
    values = [getattr(memory.timing, name) for name in (*names, "queue")]
    return np.array([*values, g.ranks, g.bank_groups, g.banks_per_group], np.int64)


def _flags(hits: Flags | None, cached: Flags | None, lookups: int) -> tuple[Flags, int]:
    """Hits, and how many lookups went through a cache."""
    hit = np.zeros(lookups, bool) if hits is None else hits
    if hits is None:
        return hit, 0
    return hit, lookups if cached is None else int(cached.sum())


def _record(lookups: int, bursts: int, log: bool) -> tuple[Record, NDArray[np.int64]]:
    kept = np.empty((lookups * (bursts + 4) + 1000 if log else 0, 5), np.int64)
    return Record(0, 0, 0, at(kept) if log else None, 0, len(kept)), kept


def _kept(kept: NDArray[np.int64], record: Record) -> NDArray[np.int64]:
    log = kept[: record.logged]
    assert not len(kept) or record.logged < len(kept)
    return log[np.argsort(log[:, 0], kind="stable")]
