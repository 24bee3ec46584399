"""DRAM with units in its ranks, by the numbers of RecNMP's specification."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dram import Request, host_log, near_log, violations
from hypothesis import given, settings
from hypothesis import strategies as st

from cofit.core import ConfigError, FileError, numpy_generator
from cofit.targets.memory import (
    BITS,
    ENERGY_SETS,
    FIELDS,
    OPCODES,
    Bags,
    Instruction,
    MemorySystem,
    Placement,
    QuantisedTable,
    activate_pj,
    bags_of,
    best_threshold,
    decode,
    encode,
    energy_of,
    hot_lookups,
    lru_hits,
    memory_system,
    pack_address,
    packets,
    place,
    pool,
    rank_hits,
    read_burst_pj,
    read_memory,
    simulate_host,
    simulate_near,
    stack_distances,
    unpack_address,
    zipf_stream,
)
from cofit.targets.memory.system import FILE

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


@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_01_pooling_equals_embedding_bag(coloured: bool, ranks: int) -> None:
    memory = MEMORY.with_ranks(ranks)
    sizes = [5, 0, 80, 1, 0, 33, 17]
    bags = one_table(500, sizes, 1)
    generator = numpy_generator(0, "pool")
    table = generator.standard_normal((500, 16), np.float32)
    weights = generator.standard_normal(bags.lookups, np.float32)
    placement = place((500,), VECTOR, memory, generator, coloured)

    def torch_says(values: np.ndarray, mode: str, scaled: np.ndarray | None) -> np.ndarray:
        return torch.nn.functional.embedding_bag(
            torch.from_numpy(bags.indices), torch.from_numpy(values).double(),
            torch.from_numpy(bags.offsets[:-1]), mode=mode,
            per_sample_weights=None if scaled is None else torch.from_numpy(scaled).double(),
        ).numpy()  # fmt: skip

    def close(found: np.ndarray, expected: np.ndarray) -> None:
        assert found.dtype == np.float32
        scale = np.abs(expected).max()
        assert np.abs(found - expected).max() <= 1e-5 * scale

    close(pool([table], bags, placement), torch_says(table, "sum", None))
    close(pool([table], bags, placement, weights), torch_says(table, "sum", weights))
    close(pool([table], bags, placement, mode="mean"), torch_says(table, "mean", None))
    small = QuantisedTable.of(table)
    assert small.codes.dtype == np.uint8
    assert np.abs(small.floats - table).max() <= small.scale.max() * 0.51
    exact = small.codes.astype(float) * small.scale[:, None] + small.bias[:, None]
    close(pool([small], bags, placement), torch_says(exact, "sum", None))
    close(pool([small], bags, placement, weights), torch_says(exact, "sum", weights))
    assert (pool([table], bags, placement)[[1, 4]] == 0).all()


def test_01_fixed_point_is_exact_over_several_tables() -> None:
    bags = random_bags(0)
    generator = numpy_generator(0, "fixed")
    tables = [generator.integers(-(1 << 40), 1 << 40, (40, 8)) for _ in range(3)]
    weights = generator.integers(-9, 9, bags.lookups)
    placement = place(bags.rows, VECTOR, MEMORY, generator)
    expected = np.zeros((len(bags), 8), np.int64)
    for i, (bag, table) in enumerate(zip(bags.bag, bags.lookup_table, strict=True)):
        expected[bag] += weights[i] * tables[table][bags.indices[i]]
    assert (pool(tables, bags, placement, weights) == expected).all()
    with pytest.raises(ConfigError, match="mode 'mean'"):
        pool(tables, bags, placement, mode="mean")
    with pytest.raises(ConfigError, match="1 weights for 300 lookups"):
        pool(tables, bags, placement, weights[:1])
    with pytest.raises(ConfigError, match="one table each"):
        pool(tables[:2], bags, placement)


def test_01_a_sum_forgets_no_rank() -> None:
    """Each rank's lookups alone give its partial sums; a rank left out changes the result."""
    bags = one_table(4000, [64], 3)
    generator = numpy_generator(1, "ranks")
    table = generator.integers(1, 9, (4000, 4))
    placement = place((4000,), VECTOR, MEMORY, generator)
    rank = placement.locate(bags).rank
    parts = [
        pool([np.where(np.isin(np.arange(4000), bags.indices[rank == r])[:, None], table, 0)],
             bags, placement) for r in range(8)
    ]  # fmt: skip
    assert len(np.unique(rank)) == 8 and all((part != 0).any() for part in parts)
    assert (sum(parts) == pool([table], bags, placement)).all()


@settings(max_examples=60, deadline=None)
@given(
    opcode=st.sampled_from(OPCODES),
    flags=st.tuples(*[st.booleans()] * 4),
    address=st.integers(0, 2**32 - 1),
    bursts=st.integers(1, 8),
    weight=st.floats(width=32, allow_nan=False),
    tag=st.integers(0, 15),
)
def test_02_instructions_are_a_bijection(opcode, flags, address, bursts, weight, tag) -> None:
    made = Instruction(opcode, *flags[:3], address, bursts, weight, flags[3], tag)
    word = encode(made)
    assert 0 <= word < 1 << 79 and decode(word) == made
    assert np.signbit(decode(word).weight) == np.signbit(weight)


def test_02_every_bit_is_used_and_ranges_are_checked() -> None:
    assert sum(FIELDS.values()) == BITS == 79
    plain = Instruction("sum", False, False, False, 0, 1, 0.0, False, 0)
    full = Instruction(OPCODES[-1], True, True, True, 2**32 - 1, 8, -float(2**127), True, 15)
    assert encode(plain) == 0 and encode(full).bit_length() == 79
    words = {word for bit in range(79) if _decodes(word := 1 << bit)}
    assert len({decode(word) for word in words}) == len(words) > 70
    for changed, text in (
        ({"address": 1 << 32}, "address is 4294967296"),
        ({"address": -1}, "address is -1"),
        ({"tag": 16}, "tag is 16"),
        ({"vector_bursts": 9}, "vector_bursts is 9"),
        ({"vector_bursts": 0}, "vector_bursts is 0"),
        ({"weight": 0.1}, "no float32"),
        ({"weight": 1e300}, "no float32"),
        ({"opcode": "max"}, "opcode 'max'"),
    ):
        with pytest.raises(ConfigError, match=text):
            encode(replace(plain, **changed))
    with pytest.raises(ConfigError, match="does not fit 79 bits"):
        decode(1 << 79)
    with pytest.raises(ConfigError, match="opcode 15"):
        decode(15)


def _decodes(word: int) -> bool:
    return word & 15 < len(OPCODES)


def test_02_addresses() -> None:
    g = MEMORY.geometry
    generator = numpy_generator(0, "address")
    for _ in range(200):
        parts = tuple(int(generator.integers(n)) for n in (g.ranks, g.banks, g.rows, 128))
        assert unpack_address(g, pack_address(g, *parts)) == parts
    last = pack_address(g, g.ranks - 1, g.banks - 1, g.rows - 1, 127)
    assert last == g.ranks * g.banks * g.rows * 128 - 1 < 1 << 32
    for parts, text in (
        ((8, 0, 0, 0), "rank 8"),
        ((0, 16, 0, 0), "bank 16"),
        ((0, 0, -1, 0), "row -1"),
    ):
        with pytest.raises(ConfigError, match=text):
            pack_address(g, *parts)
    with pytest.raises(ConfigError, match="beyond the memory"):
        unpack_address(g, last + 1)
    with pytest.raises(ConfigError, match="addresses have 32 bits"):
        pack_address(replace(g, rows=1 << 22), 0, 0, 0, 0)


def test_03_single_lookup_hit_and_conflict() -> None:
    """17 + 17 + 4 cycles of a closed row, 17 + 4 of an open one, 17 more of another row."""
    alone = [(0, 0, 5)]
    assert simulate_host(*at_places(alone)).cycles == 38
    one = MEMORY.with_ranks(1)
    near = simulate_near(*at_places(alone, one))
    assert near.cycles == 38 + one.near.pipeline + 4  # one sum comes back
    slow = replace(MEMORY, timing=replace(MEMORY.timing, queue=1))
    hit = simulate_host(*at_places([(0, 0, 5), (0, 0, 5)], slow), log=True)
    assert hit.log[:, 1].tolist() == [1, 0, 0] and hit.activates == 1
    second = hit.log[2, 0]  # with the bus free, 21 cycles from the read to the last operand
    assert hit.cycles - second == 21 and second == 17 + 6
    conflict = simulate_host(*at_places([(0, 0, 5), (0, 0, 6)], slow), log=True)
    assert conflict.log[:, 1].tolist() == [1, 0, 2, 1, 0]
    precharge = conflict.log[2, 0]
    assert precharge == 39  # tRAS, for tRTP is over before
    assert conflict.cycles - precharge == 17 + 17 + 21 == 55


def test_03_fifth_activate_waits_for_faw() -> None:
    banks = [(0, 4 * i % 16 + i // 4, 1) for i in range(5)]  # other groups first
    run = simulate_host(*at_places(banks), log=True)
    activates = run.log[run.log[:, 1] == 1, 0]
    assert activates.tolist() == [0, 4, 8, 12, 26]
    same_group = simulate_host(*at_places([(0, i, 1) for i in range(3)]), log=True)
    assert same_group.log[same_group.log[:, 1] == 1, 0].tolist() == [0, 6, 12]
    apart = simulate_host(*at_places([(i, 0, 1) for i in range(5)]), log=True)
    assert apart.log[apart.log[:, 1] == 1, 0].tolist() == [0, 1, 2, 3, 4]
    assert apart.log[apart.log[:, 1] == 0, 0].tolist() == [17, 22, 27, 32, 37]  # tRTRS


@pytest.mark.parametrize("near", [False, True])
def test_04_no_timing_violation_in_100k_lookups(near: bool) -> None:
    generator = numpy_generator(4, "violations")
    rows = (200_000,)
    bags = bags_of([zipf_stream(rows[0], 0.6, 100_000, generator)], rows, 80, 64)
    placement = place(rows, 128, MEMORY, generator)
    simulate = simulate_near if near else simulate_host
    run = simulate(packets(bags, 8), placement, log=True)
    assert run.bursts == 2 * bags.lookups == (run.log[:, 1] == 0).sum()
    assert (run.log[:, 1] == 1).sum() == run.activates
    assert (run.log[:, 1] == 3).sum() == run.refreshes
    expected = run.cycles // MEMORY.timing.refi * 8
    assert abs(run.refreshes - expected) <= 8  # none is left out
    assert violations(run.log, MEMORY, one_bus=not near) == []


def test_04_the_checker_sees_every_rule_broken() -> None:
    spread = [(0, b % 16, b // 16 % 3) for b in range(200)]
    one_group = [(0, b % 4, b // 4 % 3) for b in range(50)]
    logs = [simulate_host(*at_places(places), log=True).log for places in (spread, one_group)]
    assert all(violations(log, MEMORY, one_bus=True) == [] for log in logs)
    t = MEMORY.timing
    seen: set[str] = set()
    for name in ("rcd", "rp", "ras", "rrd_s", "rrd_l", "ccd_s", "ccd_l", "faw", "rtp", "burst"):
        stricter = replace(MEMORY, timing=replace(t, **{name: getattr(t, name) + 1}))
        found = [text for log in logs for text in violations(log, stricter, one_bus=True)]
        assert found, name
        seen |= {text.split(" at ")[0] for text in found}
    assert {"tRCD", "tRAS", "tRRD_S", "tCCD_S", "tCCD_L", "tFAW"} <= seen


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("near", [False, True])
def test_04_events_equal_a_simulation_of_every_cycle(seed: int, near: bool) -> None:
    """Command by command, with refreshes, caches, short queues, and packets in flight."""
    generator = numpy_generator(seed, "oracle")
    queue, ranks = (1, 4, 32)[seed % 3], (1, 2, 4)[seed % 3]
    timing = replace(MEMORY.timing, queue=queue, refi=300, rfc=40)
    memory = replace(MEMORY.with_ranks(ranks), timing=timing)
    memory = replace(memory, near=replace(memory.near, poolings_per_packet=(8, 4, 16)[seed % 3]))
    vector = (64, 64, 128, 256)[seed % 4]
    bags = one_table(6000, generator.integers(0, 9, 90).tolist(), seed)
    placement = place((6000,), vector, memory, generator)
    crowded = placement.frames[0] % (ranks * 3) + ranks * 16 * generator.integers(
        4, size=len(placement.frames[0])
    )  # three banks and few rows, so that rows are hit and change
    placement = Placement(memory, vector, (crowded,))
    order = packets(bags, memory.near.poolings_per_packet)
    hits = generator.random(bags.lookups) < 0.2
    simulate = simulate_near if near else simulate_host
    run = simulate(order, placement, hits, log=True)
    wanted = requests_of(order, placement, hits, near)
    if near:
        cycles, log = near_log(wanted, memory, placement.bursts, np.diff(order.starts).tolist())
    else:
        cycles, log = host_log([request for packet in wanted for request in packet], memory)
    assert run.refreshes > 0 and run.hits == hits.sum()
    assert sorted(map(tuple, log.tolist())) == sorted(map(tuple, run.log.tolist()))
    assert run.cycles == cycles


@pytest.mark.parametrize("vector", [64, 128])
def test_05_balanced_scaling_and_the_bus_bound(vector: int) -> None:
    found = {}
    count = 80 * 8 * 60
    for ranks in (1, 8):
        memory = MEMORY.with_ranks(ranks)
        generator = numpy_generator(5, "scaling", ranks)
        pages = 16_000
        per_page = memory.geometry.page_bytes // vector
        drawn = place((pages * per_page,), vector, memory, generator).frames[0]
        frames = drawn // ranks * ranks + np.arange(pages) % ranks
        placement = Placement(memory, vector, (frames,))
        page = generator.integers(pages // ranks, size=count) * ranks + np.arange(count) % ranks
        stream = page * per_page + generator.integers(per_page, size=count)
        bags = bags_of([stream], [pages * per_page], 80, 64)
        order = packets(bags, 8)
        found[ranks] = simulate_near(order, placement).cycles
        host = simulate_host(order, placement)
        assert host.cycles >= host.bursts * 4  # the bus
    assert 0.95 * 8 <= found[1] / found[8] <= 1.05 * 8
    faw = MEMORY.timing.faw / 4
    assert found[1] / count >= max(faw, 4 * vector / 64)


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


def test_09_energy_is_counts_times_table() -> None:
    generator = numpy_generator(9, "energy")
    bags = one_table(5000, [80] * 16, 9)
    placement = place((5000,), 128, MEMORY, generator)
    order = packets(bags, 8)
    hits = lru_hits(order.bags.ids, 200)
    near, host = simulate_near(order, placement, hits), simulate_host(order, placement, hits)
    assert near.bursts == host.bursts == 2 * (bags.lookups - hits.sum())
    assert near.bursts_returned == 16 * 4 * 2 and host.bursts_returned == host.bursts
    for name in ENERGY_SETS:
        e = MEMORY.energy(name)
        for run in (near, host):
            found = energy_of(run, placement, e, weighted=True)
            assert found.activate_pj == run.activates * e.activate_pj
            assert found.read_pj == run.bursts * 512 * e.read_pj_per_bit
            assert found.io_pj == run.bursts_returned * 512 * 22
            assert found.cache_pj == bags.lookups * 2 * 50
            assert found.arithmetic_pj == pytest.approx(bags.lookups * 32 * (7.89 + 25.2))
            parts = (found.activate_pj, found.read_pj, found.io_pj, found.cache_pj)
            assert found.total_pj == pytest.approx(sum(parts) + found.arithmetic_pj, rel=1e-12)
    assert activate_pj(MEMORY) == pytest.approx(3450, rel=0.005)
    assert read_burst_pj(MEMORY) == pytest.approx(2930, rel=0.005)
    with pytest.raises(ConfigError, match="known: paper_recall, dramsim3"):
        MEMORY.energy("best")


def test_09_random_lookups_cost_what_the_specification_derives() -> None:
    generator = numpy_generator(10, "derived")
    bags = one_table(1_000_000, [80] * 256, 10)
    placement = place((1_000_000,), VECTOR, MEMORY, generator)
    order = packets(bags, 8)
    e = MEMORY.energy("paper_recall")
    host = energy_of(simulate_host(order, placement), placement, e)
    near = energy_of(simulate_near(order, placement), placement, e)
    without_adds = (host.total_pj - host.arithmetic_pj) / bags.lookups
    assert without_adds == pytest.approx(20_500, rel=0.01)
    assert near.total_pj / bags.lookups == pytest.approx(10_000, rel=0.01)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[near]", "[near]\nranks = 1", "unknown key near.ranks; known: cache, instructions"),
        ("rows = { value", "lines = { value", "unknown key geometry.lines"),
        ("cl = { value", "al = { value", "unknown key timing.al"),
        ("[current]\nvdd = { value", "[current]\nidd0 = { value", "is not TOML"),
        ('faw = { value = 26, unit = "cycle",', "faw = { value = 26,", "faw.unit is missing"),
        (', unit = "nJ", source = "recnmp"', ', unit = "nJ"', "activate.source is missing"),
        ('value = 2.1, unit = "nJ"', 'value = 2.1, unit = "W"', "unit is 'W'; known: pJ, nJ"),
        ("value = 48, unit", 'value = "48", unit', "idd0.value is '48'"),
        ('source = "jedec"', 'source = "intel"', "source is 'intel'; known: dramsim3, jedec"),
        ('kind = "chosen"', 'kind = "felt"', "source.ours.kind is 'felt'; known: published"),
        ("refi = { value = 9360", "refi = { value = 400", "timing.refi is 400"),
        ("value = 4, unit = \"KiB\"", "value = 3, unit = \"KiB\"", "each must be a multiple"),
        ("dimms = { value = 4", "dimms = { value = 0", "geometry.dimms is 0"),
        ("poolings_per_packet = { value = 8", "poolings_per_packet = { value = 17", "16 tags"),
        ("[energy.paper_recall]", "[energy.other]", "unknown key energy.other"),
        ("[near]", "[near", "is not TOML"),
    ],
)  # fmt: skip
def test_bad_memory_files_are_named(tmp_path: Path, old: str, new: str, text: str) -> None:
    content = FILE.read_text(encoding="utf-8")
    assert old in content
    path = tmp_path / "mine.toml"
    path.write_text(content.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=text) as error:
        read_memory(path)
    assert str(error.value).startswith("mine.toml") and "\n" not in str(error.value)


def test_the_shipped_file_and_absent_ones(tmp_path: Path) -> None:
    assert read_memory(FILE) == MEMORY
    assert {"published", "recalled", "chosen"} <= set(MEMORY.facts)
    with pytest.raises(FileError, match="cannot read the memory"):
        read_memory(tmp_path / "none.toml")


def test_bad_bags_and_placements_are_refused() -> None:
    zeros = np.zeros(1, int)
    for offsets, indices, text in (
        ([0, 2], [1, 9], "lookup 1 asks for row 9 of a table of 4 rows"),
        ([0, 1], [1, 2], "offsets must rise to 2"),
        ([0], [1], "1 bags, 1 batches and 1 offsets"),
    ):
        with pytest.raises(ConfigError, match=text):
            Bags((4,), zeros, zeros, np.array(offsets), np.array(indices))
    with pytest.raises(ConfigError, match="from 0 to 0"):
        Bags((4,), zeros + 1, zeros, np.array([0, 1]), np.array([1]))
    with pytest.raises(ConfigError, match="choose a smaller pooling"):
        bags_of([np.arange(3)], [4], 8, 1)
    generator = numpy_generator(0, "bad")
    for vector in (0, 48, 6, 8192):
        with pytest.raises(ConfigError, match=f"vectors of {vector} B"):
            place((4,), vector, MEMORY, generator)
    with pytest.raises(ConfigError, match="do not fit"):
        place((1 << 33,), 64, MEMORY, generator)
    with pytest.raises(ConfigError, match="or no page colouring"):
        place((1 << 29,), 64, MEMORY, generator, coloured=True)
    with pytest.raises(ConfigError, match="3 ranks; give 1 or a multiple of 2"):
        MEMORY.with_ranks(3)


def test_placement_is_one_to_one_and_colours_keep_tables_apart() -> None:
    generator = numpy_generator(0, "placement")
    rows = (1000, 130, 64)
    for coloured in (False, True):
        placement = place(rows, 128, MEMORY, generator, coloured)
        every = Bags(
            rows, np.arange(3), np.zeros(3, int), np.concatenate([[0], np.cumsum(rows)]),
            np.concatenate([np.arange(n) for n in rows]),
        )  # fmt: skip
        where = placement.locate(every)
        parts = np.stack([where.rank, where.bank, where.row, where.column // 2], 1)
        assert len(np.unique(parts, axis=0)) == sum(rows) and (where.column % 2 == 0).all()
        ranks = [set(where.rank[every.lookup_table == t].tolist()) for t in range(3)]
        assert ranks == [{0}, {1}, {2}] if coloured else len(ranks[0]) > 3


def test_hot_rows_of_zipf_are_no_neighbours() -> None:
    stream = zipf_stream(10_000, 1.05, 50_000, numpy_generator(0, "zipf"))
    hot = np.argsort(np.bincount(stream, minlength=10_000))[-20:]
    assert np.abs(np.diff(np.sort(hot))).min() >= 1 and np.ptp(hot) > 5000
    counts = np.sort(np.bincount(stream, minlength=10_000))[::-1]
    weights = np.arange(1, 10_001) ** -1.05
    expected = 50_000 * weights / weights.sum()
    assert counts[:5] == pytest.approx(expected[:5], rel=0.1)
