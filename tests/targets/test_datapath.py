"""Bits that toggle in an array: against a loop over cycles, and against what tables say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cofit.core import ConfigError, FileError, StructureError, UnknownNameError
from cofit.targets import datapath as room
from cofit.targets.datapath import Bits, Operands, activity, datapath, read_datapath, sequence

TABLE = Path(room.__file__).with_name("datapath.toml")


def drawn(rng, rows, columns, positions, own=False):
    shape = (positions, rows, columns) if own else (positions, columns)
    weights, inputs = (rng.integers(-128, 128, s).astype(np.int8) for s in ((rows, columns), shape))
    return Operands(weights, inputs)


def bits(before: int, after: int, width: int) -> int:
    return sum((before >> i & 1) != (after >> i & 1) for i in range(width))


def by_cycle(operands, height, orders, stationary):
    """Weight, input and sum flips and energy, one unit and one cycle after the other."""
    hardware = datapath()
    (rows, columns), positions = operands.weights.shape, len(operands.inputs)
    segments = -(-columns // height)
    if stationary == "input":
        steps = [(p, s, k) for p in range(positions) for s in range(segments) for k in orders[s]]
    else:
        steps = [(p, s, k) for s in range(segments) for k in orders[s] for p in range(positions)]
    running = np.zeros((positions, rows), object)
    held, flips, energy = None, [0, 0, 0], 0.0
    for p, s, k in steps:
        seen = []
        for unit in range(height):
            c = s * height + unit
            inside = c < columns
            weight = int(operands.weights[k, c]) if inside else 0
            row = operands.inputs[p] if operands.inputs.ndim == 2 else operands.inputs[p, k]
            x = int(row[c]) if inside else 0
            seen.append((weight, x, running[p, k]))
            running[p, k] += weight * x
        if held is not None:
            for old, new in zip(held, seen, strict=True):
                found = [bits(a, b, w) for a, b, w in zip(old, new, (8, 8, 24), strict=True)]
                flips = [a + b for a, b in zip(flips, found, strict=True)]
                still = 1.0
                tables = (hardware.weight_j, hardware.input_j, hardware.sum_j)
                factors = (
                    hardware.weight_factor[bits(new[1], 0, 8)],
                    hardware.input_factor[bits(new[0], 0, 8)],
                    1.0,
                )
                for table, count, factor in zip(tables, found, factors, strict=True):
                    still *= 1 - min(table[count] * factor / hardware.top_j, 1.0)
                energy += hardware.top_j * (1 - still)
        held = seen
    return (*flips, energy)


@pytest.mark.parametrize("stationary", ["input", "weight"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("columns", "height"), [(9, 4), (8, 4), (3, 1), (5, 7)])
def test_flips_are_those_of_a_loop_over_cycles(stationary, own, columns, height):
    rng = np.random.default_rng(columns)
    operands = drawn(rng, 6, columns, 3, own)
    orders = [rng.permutation(6) for _ in range(-(-columns // height))]
    found = activity(sequence(operands, height, orders, stationary), datapath())
    expected = by_cycle(operands, height, orders, stationary)
    assert (found.weight_flips, found.input_flips, found.sum_flips) == expected[:3]
    assert found.energy_j == pytest.approx(expected[3], rel=1e-12)
    assert found.cycles == 3 * len(orders) * 6 - 1 and found.units == height


def test_no_order_is_the_natural_one_and_orders_matter():
    operands = drawn(np.random.default_rng(0), 32, 20, 4)
    natural = activity(sequence(operands, 8), datapath())
    assert natural == activity(sequence(operands, 8, [np.arange(32)] * 3), datapath())
    by_value = [np.argsort(operands.weights[:, 8 * s]) for s in range(3)]
    assert activity(sequence(operands, 8, by_value), datapath()) != natural


def test_what_is_held_does_not_toggle():
    operands = drawn(np.random.default_rng(1), 10, 4, 1)
    assert activity(sequence(operands, 4), datapath()).input_flips == 0
    assert activity(sequence(operands, 4, stationary="weight"), datapath()).weight_flips > 0
    still = Operands(np.full((5, 4), 7, np.int8), np.full((3, 4), -1, np.int8))
    for stationary in ("input", "weight"):
        found = activity(sequence(still, 4, stationary=stationary), datapath())
        assert (found.weight_flips, found.input_flips, found.sum_flips) == (0, 0, 0)
        assert found.energy_j == 0.0


def test_energy_is_the_tables_alone_and_within_the_top_together():
    unit, none = datapath(), np.zeros((1, 1), np.uint8)
    for ones in range(9):
        set_ = Bits(none + ones, none + ones, none)
        for flips in range(9):
            for counts, alone in (
                (Bits(none + flips, none, none), unit.weight_j[flips] * unit.weight_factor[ones]),
                (Bits(none, none + flips, none), unit.input_j[flips] * unit.input_factor[ones]),
                (Bits(none, none, none + 3 * flips), unit.sum_j[3 * flips]),
            ):
                expected = pytest.approx(min(alone, unit.top_j), abs=1e-25)
                assert unit.energy_j(counts, set_) == expected
    half = Bits(none + 4, none + 4, none)
    everything = unit.energy_j(Bits(none + 8, none + 8, none + 24), half)
    assert max(unit.weight_j[8], unit.input_j[8], unit.sum_j[24]) < everything < unit.top_j
    assert (np.diff(unit.weight_factor)[:4] > 0).all()  # more ones, more gates
    assert "derived" in unit.facts and unit.facts["node"] == "45 nm"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[weight]", "[weights]", "unknown key weights"),
        ("[weight]", "[weight]\n9 = 1", "unknown key weight.9"),
        ("\n8 = {", "\n# 8 = {", "weight.8 is missing"),
        (', unit = "fJ", source', ", source", "together.top.unit is missing"),
        (', source = "gates" }', " }", "weight.1.source is missing"),
        ('unit = "fJ"', 'unit = "W"', "together.top.unit is 'W'; known: fJ, pJ, nJ"),
        ("node_nm = 45", "node_nm = 28", ""),
        ("top = { value = 1", "top = { value = 0.1", "together.top is below"),
    ],
)
def test_bad_tables_are_refused(old, new, text, tmp_path):
    good = TABLE.read_text()
    assert old in good
    path = tmp_path / "bad.toml"
    if not text:  # a source of another node
        good, old, new = good, 'kind = "derived"', 'kind = "derived"\nnode_nm = 65'
        text = "at 65 nm, the data path is at 45 nm"
    path.write_text(good.replace(old, new, 1))
    with pytest.raises(ConfigError, match=r"^bad\.toml") as caught:
        read_datapath(path)
    assert text in str(caught.value)


def test_energies_that_fall_are_refused(tmp_path):
    good = TABLE.read_text()
    line = next(row for row in good.splitlines() if row.startswith("3 = "))
    path = tmp_path / "bad.toml"
    path.write_text(good.replace(line, "3 = { value = 1, " + line.partition(", ")[2], 1))
    with pytest.raises(ConfigError, match=r"weight\.3 is below the energy of fewer flips"):
        read_datapath(path)
    with pytest.raises(FileError, match="cannot read the data path"):
        read_datapath(tmp_path / "none.toml")


def test_bad_operands_and_orders_are_refused():
    operands = drawn(np.random.default_rng(0), 4, 6, 2)
    with pytest.raises(StructureError, match="an array streams int8"):
        Operands(operands.weights.astype(float), operands.inputs)
    with pytest.raises(StructureError, match=r"give \(P, 6\) or \(P, 4, 6\)"):
        Operands(operands.weights, operands.inputs[:, :5])
    with pytest.raises(ConfigError, match="an array of height 0"):
        sequence(operands, 0)
    with pytest.raises(ConfigError, match="2 segments of 4 rows; give a permutation for each"):
        sequence(operands, 3, [np.arange(4), np.array([0, 0, 1, 2])])
    with pytest.raises(UnknownNameError, match="unknown dataflow 'output'"):
        sequence(operands, 3, stationary="output")
