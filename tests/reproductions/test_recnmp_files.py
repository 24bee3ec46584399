"""Memory files, bags and placements of RecNMP, good and bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recnmp_cases import MEMORY

from cofit.core import ConfigError, FileError, numpy_generator
from cofit.targets.memory import (
    Bags,
    bags_of,
    place,
    read_memory,
    zipf_stream,
)
from cofit.targets.memory.system import FILE


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[near]", "[near]\nranks = 1", "unknown key near.ranks; known: cache, instructions"),
        ("rows = { value", "lines = { value", "unknown key geometry.lines"),
        ("cl = { value", "al = { value", "unknown key timing.al"),
        ("[current]\nvdd = { value", "[current]\nidd0 = { value", "is not TOML"),
        ('faw = { value = 26, unit = "cycle",', "faw = { value = 26,", "faw.unit is missing"),
        (', unit = "nJ", source = "recnmp"', ', unit = "nJ"', "activate.source is missing"),
        ('value = 2.1, unit = "nJ"', 'value = 2.1, unit = "W"', "unit is 'W'; known: fJ, pJ, nJ"),
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
