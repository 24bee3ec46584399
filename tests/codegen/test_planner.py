"""The arena: no overlaps, stated size, near the least possible."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from cofit.codegen import Buffer, plan_memory

SPANS = st.tuples(st.integers(0, 200), st.integers(0, 9), st.integers(0, 6))


def buffers_of(spans):
    return [Buffer(f"b{i}", size, first, first + n) for i, (size, first, n) in enumerate(spans)]


@given(st.lists(SPANS, max_size=14), st.sampled_from([1, 8, 64]))
@settings(max_examples=150, deadline=None)
def test_buffers_alive_together_never_overlap_and_fit_the_arena(spans, alignment):
    plan = plan_memory(buffers_of(spans), alignment)
    for a, b in itertools.combinations([b for b in plan.buffers if b.nbytes], 2):
        if a.meets(b):
            x, y = plan.offsets[a.name], plan.offsets[b.name]
            assert x + a.nbytes <= y or y + b.nbytes <= x
    ends = [plan.offsets[b.name] + -(-b.nbytes // alignment) * alignment for b in plan.buffers]
    assert plan.arena_bytes == max(ends, default=0)
    assert plan.arena_bytes >= plan.lower_bound_bytes
    assert all(offset % alignment == 0 for offset in plan.offsets.values())


def least_bytes(buffers):
    """Optimum: some order of placing each as low as possible gives it."""
    best = sum(b.nbytes for b in buffers)
    for order in itertools.permutations(buffers):
        placed = []
        for buffer in order:
            offset = 0
            for start, other in sorted(placed, key=lambda p: p[0]):
                if other.meets(buffer) and offset < start + other.nbytes:
                    if offset + buffer.nbytes <= start:
                        break
                    offset = start + other.nbytes
            placed.append((offset, buffer))
        best = min(best, max((o + b.nbytes for o, b in placed), default=0))
    return best


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5), st.integers(0, 4)), max_size=6))
@settings(max_examples=120, deadline=None)
def test_small_cases_are_within_a_quarter_of_the_brute_force_optimum(spans):
    buffers = buffers_of(spans)
    plan, least = plan_memory(buffers, 1), least_bytes(buffers)
    assert plan.lower_bound_bytes <= least <= plan.arena_bytes <= 1.25 * least


def test_brute_force_optimum_is_usually_reached():
    import numpy as np

    rng = np.random.default_rng(0)
    reached = 0
    for _ in range(100):
        spans = [(int(rng.integers(1, 40)), int(rng.integers(0, 6)), int(rng.integers(0, 5)))
                 for _ in range(6)]  # fmt: skip
        buffers = buffers_of(spans)
        reached += plan_memory(buffers, 1).arena_bytes == least_bytes(buffers)
    assert reached >= 95


def test_a_chain_needs_its_largest_neighbours_only():
    sizes = [100, 300, 200, 50, 400, 10]
    plan = plan_memory([Buffer(str(i), n, i, i + 1) for i, n in enumerate(sizes)], 1)
    assert plan.arena_bytes == plan.lower_bound_bytes == 300 + 200


def test_sizes_are_rounded_to_the_alignment():
    plan = plan_memory([Buffer("a", 1, 0, 0), Buffer("b", 65, 0, 0)], 64)
    assert plan.arena_bytes == plan.lower_bound_bytes == 3 * 64


def test_nothing_needs_nothing():
    plan = plan_memory([Buffer("empty", 0, 0, 3)], 64)
    assert (plan.arena_bytes, plan.lower_bound_bytes, dict(plan.offsets)) == (0, 0, {"empty": 0})
