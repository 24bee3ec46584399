"""One trace through every arrangement: host, host with a cache, units in ranks, their additions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from cofit.core import numpy_generator
from cofit.targets.memory import (
    ENERGY_SETS,
    Bags,
    MemorySystem,
    Order,
    Packets,
    Placement,
    Run,
    best_threshold,
    energy_of,
    hot_lookups,
    lru_hits,
    packets,
    place,
    rank_hits,
    simulate_host,
    simulate_near,
)

HELD_OUT = 4
"""Batches of which one is for choosing a threshold; the others are judged."""

ARMS = (
    "host", "host, cache", "host, cache, table-aware", "2 ranks", "4 ranks", "8 ranks", "cache",
    "profile", "table-aware",
)  # fmt: skip
FAIR = "host, cache, table-aware"
"""The host with the units' caches and order."""

ORDERS: tuple[Order, ...] = ("interleaved", "table-aware")
ALL = "table-aware"
"""8 ranks with cache, profile and table-aware order."""


def every_arm(bags: Bags, vector_bytes: int, memory: MemorySystem, seed: int) -> dict[str, Any]:
    """Cycles, hits and energies of all arms on the batches that are judged.

    A threshold of the profile is chosen for each order on every fourth batch, and those are not
    judged; a single batch serves both.
    """
    judged, held_out = parts(bags)
    placement = _placed(bags, vector_bytes, memory, seed)
    size = memory.near.poolings_per_packet
    plain, aware = packets(judged, size), packets(judged, size, "table-aware")
    lines = memory.near.cache_bytes // vector_bytes
    thresholds = []
    for order in ORDERS:
        probe = packets(held_out, size, order).bags
        thresholds.append(best_threshold(probe, placement.locate(probe).rank, lines))
    found: dict[str, Any] = {"thresholds": thresholds}

    def keep(name: str, run: Run, where: Placement) -> None:
        found[name] = _counts(run, where)

    keep("host", simulate_host(plain, placement), placement)
    for name, sent in (("host, cache", plain), (FAIR, aware)):
        hits = lru_hits(sent.bags.ids, lines * memory.geometry.ranks)
        keep(name, simulate_host(sent, placement, hits), placement)
    for ranks in (2, 4):
        fewer = _placed(bags, vector_bytes, memory.with_ranks(ranks), seed)
        keep(f"{ranks} ranks", simulate_near(plain, fewer), fewer)
    keep("8 ranks", simulate_near(plain, placement), placement)
    keep("cache", _cached(plain, placement, lines, 1), placement)
    keep("profile", _cached(plain, placement, lines, thresholds[0]), placement)
    keep(ALL, _cached(aware, placement, lines, thresholds[1]), placement)
    return found


def parts(bags: Bags) -> tuple[Bags, Bags]:
    """Batches that are judged, and those that a threshold is chosen on."""
    chosen = bags.batch % HELD_OUT == 0
    if chosen.all():
        return bags, bags
    return bags.take(np.flatnonzero(~chosen)), bags.take(np.flatnonzero(chosen))


def _placed(bags: Bags, vector_bytes: int, memory: MemorySystem, seed: int) -> Placement:
    generator = numpy_generator(seed, "recnmp", "placement", vector_bytes)
    return place(bags.rows, vector_bytes, memory, generator)


def _cached(order: Packets, placement: Placement, lines: int, threshold: int) -> Run:
    hot = hot_lookups(order.bags, threshold)
    hits = rank_hits(order.bags.ids, placement.locate(order.bags).rank, lines, hot)
    return simulate_near(order, placement, hits, hot)


def _counts(run: Run, placement: Placement) -> dict[str, Any]:
    memory = placement.memory
    energies = {
        name: asdict(energy_of(run, placement, memory.energy(name))) for name in ENERGY_SETS
    }
    totals = {name: sum(parts.values()) / run.lookups for name, parts in energies.items()}
    return {
        "cycles": run.cycles / run.lookups,
        "hit_rate": run.hit_rate,
        "activates": run.activates / run.lookups,
        "imbalance": run.imbalance,
        "energy_pj": totals,
    }
