"""Projection against brute force over every member's support, on small weights."""

import itertools

import numpy as np
import pytest
import torch

from cofit.core import torch_generator
from cofit.structures import FixedPoint, parse
from cofit.structures.counting import kept_count, observed_rate


def energy_of_best_support(weight, supports):
    """Largest energy that any of the boolean supports keeps."""
    square = weight.double().square()
    return max(float(square[s].sum()) for s in supports)


def unions(units, count):
    """Every union of `count` units (bool masks)."""
    for chosen in itertools.combinations(units, count):
        yield torch.stack(chosen).any(0)


def marked(shape, places):
    mask = torch.zeros(shape, dtype=torch.bool)
    for place in places:
        mask[place] = True
    return mask


def units_of(text, shape):
    """Units of a form written as plain loops, and how many stay."""
    k, c, r, s = shape
    name, rate = text.split("@")
    if name == "unstructured":
        return [marked(shape, [i]) for i in np.ndindex(shape)], float(rate)
    if name == "channel":
        return [marked(shape, [i]) for i in range(k)], float(rate)
    if name == "connectivity":
        return [marked(shape, [i]) for i in np.ndindex(k, c)], float(rate)
    out, in_ = map(int, name.removeprefix("block").split("x"))
    units = []
    for k0, c0, i, j in itertools.product(range(0, k, out), range(0, c, in_), range(r), range(s)):
        rows, columns = range(k0, min(k0 + out, k)), range(c0, min(c0 + in_, c))
        units.append(marked(shape, [(a, b, i, j) for a in rows for b in columns]))
    return units, float(rate)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("unstructured@4", (2, 2, 1, 3)),
        ("channel@2", (5, 2, 1, 2)),
        ("connectivity@2.5", (3, 4, 2, 2)),
        ("block2x1@3", (5, 2, 1, 2)),
        ("block2x2@2", (3, 3, 1, 3)),
        ("block1x4@3", (3, 5, 1, 2)),
        ("block4x4@2", (6, 6, 1, 2)),
    ],
)
def test_units_kept_are_the_best_of_all_choices(text, shape):
    units, rate = units_of(text, shape)
    count = -(-len(units) // rate)
    for seed in range(5):
        weight = torch.randn(shape, generator=torch_generator(seed, text))
        best = energy_of_best_support(weight, unions(units, int(count)))
        got = parse(text).project(weight)
        assert float(got.double().square().sum()) == pytest.approx(best, rel=1e-12)
        assert int(parse(text).mask(weight).sum()) == int(
            sum(u.sum() for u in units if parse(text).mask(weight)[u].all())
        )
        assert sum(bool(parse(text).mask(weight)[u].any()) for u in units) == count


def test_stripe_is_the_block_of_one_column():
    weight = torch.randn(19, 6, generator=torch_generator(0))
    assert torch.equal(parse("stripe8@3").project(weight), parse("block8x1@3").project(weight))
    stripe, block = parse("stripe8@3"), parse("block8x1@3")
    member = stripe.project(weight).numpy()
    assert stripe.encode(member).format == block.encode(member).format == "ocb"


def test_balanced_connectivity_is_the_best_in_every_filter():
    weight = torch.randn(3, 5, 2, 2, generator=torch_generator(1))
    got = parse("connectivity-filter@2").project(weight)
    for k in range(3):
        norms = weight[k].square().sum((1, 2))
        best = max(float(norms[list(c)].sum()) for c in itertools.combinations(range(5), 3))
        assert float(got[k].square().sum()) == pytest.approx(best)
    uneven = torch.zeros(2, 4, 1, 1)
    uneven[0] = 1.0
    assert parse("connectivity@2").check(uneven) is None
    assert parse("connectivity-filter@2").check(uneven).where == (0, 2)


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (3, 5)])
def test_nm_is_the_best_in_every_group(n, m):
    weight = torch.randn(2, 11, generator=torch_generator(2))
    got = parse(f"nm{n}:{m}").project(weight)
    for k, start in itertools.product(range(2), range(0, 11, m)):
        group = weight[k, start : start + m].double().square()
        best = max(
            float(group[list(c)].sum())
            for c in itertools.combinations(range(len(group)), min(n, len(group)))
        )
        assert float(got[k, start : start + m].double().square().sum()) == pytest.approx(best)


@pytest.mark.parametrize(
    "text", ["unstructured@4", "block2x1@4", "channel@4", "connectivity@4", "pattern4g1@9"]
)
def test_ties_keep_the_lower_index_and_the_exact_count(text):
    mask = parse(text).mask(torch.ones(8, 4, 3, 3))
    assert int(mask.sum()) == 8 * 4 * 9 // round(parse(text).rate)
    order = mask.any(3).any(2).flatten().int() if "pattern" in text else mask[:2].flatten().int()
    assert bool((order.diff() <= 0).all()) or text == "block2x1@4"
    zero = parse(text).mask(torch.zeros(8, 4, 3, 3))
    assert torch.equal(zero, mask)  # counts are exact even where nothing has energy


def test_counts_are_exact_for_decimal_rates():
    assert kept_count(4096, 3.6) == 1138  # 1137.8
    assert kept_count(81, 8.1) == 10  # 81 / 8.1 is 10.000000000000002 in floating point
    assert kept_count(3, 1e9) == 1
    for units in (1, 7, 1000, 2359296):
        for kept in {1, 2, units // 3, units - 1, units} - {0}:
            if kept <= units:
                assert kept_count(units, observed_rate(units, kept)) == kept


def nearest_by_hand(row, top):
    scale = np.abs(row).max() / top
    return np.round(row / scale) * scale


@pytest.mark.parametrize("bits", [4, 8])
def test_fixed_point_takes_the_nearest_grid_point(bits):
    grid = FixedPoint(bits)
    weight = torch.randn(7, 50, generator=torch_generator(4)) * torch.logspace(-20, 8, 7)[:, None]
    projected = grid.project(weight)
    scale = grid.scale(weight)
    levels = torch.arange(-grid.largest, grid.largest + 1, dtype=torch.float64)
    for k in range(7):  # against every point of the channel's grid
        distance = (weight[k].double()[:, None] - levels * scale[k]).abs()
        assert torch.equal((weight[k].double() - projected[k].double()).abs(), distance.amin(1))
        by_hand = nearest_by_hand(weight[k].double().numpy(), grid.largest)
        assert np.abs(by_hand - projected[k].numpy()).max() <= float(scale[k]) * 1.001
        assert float(scale[k]) == pytest.approx(
            float(weight[k].abs().max()) / grid.largest, rel=2**-15
        )
    assert float(projected.abs().amax(1)[0]) == float(scale[0]) * grid.largest


@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-30])
def test_fixed_point_stays_idempotent_among_tiny_weights(size):
    weight = torch.randn(3, 9, generator=torch_generator(5)) * size
    once = FixedPoint(8).project(weight)
    assert torch.equal(once, FixedPoint(8).project(once)) and FixedPoint(8).check(once) is None


def joint_least_distance(weight, supports, grid):
    """Least squared distance over supports, each with the grid of what it keeps."""
    return min(
        float((weight - grid.project(torch.where(s, weight, 0.0))).double().square().sum())
        for s in supports
    )


def test_nm_then_grid_is_exact():
    grid, both = FixedPoint(4), parse("nm2:4+int4")
    pairs = [marked((4,), c) for c in itertools.combinations(range(4), 2)]
    supports = [torch.cat([a, b])[None] for a in pairs for b in pairs]
    for seed in range(40):
        weight = torch.randn(1, 8, generator=torch_generator(seed, "nm"))
        got = float((weight - both.project(weight)).double().square().sum())
        # the grid spans the largest kept weight; supports that drop it have another grid
        same = [s for s in supports if s[0, int(weight.abs().argmax())]]
        assert got <= joint_least_distance(weight, same, grid) * (1 + 1e-9)


def test_block_then_grid_is_near_within_the_stated_bound():
    grid, both = FixedPoint(4), parse("block2x1@2+int4")
    units, _ = units_of("block2x1@2", (4, 3, 1, 1))
    for seed in range(40):
        weight = torch.randn(4, 3, 1, 1, generator=torch_generator(seed, "block"))
        least = joint_least_distance(weight, unions(units, 3), grid)
        projected = both.project(weight)
        got = float((weight - projected).double().square().sum())
        kept = both.mask(weight).double()
        slack = float((kept * (grid.scale(projected)[:, None, None, None] / 2) ** 2).sum())
        assert least - 1e-9 <= got <= least + slack + 1e-9


def test_block_then_grid_is_not_exact():
    # steps of about 1: rounding costs block (1.5, 1.5) 0.5 and block (2, 0.6) 0.16, more than
    # the first is ahead in energy (4.5 against 4.36)
    weight = torch.tensor([[7.0, 1.5, 2.0], [7.0, 1.5, 0.6]]).reshape(2, 3, 1, 1)
    both = parse("block2x1@1.5+int4")
    units, _ = units_of("block2x1@1.5", (2, 3, 1, 1))
    least = joint_least_distance(weight, unions(units, 2), FixedPoint(4))
    got = float((weight - both.project(weight)).double().square().sum())
    assert bool(both.mask(weight)[:, 1].all())
    assert (got, least) == pytest.approx((4.36 + 0.5, 4.5 + 0.16), abs=1e-3)
    assert both.approximation is not None
