"""One memory for several models, and where their tables lie in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cofit.core import numpy_generator
from cofit.reproductions.recnmp import traces
from cofit.reproductions.recnmp.arms import ALL, ARMS, every_arm
from cofit.targets.memory import (
    Bags,
    MemorySystem,
    Run,
    packets,
    place,
    rank_hits,
    simulate_near,
)

MODELS = (1, 2, 4, 8)
"""Models that share the memory; one table each."""

ALPHA = 0.9


def together(
    rows: int, lookups: int, pooling: int, batch: int, vector: int, memory: MemorySystem, seed: int
) -> dict[str, Any]:
    """Cycles per lookup and hit rate of the caches of all arms, by models side by side.

    Every model asks as much of its table as it does alone, so that `n` of them ask `n` times as
    much of the same ranks, bus and caches.
    """
    found: dict[str, Any] = {"models": list(MODELS), **{arm: [] for arm in ARMS}, "hits": []}
    for count in MODELS:
        bags = traces.zipf(ALPHA, count, rows, lookups, pooling, batch, seed)
        case = every_arm(bags, vector, memory, seed)
        for arm in ARMS:
            found[arm].append(case[arm]["cycles"])
        found["hits"].append(case[ALL]["hit_rate"])
    return found


def throughput_gains(
    alone_s: float, rest_s: float, speedups: Sequence[float], models: Sequence[int] = MODELS
) -> list[float]:
    """Throughput with near memory over that without, of several models that share it (Amdahl).

    Every model has a core for its MLPs, `rest_s` per batch; its pooling, `alone_s` by itself, waits
    for that of the others, on a saturated memory `n` times as long.

    Args:
        alone_s: pooling of one model by itself.
        rest_s: all else.
        speedups: of pooling, by number of models.
        models: their numbers.
    """
    return [
        (rest_s + n * alone_s) / (rest_s + n * alone_s / gain)
        for n, gain in zip(models, speedups, strict=True)
    ]


def colours(bags: Bags, vector: int, memory: MemorySystem, seed: int) -> dict[str, Any]:
    """Pages on random frames against a rank per table (page colouring), with and without caches.

    A packet is of one table, so that a colour puts all of it in one rank: the other ranks work on
    it not at all, and only as many of them work at a time as packets are in flight.
    """
    found: dict[str, Any] = {"ranks used": {}, "plain": {}, "cache": {}}
    sent = packets(bags, memory.near.poolings_per_packet)
    for name, coloured in (("random pages", False), ("a rank per table", True)):
        generator = numpy_generator(seed, "recnmp", "colours")
        placement = place(bags.rows, vector, memory, generator, coloured)
        rank = placement.locate(sent.bags).rank
        hits = rank_hits(sent.bags.ids, rank, memory.near.cache_bytes // vector, None)
        found["ranks used"][name] = len(set(rank.tolist()))
        found["plain"][name] = _counts(simulate_near(sent, placement))
        found["cache"][name] = _counts(simulate_near(sent, placement, hits))
    return found


def _counts(run: Run) -> dict[str, float]:
    return {
        "cycles": run.cycles / run.lookups,
        "hit_rate": run.hit_rate,
        "imbalance": run.imbalance,
    }
