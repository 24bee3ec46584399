"""Complementary pairs: acceptance of DDC-PIM that needs projection, storage and matching alone."""

import numpy as np
import pytest
import torch

from cofit.core import StructureError, torch_generator
from cofit.structures import (
    Complementary,
    from_bytes,
    match_filters,
    matching_cost,
    pair_levels,
    parse,
    to_bytes,
)
from cofit.structures.complementary import real_pairs

PAIRS = Complementary()


def test_01_error_is_half_the_variance_of_the_sum():
    generator = torch_generator(1)
    for length in (3, 27, 576):
        weight = torch.randn(8, length, generator=generator, dtype=torch.float64)
        error = (weight - PAIRS.project(weight)).square().sum(1).reshape(-1, 2).sum(1)
        total = weight[0::2] + weight[1::2]
        expected = length / 2 * total.var(1, correction=0)
        assert torch.allclose(error, expected, rtol=1e-9)
    weight = torch.randn(400, 576, generator=generator, dtype=torch.float64)
    relative = (weight - PAIRS.project(weight)).square().sum() / weight.square().sum()
    assert float(relative) == pytest.approx(0.5, abs=0.01)


def test_02_no_random_feasible_integer_point_is_nearer():
    generator = torch_generator(2)
    weight = torch.randint(-30, 31, (2, 9), generator=generator, dtype=torch.int8)
    near = PAIRS.project(weight)
    least = (weight.double() - near.double()).square().sum()
    first = weight[0].double() + torch.randint(-9, 10, (10_000, 9), generator=generator)
    total = weight.sum(0).double().mean() + torch.randint(-3, 4, (10_000, 1), generator=generator)
    second = total.round() - first
    distance = (weight[0] - first).square().sum(1) + (weight[1] - second).square().sum(1)
    assert float(distance.min()) >= float(least)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_02_the_integer_projection_is_the_optimum_of_all_points(length):
    for trial in range(40):
        generator = torch_generator(trial, length)
        weight = torch.randint(-4, 5, (2, length), generator=generator, dtype=torch.int8)
        best = min(
            sum(
                min((int(a) - x) ** 2 + (int(b) - s + x) ** 2 for x in range(-14, 15))
                for a, b in weight.T
            )
            for s in range(-9, 10)
        )
        found = PAIRS.project(weight)
        assert PAIRS.check(found) is None
        assert int((weight.long() - found.long()).square().sum()) == best


def test_04_constraint_survives_storage_in_float_and_integer():
    generator = torch_generator(4)
    for scale in (1e-30, 1.0, 1e20):
        weight = PAIRS.project(scale * torch.randn(6, 4, 3, 3, generator=generator))
        assert torch.equal(PAIRS.project(weight), weight)
        assert PAIRS.check(weight) is None
        again = torch.from_numpy(from_bytes(to_bytes(PAIRS.encode(weight.numpy()))).decode())
        assert torch.equal(again, weight) and PAIRS.check(again) is None
        worst = (weight.double() - real_pairs(weight.double())).abs().max()
        assert float(worst) == 0
    order = [2, 3, 0, 1, 5, 4]  # whole pairs move, and a pair may turn
    assert PAIRS.check(weight[order]) is None
    assert PAIRS.check(weight[[1, 2, 3, 4, 5, 0]]) is not None


def test_03_half_the_bytes_and_one_bit_moves_both_filters_apart():
    generator = torch_generator(3)
    levels = PAIRS.project(
        torch.randint(-127, 128, (8, 3, 3, 3), generator=generator, dtype=torch.int8)
    )
    encoding = PAIRS.encode(levels.numpy())
    assert encoding.arrays["values"].nbytes * 2 == levels.numel()
    assert encoding.nbytes == levels.numel() // 2 + 4 * 4
    assert set(encoding.arrays) == {"values", "constants"}
    before = encoding.decode().astype(int)
    for bit in range(8):
        encoding.arrays["values"][1, 5] ^= np.int8(1 << bit) if bit < 7 else np.int8(-128)
        change = (encoding.decode().astype(np.int8) - before.astype(np.int8)).reshape(8, -1)
        assert change[2, 5] != 0 and (int(change[2, 5]) + int(change[3, 5])) % 256 == 0
        assert np.count_nonzero(change) == 2
        encoding.arrays["values"][1, 5] ^= np.int8(1 << bit) if bit < 7 else np.int8(-128)


def test_05_gradient_is_exact_and_pairs_have_one_number_more_than_a_filter():
    weight = torch.randn(4, 3, generator=torch_generator(5), dtype=torch.float64)
    assert torch.autograd.gradcheck(real_pairs, weight.requires_grad_(), atol=1e-6)
    jacobian = torch.autograd.functional.jacobian(real_pairs, weight).reshape(12, 12)
    assert int(torch.linalg.matrix_rank(jacobian)) == 4 // 2 * (3 + 1)
    assert torch.allclose(jacobian @ jacobian, jacobian) and torch.allclose(jacobian, jacobian.T)


def total(cost, order):
    return sum(cost[a, b] for a, b in zip(order[0::2], order[1::2], strict=False))


def all_matchings(items):
    if len(items) < 2:
        yield []
        return
    for i in range(1, len(items)):
        rest = items[1:i] + items[i + 1 :]
        for pairs in all_matchings(rest):
            yield [(items[0], items[i]), *pairs]


@pytest.mark.parametrize("count", [2, 4, 8, 10])
def test_06_matching_is_the_best_of_all(count):
    weight = torch.randn(count, 9, generator=torch_generator(count))
    cost = matching_cost(weight)
    best = min(sum(cost[p] for p in pairs) for pairs in all_matchings(list(range(count))))
    assert total(cost, match_filters(cost)) == pytest.approx(best)


@pytest.mark.parametrize("count", [5, 11, 14, 33, 64])
def test_06_matched_is_no_worse_than_adjacent_and_says_the_error(count):
    weight = torch.randn(count, 18, generator=torch_generator(count), dtype=torch.float64)
    cost = matching_cost(weight)
    order = match_filters(cost)
    assert sorted(order) == list(range(count))
    matched = weight[order]
    error = float((matched - PAIRS.project(matched)).square().sum())
    assert error == pytest.approx(total(cost, order))
    adjacent = float((weight - PAIRS.project(weight)).square().sum())
    assert error <= adjacent and (count > 11 or error < adjacent)


def test_09_bad_pairs_are_refused():
    generator = torch_generator(9)
    weight = torch.randn(4, 8, generator=generator)
    with pytest.raises(StructureError, match="filters 0 and 1 have scales 1 and 2"):
        pair_levels(weight, torch.tensor([1.0, 2.0, 1.0, 1.0]))
    with pytest.raises(StructureError, match="filters 0 and 1 add up to"):
        PAIRS.encode(weight.numpy())
    low = torch.full((2, 4), -128, dtype=torch.int8)
    with pytest.raises(StructureError, match=r"outside -127\.\.127"):
        PAIRS.encode(low.numpy())
    with pytest.raises(StructureError, match="a pair takes two filters"):
        PAIRS.project(weight[:1])
    with pytest.raises(StructureError, match="cannot join"):
        parse("complementary+int8")
    with pytest.raises(StructureError, match="NaN"):
        PAIRS.project(weight * torch.nan)
    with pytest.raises(StructureError, match="float16"):
        PAIRS.project(weight.half())
