"""DDC-PIM on a simulated array: pairs from one stored word, and cycles counted step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cofit.core import StructureError, numpy_generator, torch_generator
from cofit.reproductions.ddc_pim.array import SPEC
from cofit.structures import Complementary
from cofit.targets.arrays import (
    MODES,
    Clip,
    Layer,
    Macro,
    Matrix,
    ddc,
    program,
    store,
)
from cofit.targets.arrays.multiply import grouped_reads


def pairs(filters: int, rows: int, seed: int) -> torch.Tensor:
    generator = numpy_generator(seed, "pairs")
    raw = generator.integers(-127, 128, (filters, rows), np.int8)
    return Complementary().project(torch.from_numpy(raw)).long().T


def test_03_the_array_gives_both_filters_from_one_word() -> None:
    for seed in range(100):
        rng = numpy_generator(seed, "shape")
        rows, filters = int(rng.integers(1, 150)), int(rng.integers(2, 12))
        matrix = pairs(filters, rows, seed)
        x = torch.from_numpy(rng.integers(0, 256, (4, rows)))
        chip = program(matrix, SPEC, Clip(SPEC.lossless_bits()))
        assert torch.equal(chip.multiply(x, fast=False), x @ matrix)
        assert chip.stored.cells.numel() == -(-filters // 2) * rows * 8
    plain = replace(SPEC, scheme="twos_complement")
    assert store(pairs(8, 70, 1), SPEC).cells.numel() * 2 == plain.cells(70, 8)


def test_03_one_flipped_cell_moves_both_filters_apart() -> None:
    matrix = pairs(4, 20, 7)
    x = torch.randint(1, 256, (3, 20), generator=torch_generator(7))
    stored = store(matrix, SPEC)
    chip = program(matrix, SPEC, Clip(7))
    for bit in range(8):
        cells = stored.cells.clone()
        cells[bit, 5, 1] ^= 1
        changed = replace(stored, cells=cells)
        broken = replace(chip, stored=changed, reads=grouped_reads(changed, cells.double()))
        off = broken.multiply(x, fast=False) - x @ matrix
        assert bool((off[:, :2] == 0).all()) and torch.equal(off[:, 2], -off[:, 3])
        assert torch.equal(off[:, 2].abs(), x[:, 5] << bit)


def counted(
    x: np.ndarray, weight: np.ndarray, macro: Macro, mode: str, depthwise: bool
) -> tuple[np.ndarray, int]:
    """The macro step by step: every bit of every step is done, and counted.

    Args:
        x: (P, L) inputs, or (C, P, L) of depthwise channels.
        weight: (K, L).
        macro: its geometry.
        mode: what it makes of pairs.
        depthwise: each filter has an input of its own.

    Returns:
        Sums (P, K), and cycles.
    """
    filters, length = weight.shape
    positions = x.shape[-2]
    found, cycles = np.zeros((positions, filters), np.int64), 0
    if depthwise:
        sides = 1 if mode in ("baseline", "fcc") else 2
        parts = macro.parts if mode == "fcc+dual+split" else 1
        together = sides * max(1, min(parts, macro.rows // length))
        tiles = [range(f, min(f + together, filters)) for f in range(0, filters, together)]
    else:
        width = macro.filters * (1 if mode == "baseline" else 2)
        tiles = [range(f, min(f + width, filters)) for f in range(0, filters, width)]
    for position in range(positions):
        for tile in tiles:
            for start in range(0, length, macro.rows):
                for bit in range(macro.input_bits):
                    cycles += 1
                    for f in tile:
                        inputs = x[f, position] if depthwise else x[position]
                        ones = inputs[start : start + macro.rows] >> bit & 1
                        found[position, f] += (ones @ weight[f, start : start + macro.rows]) << bit
    return found, cycles


@pytest.mark.parametrize("mode", MODES)
def test_07_cycles_are_those_of_the_steps(mode: str) -> None:
    macro = Macro(rows=8, filters=4, input_bits=3)
    rng = numpy_generator(7, mode)
    for filters, length in ((4, 8), (8, 8), (9, 17), (16, 20)):
        weight = rng.integers(-8, 8, (filters, length))
        x = rng.integers(0, 8, (3, length))
        sums, cycles = counted(x, weight, macro, mode, depthwise=False)
        assert np.array_equal(sums, x @ weight.T)
        assert cycles == macro.compute_cycles(Layer(filters, length, 3, False, True), mode)
    for channels, length in ((6, 4), (8, 9 - 5), (7, 3)):
        weight = rng.integers(-8, 8, (channels, length))
        x = rng.integers(0, 8, (channels, 2, length))
        sums, cycles = counted(x, weight, macro, mode, depthwise=True)
        assert np.array_equal(sums, np.einsum("cpl,cl->pc", x, weight))
        assert cycles == macro.compute_cycles(Layer(channels, length, 2, True, True), mode)


def test_07_the_target_takes_the_same_cycles() -> None:
    for broadcast, mode in zip(("baseline", "fcc", "dual", "reconf"), MODES, strict=True):
        chip = ddc(broadcast)
        layer = Layer(64, 576, 49, False, True)
        assert chip.cost(Matrix(576, 64, 49, paired=True)).latency_s == pytest.approx(
            chip.macro.cycles(layer, mode) / chip.clock_hz
        )
        depthwise = Layer(96, 9, 49, True, True)
        assert chip.cost(Matrix(9, 1, 49, copies=96, paired=True)).latency_s == pytest.approx(
            chip.macro.cycles(depthwise, mode) / chip.clock_hz
        )
        apart = chip.cost(Matrix(576, 64, 49)).latency_s  # filters that are no pairs
        assert apart == ddc("baseline").cost(Matrix(576, 64, 49)).latency_s


def test_09_filters_that_are_no_pairs_are_refused_by_the_array() -> None:
    matrix = pairs(4, 10, 1).clone()
    matrix[3, 2] += 1
    with pytest.raises(StructureError, match=r"filters 2 and 3 add up to .* in row 3"):
        store(matrix, SPEC)
