"""Caches, profiles and orders of RecNMP: checks 6 to 8."""

from __future__ import annotations

import itertools
from collections import OrderedDict

import numpy as np
import pytest
from recnmp_cases import MEMORY, VECTOR, random_bags

from cofit.core import ConfigError, numpy_generator
from cofit.targets.memory import (
    Bags,
    bags_of,
    best_threshold,
    hot_lookups,
    lru_hits,
    packets,
    place,
    pool,
    rank_hits,
    simulate_near,
    stack_distances,
    zipf_stream,
)


def brute_lru(ids: np.ndarray, lines: int, allowed: np.ndarray) -> np.ndarray:
    kept: OrderedDict[int, None] = OrderedDict()
    hits = np.zeros(len(ids), bool)
    for i, (row, goes) in enumerate(zip(ids.tolist(), allowed.tolist(), strict=True)):
        if not goes:
            continue
        hits[i] = row in kept
        kept[row] = None
        kept.move_to_end(row)
        if len(kept) > lines:
            kept.popitem(last=False)
    return hits


def test_06_hits_equal_a_brute_force_lru_for_every_size() -> None:
    generator = numpy_generator(6, "lru")
    ids = zipf_stream(300, 0.9, 4000, generator)
    allowed = generator.random(len(ids)) < 0.7
    distance = stack_distances(ids)
    everywhere = np.ones(len(ids), bool)
    for lines in (1, 2, 7, 50, 299, 300, 1000):
        assert (lru_hits(ids, lines) == brute_lru(ids, lines, everywhere)).all()
        assert (lru_hits(ids, lines, allowed) == brute_lru(ids, lines, allowed)).all()
        histogram = np.bincount(distance[distance >= 0], minlength=lines)
        assert histogram[:lines].sum() == lru_hits(ids, lines).sum()
    assert (distance < 0).sum() == len(np.unique(ids))
    rank = (ids % 4).astype(np.int32)
    expected = np.zeros(len(ids), bool)
    for r in range(4):
        expected[rank == r] = brute_lru(ids[rank == r], 9, allowed[rank == r])
    assert (rank_hits(ids, rank, 9, allowed) == expected).all()


def test_06_bypassed_entries_never_allocate() -> None:
    ids = np.array([1, 1, 2, 3, 2, 1])
    allowed = np.array([True, False, False, True, True, True])
    assert lru_hits(ids, 2, allowed).tolist() == [False, False, False, False, False, False]
    assert lru_hits(ids, 3, allowed).tolist() == [False, False, False, False, False, True]


def test_07_uniform_lookups_hit_by_chance_only() -> None:
    rows = 1_000_000
    generator = numpy_generator(7, "uniform")
    bags = bags_of([generator.integers(rows, size=200_000)], [rows], 80, 256)
    lines = 8 * MEMORY.near.cache_bytes // VECTOR
    share = lines / rows
    assert lru_hits(bags.ids, lines).mean() <= share + 0.01
    placement = place((rows,), VECTOR, MEMORY, generator)
    order = packets(bags, 8, "table-aware")
    rank = placement.locate(order.bags).rank
    plain = simulate_near(order, placement).cycles
    for threshold in (1, 2, 4):
        hot = hot_lookups(order.bags, threshold)
        hits = rank_hits(order.bags.ids, rank, lines // 8, hot)
        assert hits.mean() <= share + 0.01
        assert simulate_near(order, placement, hits, hot).cycles >= plain * (1 - share - 0.02)


def test_08_locality_bits_beat_plain_lru_on_zipf() -> None:
    """A cache of 128 KB; the threshold is chosen on another trace; mean of 5 seeds."""
    rows, lines = (1_000_000,), MEMORY.near.cache_bytes // VECTOR
    gains = []
    for seed in range(5):
        streams = zipf_stream(rows[0], 0.9, 100_000, numpy_generator(seed, "zipf"))
        bags = bags_of([streams], rows, 80, 256)
        chosen, judged = (bags.take(np.flatnonzero(bags.batch % 2 == part)) for part in (0, 1))
        threshold = best_threshold(chosen, np.zeros(chosen.lookups, np.int32), lines)
        assert threshold >= 2
        with_bits = lru_hits(judged.ids, lines, hot_lookups(judged, threshold)).mean()
        gains.append(with_bits - lru_hits(judged.ids, lines).mean())
    assert np.mean(gains) > 0.03


def test_08_profile_counts_rows_within_their_batch() -> None:
    bags = Bags(
        (5, 5), np.array([0, 1, 0]), np.array([0, 0, 1]), np.array([0, 3, 5, 7]),
        np.array([1, 1, 2, 1, 1, 1, 2]),
    )  # fmt: skip
    assert hot_lookups(bags, 2).tolist() == [True, True, False, True, True, False, False]
    assert not hot_lookups(bags, 3).any() and hot_lookups(bags, 1).all()


@pytest.mark.parametrize("size", [1, 3, 8])
def test_08_order_never_changes_results(size: int) -> None:
    bags = random_bags(8)
    generator = numpy_generator(8, "order")
    tables = [generator.standard_normal((40, 16), np.float32) for _ in range(3)]
    placement = place(bags.rows, VECTOR, MEMORY, generator)
    expected = pool(tables, bags, placement)
    seen = []
    for order in ("interleaved", "table-aware"):
        cut = packets(bags, size, order)
        assert sorted(cut.source.tolist()) == list(range(len(bags)))
        found = pool(tables, cut.bags, placement)
        assert (found == expected[cut.source]).all()
        each = [
            {(int(cut.bags.table[b]), int(cut.bags.batch[b])) for b in range(first, last)}
            for first, last in zip(cut.starts[:-1], cut.starts[1:], strict=True)
        ]
        assert all(len(group) == 1 for group in each)  # one table and batch per packet
        assert np.diff(cut.starts).max() <= size and len(cut) == len(cut.starts) - 1
        tables_in_turn = [next(iter(group))[0] for group in each]
        seen.append(sum(a != b for a, b in itertools.pairwise(tables_in_turn)))
    assert seen[1] <= seen[0]
    assert size > 1 or seen[1] < seen[0]
    with pytest.raises(ConfigError, match="interleaved or table-aware"):
        packets(bags, size, "fair")  # type: ignore[arg-type]
