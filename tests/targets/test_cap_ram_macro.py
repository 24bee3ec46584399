"""CAP-RAM's macro: ratios of charge, converters that inject charge, calibration, capacity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cofit.core import ConfigError, StructureError, TargetError, torch_generator
from cofit.targets.arrays import (
    CURRENT,
    NO_ERRORS,
    PRECISIONS,
    LineErrors,
    Matrix,
    SarErrors,
    calibrate,
    capram,
    charge_macro,
    check_capacity,
    ideal_macro,
    line_residual,
    program,
    residual,
    sar_bank,
    store,
    weight_range,
)

ENCODINGS = [(scheme, digits) for scheme in ("bipolar", "differential") for digits in range(1, 6)]


def coded(scheme: str, digits: int):
    return replace(capram().spec, scheme=scheme, weight_bits=digits)


def weights(spec, rows: int, filters: int, seed: int) -> torch.Tensor:
    low, high = weight_range(spec)
    generator = torch_generator(seed, "weights")
    if spec.scheme == "bipolar":
        return 2 * torch.randint(1 << spec.weight_bits, (rows, filters), generator=generator) + low
    return torch.randint(low, high + 1, (rows, filters), generator=generator)


@pytest.mark.parametrize(("scheme", "digits"), ENCODINGS)
def test_01_without_errors_the_macro_is_the_integer_product(scheme: str, digits: int) -> None:
    spec = coded(scheme, digits)
    for rows in range(1, 201):
        matrix = weights(spec, rows, 3, rows)
        x = torch.randint(8, (4, rows), generator=torch_generator(rows))
        macro = ideal_macro(replace(capram(), spec=spec))
        chip = replace(macro.write(matrix, spec, 448.0), adc=None)
        assert torch.equal(chip.multiply(x), (x @ matrix).double())
        assert torch.equal(program(matrix, spec).multiply(x, fast=False), x @ matrix)


def test_02_rounding_is_half_a_step_and_ends_saturate() -> None:
    macro = ideal_macro(capram())
    spec = capram().spec
    for scale in (448.0, 100.0):
        chip = macro.write(torch.ones(64, 1, dtype=torch.long), spec, scale)
        macro.used = 0
        minus = macro.write(-torch.ones(64, 1, dtype=torch.long), spec, scale)
        macro.used = 0
        step = chip.adc.step
        assert step == 2 * scale / 128
        sums = torch.arange(449)
        x = (sums[:, None] - 7 * torch.arange(64)).clamp(0, 7)
        assert torch.equal(x.sum(1), sums)
        up, down = (part.multiply(x)[:, 0] for part in (chip, minus))
        inside = sums <= scale - step
        assert float((up - sums)[inside].abs().max()) <= step / 2 + 1e-4
        assert float((down + sums)[sums <= scale].abs().max()) <= step / 2 + 1e-4
        assert float(up.max()) == pytest.approx(scale - step)
        assert float(down.min()) == pytest.approx(-scale)
        if scale < 448:  # larger sums saturate
            assert bool((up[~inside] == up.max()).all())
        assert bool((up.diff() >= 0).all()) and bool((down.diff() <= 0).all())


def test_02_uneven_charges_are_reported() -> None:
    even = sar_bank(8, 7, NO_ERRORS, torch_generator(0))
    assert even.linearity().monotone and even.linearity().dnl + even.linearity().inl < 1e-9
    good = sar_bank(8, 7, SarErrors(charge=0.005, noise=0), torch_generator(0)).linearity()
    bad = sar_bank(8, 7, SarErrors(charge=0.1, noise=0), torch_generator(0)).linearity()
    assert good.monotone and good.dnl < 1
    assert not bad.monotone and bad.dnl > 1 and bad.inl > good.inl


@pytest.mark.parametrize("seed", range(3))
def test_03_variance_is_that_of_shared_charge(seed: int) -> None:
    """First order: sigma^2 sum (a_i - mean)^2 / (rows + rho)^2, of V over V_ref."""
    generator = torch_generator(seed, "charge")
    x = torch.randint(8, (1, 64), generator=generator)
    digits = torch.randint(-1, 2, (64,), generator=generator)
    chip, sigma, rho = capram(), 0.005, 2.0
    found = []
    for draw in range(20000 // 64 + 1):
        macro = charge_macro(chip, torch_generator(seed, draw), LineErrors(sigma, rho), NO_ERRORS)
        written = macro.write(digits[:, None].expand(64, 64), chip.spec, 448.0)
        found.append(written.line_sums(x)[0, 0])  # one column per draw of capacitors
    volts = torch.cat(found).double() / 7 / (64 + rho)
    a = (x[0] / 7.0) * digits
    mean = a.sum() / (64 + rho)
    predicted = sigma**2 * float((a - mean).square().sum()) / (64 + rho) ** 2
    # the mean does not vary with the 2 parasitic capacitors, whose share of it is a_i = 0
    assert float(volts.var()) == pytest.approx(predicted, rel=0.05)


def test_03_equal_inputs_cancel_all_mismatch() -> None:
    """What a toy with noise added to the result fails."""
    chip = capram()
    macro = charge_macro(chip, torch_generator(1), LineErrors(0.05, 0.0), NO_ERRORS)
    written = macro.write(torch.ones(64, 64, dtype=torch.long), chip.spec, 448.0)
    for level in range(8):
        sums = written.line_sums(torch.full((1, 64), level))
        assert torch.allclose(sums, torch.full_like(sums, 64.0 * level), rtol=1e-6)
    half = torch.tensor([7, 0] * 32)[None]
    assert float(written.line_sums(half).std()) > 0.1


@pytest.mark.parametrize(("scheme", "digits"), ENCODINGS)
def test_04_encodings_round_trip(scheme: str, digits: int) -> None:
    spec = coded(scheme, digits)
    low, high = weight_range(spec)
    every = torch.arange(low, high + 1, 2 if scheme == "bipolar" else 1)[:, None]
    assert len(every) == (2**digits if scheme == "bipolar" else 2 ** (digits + 1) - 1)
    stored = store(every, spec)
    values = stored.read(stored.cells.double())
    assert set(values.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert scheme == "differential" or 0.0 not in values.unique().tolist()
    decoded = (values * stored.gains[:, None, None]).sum(0)
    assert torch.equal(decoded.long(), every)
    for bad in (high + 2, low - 2) if scheme == "bipolar" else (high + 1, low - 1):
        with pytest.raises(StructureError, match="does not fit"):
            store(torch.tensor([[bad]]), spec)


def test_05_calibration_leaves_less_than_two_steps_and_is_idempotent() -> None:
    for seed in range(3):
        raw = charge_macro(capram(), torch_generator(seed, "chip"))
        once = calibrate(raw, torch_generator(seed, "sweep"))
        twice = calibrate(once, torch_generator(seed, "sweep"))
        before, after = (residual(m, torch_generator(seed, "held out"), 4) for m in (raw, once))
        assert after.largest <= 2.0 < before.largest
        assert after.rms < before.rms / 2
        for name in ("slope", "shift", "master"):
            assert torch.equal(*(getattr(m.bank.correction, name) for m in (once, twice)))


def test_05_lines_of_current_are_less_linear_however_calibrated() -> None:
    found, converted = {}, {}
    for name, line in (("charge", LineErrors()), ("current", CURRENT)):
        macro = charge_macro(capram(), torch_generator(0, name), line)
        calibrated = calibrate(macro, torch_generator(1))
        found[name] = line_residual(calibrated, torch_generator(2)).rms
        converted[name] = residual(calibrated, torch_generator(2), 4).rms
    assert converted["current"] > 1.5 * converted["charge"]  # noise of converters in both
    assert found["current"] > 3 * found["charge"]


def test_05_lines_that_saturate_are_straightened_where_they_are_used() -> None:
    macro = charge_macro(capram(), torch_generator(0), LineErrors(current=0.0), NO_ERRORS)
    ones = torch.ones(64, 32, dtype=torch.long)
    x = torch.zeros(1, 64, dtype=torch.long)
    x[0, :6] = 7
    errors = []
    for bank in (macro.bank, calibrate(macro, torch_generator(1), 60.0).bank):
        blank = replace(macro, bank=bank, cells=torch.zeros_like(macro.cells), used=0)
        errors.append(float((blank.write(ones, capram().spec, 60.0).multiply(x) - 42).abs().max()))
    assert errors[1] < 1.0 < errors[0]


def test_05_a_sweep_that_shows_nothing_is_refused() -> None:
    from cofit.targets.arrays.sar import calibrated

    bank = sar_bank(1, 7, NO_ERRORS, torch_generator(0))
    flat = torch.full((5, 1), 3.0)
    with pytest.raises(ConfigError, match="same code for the whole sweep"):
        calibrated(bank, flat, flat, torch.zeros(1, dtype=torch.long))


def test_06_addresses_do_not_disturb_each_other() -> None:
    chip = capram()
    macro = charge_macro(chip, torch_generator(3))
    x = torch.randint(8, (5, 64), generator=torch_generator(4))

    def product(placed) -> torch.Tensor:
        return macro.lines(placed, 100.0).multiply(x, torch_generator(5))

    placed, before = [], []
    for address in range(8):
        matrix = weights(chip.spec, 64, 64, address)
        placed.append(macro.place(matrix, chip.spec))
        before.append(product(placed[-1]))
        assert macro.used == 128 * (address + 1)
        for earlier, expected in zip(placed, before, strict=True):
            assert torch.equal(product(earlier), expected)
    assert len({tuple(y.flatten().tolist()) for y in before}) == 8
    macro.cells[2, 10, 7 * 2] ^= 1  # a cell of set 2 is seen by set 2 alone
    changed = [not torch.equal(product(p), y) for p, y in zip(placed, before, strict=True)]
    assert changed == [False, False, True, False, False, False, False, False]
    with pytest.raises(TargetError, match=r"1,024 are taken; .* needs 2: 2 too many"):
        macro.place(torch.ones(1, 1, dtype=torch.long), chip.spec)


def test_07_one_cell_too_many_is_refused_and_an_exact_fit_is_not() -> None:
    binary = capram("1")
    exact = {"a": Matrix(64, 1000, 1), "b": Matrix(64, 24, 9)}
    assert check_capacity(binary, exact) == 65536
    with pytest.raises(TargetError, match=r"65,536 cells, the network needs 65,537: 1 too many"):
        check_capacity(binary, exact | {"c": Matrix(1, 1, 1)})


def test_08_peak_is_the_published_one_and_half_the_rows_give_half() -> None:
    rate, efficiency = capram("1.5").peak()
    assert rate == pytest.approx(573.4e9, rel=0.005)
    assert efficiency == pytest.approx(49.4e12, rel=0.005)
    half = capram("1.5").peak(rows=32)
    assert half[0] == pytest.approx(rate / 2) and half[1] < efficiency
    # an operation on a weight of several digits takes as many conversions
    for precision, (_, digits) in PRECISIONS.items():
        one = capram(precision).cost(Matrix(64, 64, 10))
        assert one.energy_pj["converters"] == pytest.approx(
            digits * capram().cost(Matrix(64, 64, 10)).energy_pj["converters"]
        )
        assert one.latency_s == pytest.approx(digits * 10 / 70e6)
