"""DRAM timing of RecNMP, against rules, cycles by hand and every-cycle controllers: 3 to 5."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dram import host_log, near_log, violations
from recnmp_cases import MEMORY, at_places, one_table, requests_of

from cofit.core import numpy_generator
from cofit.targets.memory import (
    Placement,
    bags_of,
    packets,
    place,
    simulate_host,
    simulate_near,
    zipf_stream,
)


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
