"""Check 4: ZigZag 3.9.1 on random layers, three of its accelerators read from our files.

Its results are recorded by tools/zigzag_layers.py (both sides minimise energy times delay).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from cofit.targets.dataflow import Hardware, Layer, Mapped, accelerator, read_accelerator, search

DATA = Path(__file__).parent / "data"
LINK_BITS = 64
GOLDEN = {"tpu_like": (5209647.872, 5968), "edge_tpu_like": (5419885.12, 5906)}
"""The 3x3 layer of 64 filters on 16x16 outputs, from the published specification of this check."""


@dataclass(frozen=True)
class Row:
    hardware: str
    layer: Layer
    energy_pj: float
    cycles: float
    ours: Mapped

    @property
    def ratio(self) -> float:
        return self.ours.cycles / self.cycles


def hardware_of(name: str) -> Hardware:
    if name == "meta_prototype":
        return read_accelerator(DATA / "meta-prototype.toml")
    return accelerator({"tpu_like": "tpu-like", "edge_tpu_like": "edge"}[name])


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    with (DATA / "zigzag.csv").open() as file:
        entries = list(csv.DictReader(file))
    found = []
    for entry in entries:
        sizes = {name: int(entry[name]) for name in "kcyxrs"}
        stride = int(entry["stride"])
        layer = Layer(stride=(stride, stride), bits_psum=16, **sizes)  # type: ignore[arg-type]
        ours = search(layer, hardware_of(entry["hardware"]))
        found.append(
            Row(entry["hardware"], layer, float(entry["energy_pj"]), float(entry["cycles"]), ours)
        )
    return found


def test_04_recorded_results_are_zigzags(rows: list[Row]) -> None:
    assert len({row.layer for row in rows}) == 21 and len(rows) == 3 * 21
    first = {row.hardware: (row.energy_pj, row.cycles) for row in rows[:3]}
    for name, golden in GOLDEN.items():
        assert first[name] == pytest.approx(golden)


def test_04_energy_within_a_quarter(rows: list[Row]) -> None:
    for row in rows:
        assert row.ours.energy_pj == pytest.approx(row.energy_pj, rel=0.25), row


def test_04_same_ranking(rows: list[Row]) -> None:
    for name in {row.hardware for row in rows}:
        mine = [row for row in rows if row.hardware == name]
        ours, theirs = zip(*((row.ours, row) for row in mine), strict=True)
        cycles = spearmanr([m.cycles for m in ours], [row.cycles for row in theirs])
        energy = spearmanr([m.energy_pj for m in ours], [row.energy_pj for row in theirs])
        assert min(cycles.statistic, energy.statistic) >= 0.95, name


def test_04_cycles_within_15_percent_or_explained(rows: list[Row]) -> None:
    """Two things ZigZag does otherwise, each checked by its own arithmetic.

    It lets loads that happen once share the DRAM link without adding up, so that its cycles can be
    fewer than the link needs for one pass over the three tensors; ours never are, and there they
    are that pass. And it fills a large buffer with the whole input before the array starts, where
    our search streams tiles.
    """
    within = 0
    for row in rows:
        elements = row.layer.elements
        link = sum(elements.values()) * 8 / LINK_BITS
        input_first = row.ours.steps + elements["input"] * 8 / LINK_BITS
        if abs(row.ratio - 1) <= 0.15:
            within += 1
        elif row.ratio > 1:
            assert row.cycles < link <= row.ours.cycles <= 1.01 * link, row
        else:
            assert row.cycles == pytest.approx(input_first, rel=0.15), row
    assert within >= 0.7 * len(rows)


def test_04_zigzag_itself() -> None:
    pytest.importorskip("zigzag", reason="zigzag-dse is not installed")
    from tools.zigzag_layers import FIRST, measure

    assert measure("tpu_like", FIRST) == pytest.approx(GOLDEN["tpu_like"])
