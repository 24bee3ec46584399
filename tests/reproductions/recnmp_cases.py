"""Bags and places that the tests of RecNMP share."""

from __future__ import annotations

import numpy as np
from dram import Request

from cofit.core import numpy_generator
from cofit.targets.memory import (
    Bags,
    MemorySystem,
    Placement,
    bags_of,
    memory_system,
    packets,
)

MEMORY = memory_system()


VECTOR = 64


def one_table(rows: int, sizes: list[int], seed: int) -> Bags:
    generator = numpy_generator(seed, "bags")
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Bags(
        (rows,), np.zeros(len(sizes), int), np.zeros(len(sizes), int), offsets,
        generator.integers(rows, size=offsets[-1]),
    )  # fmt: skip


def random_bags(seed: int, lookups: int = 300, tables: int = 3, rows: int = 40) -> Bags:
    generator = numpy_generator(seed, "several")
    streams = [generator.integers(rows, size=lookups // tables) for _ in range(tables)]
    return bags_of(streams, [rows] * tables, 5, 4)


def frames_at(rank: int, bank: int, row: int, half: int = 0, memory: MemorySystem = MEMORY) -> int:
    g = memory.geometry
    return ((row * g.pages_per_row + half) * g.banks + bank) * g.ranks + rank


def at_places(places: list[tuple[int, int, int]], memory: MemorySystem = MEMORY) -> tuple:
    """One lookup per (rank, bank, row), each on a page of its own, in order."""
    frames = np.array([frames_at(*where, memory=memory) for where in places])
    per_page = memory.geometry.page_bytes // VECTOR
    bags = Bags(
        (len(places) * per_page,), np.zeros(1, int), np.zeros(1, int),
        np.array([0, len(places)]), np.arange(len(places)) * per_page,
    )  # fmt: skip
    return packets(bags, 8), Placement(memory, VECTOR, (frames,))


def requests_of(order, placement, hits: np.ndarray, arrivals: bool) -> list[list[Request]]:
    where = placement.locate(order.bags)
    found = []
    for first, last in zip(
        order.bags.offsets[order.starts[:-1]], order.bags.offsets[order.starts[1:]], strict=True
    ):
        found.append([
            Request(i, 0, int(where.rank[i]), int(where.bank[i]), int(where.row[i]),
                    placement.bursts, bool(hits[i]))
            for i in range(first, last)
        ])  # fmt: skip
    return found
