"""FORMS on simulated crossbars: exactness of its converters, signs, skipping and energy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cofit.core import ConfigError, StructureError, torch_generator
from cofit.targets.arrays import (
    Activity,
    ArraySpec,
    Clip,
    Matrix,
    activity,
    crossbar_chip,
    forms,
    input_cycles,
    program,
    store,
)


def polarised(rows: int, filters: int, m: int, generator: torch.Generator) -> torch.Tensor:
    signs = torch.randint(2, (-(-rows // m), filters), generator=generator) * 2 - 1
    magnitudes = torch.randint(128, (rows, filters), generator=generator)
    sparse = torch.rand(rows, filters, generator=generator) < 0.3
    return magnitudes.masked_fill(sparse, 0) * signs.repeat_interleave(m, 0)[:rows]


def layer(index: int, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch_generator(index, "forms", m)
    rows, filters = (int(n) for n in torch.randint(1, 200, (2,), generator=generator))
    matrix = polarised(rows, filters % 24 + 1, m, generator)
    shift = int(torch.randint(16, (1,), generator=generator))
    return matrix, torch.randint(1 << 16, (3, rows), generator=generator) >> shift


@pytest.mark.parametrize(("m", "bits"), [(4, 3), (8, 4), (16, 5)])
def test_03_flipped_columns_make_small_converters_exact(m: int, bits: int) -> None:
    spec = replace(forms(m).spec, input_bits=16)
    assert forms(m).converter_bits == bits == spec.lossless_bits()
    for index in range(500 // 3 + 1):
        matrix, x = layer(index, m)
        chip = program(matrix, spec, Clip(bits))
        assert torch.equal(chip.multiply(x, fast=False), x @ matrix)


def test_03_without_flipping_four_bits_saturate() -> None:
    matrix, x = torch.full((8, 1), 127), torch.full((1, 8), (1 << 16) - 1)
    plain = replace(forms(8).spec, flip=False)
    found = program(matrix, plain, Clip(4)).multiply(x)
    # three slices see 24 and answer 15; the top one holds one bit and sees 8
    assert found.tolist() == [[((1 << 16) - 1) * (15 * (1 + 4 + 16) + 8 * 64)]]
    assert int(found) < int(x @ matrix)
    flipped = program(matrix, forms(8).spec, Clip(4)).multiply(x, fast=False)
    assert torch.equal(flipped, x @ matrix)


def test_04_cells_hold_magnitudes_and_refuse_anything_else() -> None:
    matrix = polarised(61, 9, 8, torch_generator(4))
    stored = store(matrix, forms(8).spec)
    assert stored.signs is not None and stored.signs.shape == (8, 9)  # ceil(61 / 8) * 9 bits
    assert stored.cells.dtype == torch.uint8 and int(stored.cells.max()) <= 3
    assert bool((matrix < 0).any()) and len(stored.cells) == 4
    for level in (-1, 4):
        cells = stored.cells.long().clone()
        cells[0, 0, 0] = level
        with pytest.raises(StructureError, match="a cell of 2 bits holds 0 to 3"):
            replace(stored, cells=cells)


def test_05_split_offset_and_polarised_agree_at_two_to_one_to_one_cells() -> None:
    for index in range(20):
        matrix, x = layer(index, 8)
        found, cells = [], []
        for scheme in ("split", "offset", "polarised"):
            spec = ArraySpec(group=8, scheme=scheme, input_bits=16)
            chip = program(matrix, spec, Clip(spec.lossless_bits()))
            found.append(chip.multiply(x, fast=False))
            cells.append(chip.stored.cells.numel())
        assert all(torch.equal(y, x @ matrix) for y in found)
        assert cells == [8 * matrix.numel(), 4 * matrix.numel(), 4 * matrix.numel()]


def test_06_skipping_gives_the_same_result_in_as_many_cycles_as_the_longest_inputs() -> None:
    for index in range(20):
        matrix, x = layer(index, 8)
        skipping = replace(forms(8).spec, input_bits=16)
        every = replace(skipping, skipping=False)
        for bits in (4, 3):  # clipping converters too: a plane of zeros adds nothing
            results = [
                program(matrix, spec, Clip(bits)).multiply(x, fast=False)
                for spec in (skipping, every)
            ]
            assert torch.equal(*results)
        longest = sum(
            max((v.bit_length() for v in row[start : start + 8]), default=0)
            for row in x.tolist()
            for start in range(0, len(row), 8)
        )
        assert activity(x, skipping).cycles * len(x) == pytest.approx(longest, rel=1e-12)
        assert activity(x, every).cycles == 16 * every.groups(x.shape[1])
        assert activity(x, replace(skipping, group=1)).cycles == pytest.approx(
            float(input_cycles(x, 1).sum()) / len(x)
        )


def test_06_planes_past_the_last_bit_are_not_read() -> None:
    """Read noise shows it: a group that has ended adds none."""
    spec = replace(forms(8).spec, input_bits=16)
    x = torch.tensor([[1] + [0] * 7])
    matrix = torch.ones(8, 1, dtype=torch.long)

    def spread(skipping: bool) -> float:
        chip = program(matrix, replace(spec, skipping=skipping))
        chip = replace(chip, read_sigma=1.0)
        found = [chip.multiply(x, torch_generator(seed)) for seed in range(200)]
        return float(torch.stack(found).std())

    assert spread(True) < 100 < 10_000 < spread(False)


def test_07_energy_and_rate_in_closed_form() -> None:
    isaac, small = crossbar_chip("isaac"), forms(8)
    dense = {
        "isaac": isaac.cost(Matrix(128, 128, 1, input_bits=16, weight_bits=2)),
        "forms": small.cost(Matrix(128, 128, 1, input_bits=16, weight_bits=3)),
    }
    assert all(cost.arrays == 1 and cost.used == 1 for cost in dense.values())
    energy = {name: cost.energy_pj["converters"] for name, cost in dense.items()}
    assert energy["isaac"] == pytest.approx(3413, abs=1)
    assert energy["forms"] / 16 == pytest.approx(463, abs=1)
    assert dense["isaac"].latency_s / dense["forms"].latency_s == pytest.approx(0.4375, rel=1e-4)
    for cycles in (5.3, 11.8):
        seen = Activity(16 * cycles, 128 * 16)
        found = small.cost(Matrix(128, 128, 1, input_bits=16, weight_bits=3), seen)
        assert found.energy_pj["converters"] == pytest.approx(463 * cycles, rel=1e-3)
        rate = dense["isaac"].latency_s / found.latency_s
        assert rate == pytest.approx(0.4375 * 16 / cycles, rel=1e-4)
    # break-even, the converters alone: 7.4 cycles beside an offset, 14.7 beside split signs
    per_cycle = energy["forms"] / 16
    assert energy["isaac"] / per_cycle == pytest.approx(7.4, abs=0.05)
    split = replace(isaac, spec=replace(isaac.spec, scheme="split"))
    twice = split.cost(Matrix(128, 128, 1, input_bits=16, weight_bits=3))
    assert twice.arrays == 2
    assert twice.energy_pj["converters"] / per_cycle == pytest.approx(14.7, abs=0.05)


def test_07_small_groups_pay_for_their_conversions() -> None:
    """Sixteen times the conversions of 128 rows, whatever one of them costs."""
    matrix = Matrix(256, 64, 10, input_bits=16, weight_bits=8)
    specs = crossbar_chip("isaac").spec_for(matrix), forms(8).spec_for(matrix)
    counts = [spec.conversions(256, 64, 10) for spec in specs]
    assert counts[1] == 16 * counts[0]


def test_10_what_the_array_refuses() -> None:
    with pytest.raises(ConfigError, match="groups of 12 rows do not divide 128 rows"):
        forms(12)
    chip = program(torch.ones(8, 1, dtype=torch.long), forms(8).spec)
    with pytest.raises(ConfigError, match="encode negative ones with inputs='offset'"):
        chip.multiply(torch.full((1, 8), -1))
    with pytest.raises(StructureError, match="train with the structure polarised8"):
        store(torch.tensor([[1], [-1]]), forms(8).spec)
