"""What the units of RecNMP compute, how they are told, what it takes: checks 1, 2 and 9."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recnmp_cases import MEMORY, VECTOR, one_table, random_bags

from cofit.core import ConfigError, numpy_generator
from cofit.targets.memory import (
    BITS,
    ENERGY_SETS,
    FIELDS,
    OPCODES,
    Instruction,
    QuantisedTable,
    activate_pj,
    decode,
    encode,
    energy_of,
    lru_hits,
    pack_address,
    packets,
    place,
    pool,
    read_burst_pj,
    simulate_host,
    simulate_near,
    unpack_address,
)


def _decodes(word: int) -> bool:
    return word & 15 < len(OPCODES)


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
