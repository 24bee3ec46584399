"""Polarised fragments: acceptance of FORMS that needs projection, storage and counting alone."""

import itertools
import math

import numpy as np
import pytest
import torch

from cofit.core import ConfigError, StructureError, torch_generator
from cofit.structures import Polarised, Rows, best_order, from_bytes, parse, to_bytes
from cofit.structures.formats import polar
from cofit.structures.formats.matrix import ORDERS, grouped
from cofit.targets.arrays import Crossbar, input_cycles, used_matrix


def energies(weight, m, order):
    v = grouped(weight, m, order)
    return v.clamp(min=0).square().sum(-1), v.clamp(max=0).square().sum(-1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("m", [1, 4, 8, 16, 128])
def test_01_distance_is_the_smaller_energy_of_every_fragment(m, order):
    weight = torch.randn(70, 5, 3, 3, generator=torch_generator(m), dtype=torch.float64)
    structure = Polarised(m, order)
    projected = structure.project(weight)
    positive, negative = energies(weight, m, order)
    distance = grouped((weight - projected).square(), m, order).sum(-1)
    assert torch.allclose(distance, torch.minimum(positive, negative), rtol=1e-12, atol=1e-15)
    assert torch.equal(structure.project(projected), projected)
    by_sum = structure.clamp(weight, structure.signs(weight, "sum"))
    assert structure.check(by_sum) is None
    published = grouped((weight - by_sum).square(), m, order).sum(-1)
    assert bool((published >= distance - 1e-12).all())
    if m in (4, 8, 16):
        assert bool((published > distance + 1e-9).any())  # the sum of signs is another rule


def test_01_no_random_member_is_nearer():
    generator = torch_generator(1)
    weight = torch.randn(1, 8, generator=generator, dtype=torch.float64)
    least = (weight - Polarised(8).project(weight)).square().sum()
    spread = torch.rand(10_000, 1, generator=generator, dtype=torch.float64)
    near = weight + spread * torch.randn(10_000, 8, generator=generator, dtype=torch.float64)
    sign = torch.randint(0, 2, (10_000, 1), generator=generator) * 2 - 1
    members = torch.where(near * sign >= 0, near, 0.0)
    members[:2] = torch.stack([weight[0].clamp(min=0), weight[0].clamp(max=0)])
    distances = (weight - members).square().sum(1)
    assert float(distances.min()) >= float(least) * (1 - 1e-12)
    assert float(distances[:2].min()) == pytest.approx(float(least))


def test_04_one_sign_bit_per_fragment_and_no_negative_magnitude():
    for shape in ((37, 5, 3, 3), (16, 24), (3, 1, 5, 5)):
        for m in (4, 8, 16):
            weight = Polarised(m).project(torch.randn(shape, generator=torch_generator(m)))
            encoding = Polarised(m).encode(weight.numpy())
            bits = math.ceil(math.prod(shape[1:]) / m) * shape[0]
            assert polar.fragment_signs(encoding).size == bits
            assert encoding.arrays["signs"].nbytes == math.ceil(bits / 8)
            assert encoding.arrays["values"].min() >= 0
            again = from_bytes(to_bytes(encoding))
            assert np.array_equal(again.decode(), weight.numpy())


def test_04_pruned_fragments_are_neither_stored_nor_signed():
    weight = torch.randn(12, 16, generator=torch_generator(4))
    for structure in (parse("channel@2"), Rows(8, 2.0), Polarised(8)):
        weight = structure.project(weight)
    encoding = Polarised(8).encode(weight.numpy())
    assert encoding.arrays["values"].shape == (6, 8)
    assert polar.fragment_signs(encoding).shape == (6, 1)
    assert used_matrix(weight, 8) == (8, 6)
    int8 = Polarised(8).project((weight * 40).round().to(torch.int8))
    assert Polarised(8).encode(int8.numpy()).arrays["values"].dtype == np.uint8


def test_08_the_reduction_is_the_product_of_three_and_crossbars_are_whole():
    geometry = Crossbar()
    assert geometry.cells(32, "split") / geometry.cells(8, "split") == 4
    assert geometry.cells(8, "split") / geometry.cells(8, "polarised") == 2
    rows, filters = 128 * 24, 128 * 8
    dense = geometry.count(rows, filters, 32, "split")
    pruned = geometry.count(rows // 4, filters // 2, 8, "polarised")
    assert dense / pruned == 4 * 2 * 8
    assert geometry.count(129, 33, 8, "polarised") == 2 * 2
    assert geometry.count(1, 1, 32, "split") == 1
    assert [geometry.cells(8, s) for s in ("split", "offset", "polarised")] == [8, 4, 4]


def loop_cycles(row, m):
    return [
        max((int(x).bit_length() for x in row[i : i + m]), default=0) for i in range(0, len(row), m)
    ]


@pytest.mark.parametrize("m", [1, 3, 8, 128])
def test_06_cycles_are_those_of_the_longest_input_of_each_group(m):
    inputs = torch.randint(0, 1 << 16, (20, 50), generator=torch_generator(m))
    inputs[inputs % 3 == 0] = 0
    inputs[:, 16:32] = 0
    inputs[0, :9] = torch.tensor([0, 1, 2, 3, 4, 7, 8, (1 << 16) - 1, 1 << 15])
    found = input_cycles(inputs, m)
    assert found.tolist() == [loop_cycles(row, m) for row in inputs.tolist()]


def test_06_longer_groups_take_no_fewer_cycles():
    generator = torch_generator(6)
    inputs = (torch.randn(400, 128, generator=generator).clamp(min=0) * 2048).long()
    means = [float(input_cycles(inputs, m).double().mean()) for m in (1, 4, 8, 16, 128)]
    assert means == sorted(means)
    assert means[0] == pytest.approx(np.mean([x.bit_length() for x in inputs.flatten().tolist()]))
    # published for this spec: 5.3 10.6 11.8 12.2 13.0 on half-normal data, half of it zero
    assert means == pytest.approx([5.3, 10.6, 11.8, 12.2, 13.0], abs=0.35)


def test_10_what_a_polarised_array_cannot_take_is_refused():
    generator = torch_generator(10)
    with pytest.raises(StructureError, match="not polarised8, at"):
        Polarised(8).encode(torch.randn(4, 16, generator=generator).numpy())
    with pytest.raises(StructureError, match="1 to 128 rows"):
        parse("polarised200")
    with pytest.raises(ConfigError, match="encode negative ones"):
        input_cycles(torch.tensor([[3, -1]]), 2)
    with pytest.raises(ConfigError, match="split, offset, polarised"):
        Crossbar().cells(8, "bipolar")
    wide = np.full((2, 8), -128, np.int8)
    with pytest.raises(StructureError, match="magnitude 128"):
        Polarised(8).encode(wide)
    with pytest.raises(StructureError, match="NaN"):
        best_order(torch.full((2, 8), torch.nan), 8)


def test_the_best_order_is_the_nearest():
    weight = torch.randn(6, 8, 3, 3, generator=torch_generator(2))
    weight[:, :, 1] = weight[:, :, 1].abs()
    distances = {
        order: float((weight - Polarised(3, order).project(weight)).square().sum())
        for order in ORDERS
    }
    assert best_order(weight, 3) == min(distances, key=distances.get) == "w"


def test_row_groups_are_rows_of_the_crossbar():
    weight = torch.randn(6, 8, 3, 3, generator=torch_generator(3))
    projected = Rows(8, 3.0).project(weight)  # channels fastest: a group is a kernel position
    kept = (projected != 0).any(0).any(0)
    energy = weight.square().sum((0, 1)).flatten()
    assert kept.flatten().nonzero().flatten().tolist() == sorted(energy.topk(3).indices.tolist())
    assert bool((projected != 0)[:, :, kept].all())


@pytest.mark.parametrize("order", ORDERS)
def test_01_rows_of_polarised_fragments_are_chosen_by_what_the_signs_leave(order):
    joint = parse(f"rows4{order.removeprefix('c')}@3+polarised4{order.removeprefix('c')}")
    for seed in range(2):
        weight = torch.randn(6, 8, 3, 3, generator=torch_generator(seed), dtype=torch.float64)
        kept = torch.maximum(*energies(weight, 4, order)).sum(0)  # (groups,) over all columns
        best = max(
            float(kept[list(chosen)].sum()) for chosen in itertools.combinations(range(18), 6)
        )
        projected = joint.project(weight)
        assert joint.check(projected) is None
        assert float(projected.square().sum()) == pytest.approx(best, rel=1e-12)
    swapped = parse("+".join(reversed(joint.text.split("+"))))
    assert swapped == joint
    # rows first is a member too, and not nearer
    steps = Polarised(4, order).project(Rows(4, 3.0, order).project(weight))
    assert joint.check(steps) is None
    assert (weight - projected).norm() <= (weight - steps).norm()


def test_rows_and_signs_that_were_chosen_stay_chosen():
    joint = parse("rows8@2+polarised8")
    member = joint.project(torch.randn(5, 32, generator=torch_generator(1)))
    moved = joint.within(member, member + 3 * torch.randn(5, 32, generator=torch_generator(2)))
    assert joint.check(moved) is None
    assert torch.equal((moved != 0).any(0) & (member == 0).all(0), torch.zeros(32).bool())
    assert not bool((moved * member < 0).any())
    assert not joint.by_zeros
    both_signs = member.abs() * (torch.arange(32) % 2 * 2 - 1)
    with pytest.raises(StructureError, match="stands in a fragment with positive weights"):
        joint.encode(both_signs.numpy())
