"""Arrays compute integer products: every sign scheme, width and group, by the long way."""

from __future__ import annotations

import pytest
import torch

from cofit.core import ConfigError, StructureError, numpy_generator, torch_generator
from cofit.structures import Complementary
from cofit.targets.arrays import (
    SCHEMES,
    ArraySpec,
    Clip,
    Uniform,
    Variation,
    activity,
    fitted_table,
    input_cycles,
    program,
    store,
    weight_range,
)
from cofit.targets.arrays.multiply import CHUNK

ONE_BIT = ("twos_complement", "complementary", "bipolar", "differential")
SIZES = (1, 4, 8, 64, 100, 128)


def member(spec: ArraySpec, rows: int, filters: int, generator: torch.Generator) -> torch.Tensor:
    """A random matrix that the scheme can hold, extremes included."""
    low, high = weight_range(spec)
    if spec.scheme == "bipolar":
        return 2 * torch.randint(1 << spec.weight_bits, (rows, filters), generator=generator) + low
    matrix = torch.randint(low, high + 1, (rows, filters), generator=generator)
    if spec.scheme == "polarised":
        signs = torch.randint(2, (-(-rows // spec.group), filters), generator=generator) * 2 - 1
        return matrix.abs() * signs.repeat_interleave(spec.group, 0)[:rows]
    if spec.scheme == "complementary":
        pairs = filters // 2
        total = torch.randint(low // 2, high // 2, (pairs,), generator=generator)
        a = matrix[:, : 2 * pairs : 2].clamp(low // 2, high // 2)
        matrix[:, 0 : 2 * pairs : 2], matrix[:, 1 : 2 * pairs : 2] = a, total - a
    return matrix


def inputs(spec: ArraySpec, positions: int, rows: int, generator: torch.Generator) -> torch.Tensor:
    low = 0 if spec.inputs == "unsigned" else -(1 << (spec.input_bits - 1))
    return torch.randint(low, low + (1 << spec.input_bits), (positions, rows), generator=generator)


def random_spec(index: int) -> ArraySpec:
    """Every scheme with every width of cells and drivers that it allows, and every group."""
    rng = numpy_generator(index, "spec")
    scheme = SCHEMES[index % len(SCHEMES)]
    group = SIZES[index // len(SCHEMES) % len(SIZES)]
    several = scheme not in ONE_BIT
    dac = int(rng.integers(1, 4))
    coding = ("unsigned", "offset", "twos_complement")[int(rng.integers(3 if dac == 1 else 2))]
    return ArraySpec(
        rows=group * int(rng.integers(1, 4)),
        columns=int(rng.integers(8, 200)),
        group=group,
        cell_bits=int(rng.choice([1, 2, 4])) if several else 1,
        dac_bits=dac,
        input_bits=int(rng.integers(2, 10)),
        weight_bits=int(rng.integers(2, 9)),
        scheme=scheme,
        flip=several and bool(rng.integers(2)),
        inputs=coding,
        skipping=bool(rng.integers(2)),
    )


def test_01_every_scheme_without_loss_is_the_integer_product() -> None:
    seen = set()
    for index in range(500):
        spec, generator = random_spec(index), torch_generator(index)
        rng = numpy_generator(index, "shape")
        rows, filters = int(rng.integers(1, 300)), int(rng.integers(1, 20))
        positions = int(rng.integers(1, 6))
        matrix, x = member(spec, rows, filters, generator), inputs(spec, positions, rows, generator)
        adc = Clip(spec.lossless_bits(), spec.bounds()[0])
        chip = program(matrix, spec, adc)
        expected = x @ matrix
        assert torch.equal(chip.multiply(x, fast=False), expected), (index, spec)
        assert chip.exact and torch.equal(chip.multiply(x), expected)
        seen.add((spec.scheme, spec.group, spec.cell_bits, spec.dac_bits))
    assert len({s for s, *_ in seen}) == len(SCHEMES) and len({m for _, m, *_ in seen}) == 6


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("drive", [1, 2, 3])
@pytest.mark.parametrize("cell", [1, 2, 4])
@pytest.mark.parametrize("m", SIZES)
def test_02_bits_of_the_converter_are_tight(m: int, cell: int, drive: int, flip: bool) -> None:
    spec = ArraySpec(
        rows=m, group=m, cell_bits=cell, dac_bits=drive, input_bits=drive, weight_bits=cell,
        scheme="offset", flip=flip,
    ) if cell > 1 else ArraySpec(
        rows=m, group=m, cell_bits=1, dac_bits=drive, input_bits=drive, weight_bits=2,
        scheme="polarised", flip=flip,
    )  # fmt: skip
    bits = spec.lossless_bits()
    # the largest sum that is stored: all cells full, or just as full as leaves them unflipped
    full = m * spec.most // 2 if flip else m * spec.most
    levels = torch.full((m,), spec.most)
    for row in range(m):
        levels[row] = min(spec.most, max(0, full - row * spec.most))
    offset = 0 if spec.scheme == "polarised" else 1 << (cell - 1)
    matrix = (levels - offset)[:, None]
    x = torch.full((1, m), (1 << drive) - 1)
    assert torch.equal(program(matrix, spec, Clip(bits)).multiply(x, fast=False), x @ matrix)
    if bits > 1:
        short = program(matrix, spec, Clip(bits - 1))
        assert not short.exact
        assert not torch.equal(short.multiply(x), x @ matrix)
    if bits == 1:
        assert spec.bounds()[1] <= 1


def test_02_bits_of_isaac_and_forms() -> None:
    for m, plain in ((4, 4), (8, 5), (16, 6), (128, 9)):
        assert ArraySpec(group=m).lossless_bits() == plain
        assert ArraySpec(group=m, flip=True).lossless_bits() == plain - 1


def test_02_signed_sums_need_both_ends() -> None:
    spec = ArraySpec(rows=64, group=64, cell_bits=1, dac_bits=3, input_bits=3, weight_bits=1,
                     scheme="differential")  # fmt: skip
    assert spec.bounds() == (-448, 448) and spec.lossless_bits() == 10
    assert not Clip(10).exact(*spec.bounds()) and Clip(10, -448).exact(*spec.bounds())
    x = torch.full((1, 64), 7)
    for sign in (1, -1):
        matrix = torch.full((64, 1), sign)
        good = program(matrix, spec, Clip(10, -448)).multiply(x, fast=False)
        assert good.tolist() == [[448 * sign]]
    assert program(matrix, spec, Clip(9, -256)).multiply(x).tolist() == [[-256]]


def test_03_counts_are_closed_forms() -> None:
    shape = (300, 50)
    of = {s: ArraySpec(scheme=s, cell_bits=1 if s in ONE_BIT else 2) for s in SCHEMES}
    cells = {s: spec.cells(*shape) / (300 * 50) for s, spec in of.items()}
    assert cells == {
        "split": 8, "offset": 4, "polarised": 4, "twos_complement": 8, "complementary": 4,
        "bipolar": 8, "differential": 16,
    }  # fmt: skip
    assert 2 * of["complementary"].cells(*shape) == of["twos_complement"].cells(*shape)
    for scheme, spec in of.items():
        stored = store(member(spec, *shape, torch_generator(3, scheme)), spec)
        assert stored.cells.numel() == spec.cells(*shape)
        assert spec.conversions(*shape, 7) == 7 * 8 * len(stored.gains) * 50 * 3
    assert of["split"].conversions(*shape, 1) == 2 * of["polarised"].conversions(*shape, 1)
    assert of["offset"].arrays(300, 50) == 3 * 2 and of["split"].arrays(300, 50) == 3 * 4
    counted = []
    chip = program(torch.ones(300, 5, dtype=torch.long), of["offset"], Counting(counted))
    chip.multiply(torch.ones(7, 300, dtype=torch.long), fast=False)
    assert sum(counted) == of["offset"].conversions(300, 5, 7)


class Counting:
    """An ideal converter that counts."""

    whole = True

    def __init__(self, counted: list[int]) -> None:
        self.counted = counted

    def exact(self, low: int, high: int) -> bool:
        return False

    def convert(self, sums: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        self.counted.append(sums.numel())
        return sums


def test_04_no_noise_is_exact_and_frozen_noise_stays() -> None:
    spec = ArraySpec(scheme="polarised", rows=16, group=8, cell_bits=2)
    matrix = member(spec, 60, 9, torch_generator(4))
    x = inputs(spec, 5, 60, torch_generator(5))

    def chip(seed: int, **off: float):
        return program(matrix, spec, None, Variation(**off), torch_generator(seed))

    assert torch.equal(chip(0).multiply(x, fast=False), x @ matrix)
    one, two = chip(0, sigma=0.1), chip(1, sigma=0.1)
    assert torch.equal(one.multiply(x), one.multiply(x)) and not one.exact
    assert torch.equal(one.multiply(x), chip(0, sigma=0.1).multiply(x))
    assert not torch.allclose(one.multiply(x), two.multiply(x))
    read = chip(0, read_sigma=0.5)
    first, second = (read.multiply(x, torch_generator(s)) for s in (0, 1))
    assert not torch.equal(first, second)
    with pytest.raises(ConfigError, match="pass the generator of their noise"):
        read.multiply(x)
    with pytest.raises(ConfigError, match="pass the generator of the chip"):
        program(matrix, spec, None, Variation(sigma=0.1))


def test_04_variance_is_that_of_the_cells() -> None:
    """A weight of one cell at level 3: y = x 3 exp(sigma n), with the moments of a log-normal."""
    spec = ArraySpec(scheme="polarised", rows=1, group=1, weight_bits=3, input_bits=1)
    matrix = torch.full((1, 40000), 3)
    x = torch.ones(1, 1, dtype=torch.long)
    for sigma in (0.05, 0.1, 0.2):
        chip = program(matrix, spec, None, Variation(sigma=sigma), torch_generator(1))
        found = chip.multiply(x)
        variance = torch.tensor(sigma**2, dtype=torch.float64)
        assert float(found.mean()) == pytest.approx(3 * float((variance / 2).exp()), rel=4e-3)
        predicted = 9 * float(variance.expm1() * variance.exp())
        assert float(found.var()) == pytest.approx(predicted, rel=0.04)
    noisy = program(matrix, spec, None, Variation(read_sigma=0.7)).multiply(x, torch_generator(2))
    assert float(noisy.std()) == pytest.approx(0.7, rel=0.02)


def test_04_leakage_is_taken_off_faults_and_wires_are_not() -> None:
    spec = ArraySpec(scheme="offset", rows=32, columns=32, group=32)
    matrix = member(spec, 32, 8, torch_generator(6))
    x = inputs(spec, 4, 32, torch_generator(7))

    def product(**off: float) -> torch.Tensor:
        return program(matrix, spec, None, Variation(**off), torch_generator(8)).multiply(x)

    exact = (x @ matrix).double()
    assert torch.allclose(product(on_off=150.0), exact, rtol=0, atol=0.5)
    off = Variation(on_off=150.0)
    assert off.leakage(3) == pytest.approx(3 / 149)
    stuck = product(stuck_low=1.0)
    assert torch.allclose(stuck, x.sum(1, keepdim=True).double() * -128)
    assert torch.allclose(product(stuck_high=1.0), x.sum(1, keepdim=True).double() * 127)
    raw = (x @ (matrix + 128)).double()
    dropped = product(wire=1e-3) + 128 * x.sum(1, keepdim=True)
    assert bool((dropped < raw).all()) and bool((dropped > raw * (1 - 1e-3 * 64)).all())


def test_06_clipping_converters_clip() -> None:
    """The saturated sum is not the integer product, whichever way is asked for."""
    spec = ArraySpec(scheme="polarised", rows=8, group=8, weight_bits=3)
    matrix, x = torch.full((8, 1), 3), torch.full((1, 8), 255)
    for fast in (True, False):
        clipped = program(matrix, spec, Clip(4)).multiply(x, fast=fast)
        assert clipped.tolist() == [[15 * 255]] and int(x @ matrix) == 24 * 255


def test_06_both_ways_agree_on_random_arrays() -> None:
    for index in range(60):
        spec, generator = random_spec(1000 + index), torch_generator(index, "both")
        matrix = member(spec, 150, 6, generator)
        x = inputs(spec, 3, 150, generator)
        low, _ = spec.bounds()
        for bits in (
            spec.lossless_bits() + 1,
            spec.lossless_bits(),
            max(spec.lossless_bits() - 2, 1),
        ):
            chip = program(matrix, spec, Clip(bits, low))
            assert torch.equal(chip.multiply(x), chip.multiply(x, fast=False))


def test_07_large_layers_take_few_passes_of_bounded_size() -> None:
    """No loop over positions, groups or slices."""
    counted: list[int] = []
    matrix = torch.ones(512, 512, dtype=torch.long)
    x = inputs(ArraySpec(), 256, 512, torch_generator(10))
    program(matrix, ArraySpec(), Counting(counted)).multiply(x, fast=False)
    assert sum(counted) == 8 * 4 * 512 * 4 * 256
    assert max(counted) <= CHUNK and len(counted) <= 2 * sum(counted) / CHUNK


def test_uniform_and_table_converters() -> None:
    sums = torch.linspace(-10, 10, 2001)
    adc = Uniform(4, -7.5, 7.5)
    found = adc.convert(sums.clone(), None)
    inside = sums.abs() <= 7.5
    assert float((found - sums)[inside].abs().max()) <= adc.step / 2 + 1e-6
    assert found.unique().numel() == 16 and not adc.exact(-1, 1)
    assert Uniform(4, 0, 15).exact(0, 15)
    skewed = torch.randn(20000, generator=torch_generator(0)).square()
    table = fitted_table(skewed, 4)
    even = Uniform(4, 0.0, float(skewed.max()))
    errors = [
        float((a.convert(skewed.clone(), None) - skewed).square().mean()) for a in (table, even)
    ]
    assert len(table.levels) == 16 and errors[0] < errors[1]


def test_inputs_may_be_skipped_without_a_difference() -> None:
    spec = ArraySpec(scheme="polarised", group=8, skipping=True, input_bits=16)
    matrix = member(spec, 100, 5, torch_generator(11))
    x = torch.randint(1 << 16, (20, 100), generator=torch_generator(12)) >> torch.randint(
        17, (20, 100), generator=torch_generator(13)
    )
    for adc in (Clip(5), Clip(3)):
        every = program(matrix, ArraySpec(scheme="polarised", group=8, input_bits=16), adc)
        assert torch.equal(
            program(matrix, spec, adc).multiply(x, fast=False), every.multiply(x, fast=False)
        )
    seen = activity(x, spec)
    assert seen.cycles == pytest.approx(float(input_cycles(x, 8).sum()) / 20)
    assert seen.drives == sum(bin(v).count("1") for v in x.flatten().tolist()) / 20


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"group": 12}, "groups of 12 rows do not divide 128 rows; give a divisor of 128"),
        ({"scheme": "ternary"}, "sign scheme 'ternary'; known: split, offset"),
        ({"scheme": "bipolar"}, "'bipolar' has cells of 1 bit"),
        ({"weight_bits": 1}, "weight_bits is 1; give 2 to 24"),
        ({"inputs": "twos_complement", "dac_bits": 2}, "encode them with an offset"),
        ({"inputs": "signed"}, "inputs 'signed'; known: unsigned, offset, twos_complement"),
    ],
)
def test_arrays_that_cannot_be_built(bad: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ArraySpec(**bad)  # type: ignore[arg-type]
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "matrix", "text"),
    [
        ("offset", [[128]], "weight 128 in row 0 of filter 0 does not fit 8 bits offset"),
        ("polarised", [[1], [-1]], "rows 0 to 1 of filter 0 hold both signs"),
        ("polarised", [[-128]], "it holds -127 to 127"),
        ("bipolar", [[1, 4]], "weight 4 in row 0 of filter 1 is even"),
        ("complementary", [[1, 2], [1, 3]], "filters 0 and 1 add up to 4 in row 1 and to 3"),
    ],
)
def test_matrices_that_do_not_fit(scheme: str, matrix: list[list[int]], text: str) -> None:
    spec = ArraySpec(scheme=scheme, cell_bits=1 if scheme in ONE_BIT else 2)  # type: ignore[arg-type]
    with pytest.raises(StructureError) as caught:
        store(torch.tensor(matrix), spec)
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (torch.tensor([[-1, 0]]), "inputs from -1 to 0 do not fit 8 bits unsigned"),
        (torch.tensor([[256, 0]]), "round them to a coarser grid"),
        (torch.tensor([[1.0, 0.0]]), "inputs of an array are integers"),
        (torch.tensor([[1]]), "inputs have shape (1, 1); the matrix takes (P, 2)"),
    ],
)
def test_inputs_that_do_not_fit(x: torch.Tensor, text: str) -> None:
    chip = program(torch.tensor([[1], [2]]), ArraySpec())
    with pytest.raises(ConfigError) as caught:
        chip.multiply(x)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_pairs_of_the_projection_are_pairs_of_the_array() -> None:
    raw = torch.randint(-127, 128, (6, 30), generator=torch_generator(14)).to(torch.int8)
    pairs = Complementary().project(raw).long().T
    spec = ArraySpec(scheme="complementary", cell_bits=1, rows=64, group=64)
    x = inputs(spec, 4, 30, torch_generator(15))
    assert torch.equal(program(pairs, spec, Clip(7)).multiply(x, fast=False), x @ pairs)
