"""Numbered checks of block-based structured pruning: columns of blocks, then rows, and the format.

Specification: RTMobile (DAC 2020, arXiv 2002.11474), acceptance 1, 2, 3, 6 and the refusals of 9.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from cofit.core import StructureError, torch_generator
from cofit.structures import BlockColumns, parse, to_bytes
from cofit.structures.formats import bspc


def random(*shape):
    return torch.randn(shape, generator=torch_generator(0, "rtmobile", *shape))


def rounded(value):
    return int(Fraction(value) + Fraction(1, 2))


@pytest.mark.parametrize("shape", [(96, 64), (100, 70), (33, 21)])
@pytest.mark.parametrize("a_c", [2, 4, 5])
def test_01_rows_of_a_stripe_share_their_columns(shape, a_c):
    """And each block keeps round(columns / a_c) of them, in the widths of ragged blocks too."""
    structure = BlockColumns(16, 16, a_c)
    kept = structure.project(random(*shape)) != 0
    for stripe in kept.split(16):
        assert bool((stripe.all(0) == stripe.any(0)).all())
        for block in stripe.any(0).split(16):
            assert int(block.sum()) == rounded(Fraction(block.numel(), a_c))


@pytest.mark.parametrize("shape", [(96, 64), (100, 70)])
@pytest.mark.parametrize("a_r", [1.25, 2, 1.6])
def test_02_rows_go_exactly_and_no_column_comes_back(shape, a_r):
    weight = random(*shape)
    both = BlockColumns(16, 16, 4 * a_r, a_r)
    first = both.columns.project(weight)
    second = both.project(weight)
    removed = int((second == 0).all(1).sum())
    assert removed == rounded(shape[0] * (1 - 1 / Fraction(str(float(a_r)))))
    assert bool(((second != 0) <= (first != 0)).all())
    assert torch.equal(second[second != 0], weight[second != 0])
    # the rows that stay of a stripe are those of the largest energy of what step 1 left
    for a, b in zip(first.split(16), second.split(16), strict=True):
        stays = (b != 0).any(1)
        energy = a.square().sum(1)
        assert energy[stays].min() >= energy[~stays].max()


def test_02_no_gate_loses_more_rows_than_another():
    """A gate of small weights would be emptied by one norm over all gates."""
    weight = torch.cat([random(32, 40), 0.01 * random(32, 40), random(32, 40)])
    kept = (BlockColumns(16, 10, 4, 2).project(weight) != 0).any(1)
    assert [int(gate.sum()) for gate in kept.split(32)] == [16, 16, 16]


def test_the_first_step_is_the_nearest_member():
    """Against all choices of 2 of 4 columns in each of 2 stripes x 2 blocks."""
    weight = random(6, 8)
    structure = BlockColumns(3, 4, 2)
    nearest = float("inf")
    for choice in itertools.product(itertools.combinations(range(4), 2), repeat=4):
        mask = torch.zeros(6, 8)
        for place, columns in enumerate(choice):
            stripe, block = divmod(place, 2)
            for column in columns:
                mask[3 * stripe : 3 * stripe + 3, 4 * block + column] = 1
        nearest = min(nearest, float((weight - mask * weight).square().sum()))
    found = float((weight - structure.project(weight)).square().sum())
    assert found == pytest.approx(nearest, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
@pytest.mark.parametrize("text", ["bsp16x16@4", "bsp7x9r1.4@4.2", "bsp64x30r2@8", "bsp5x50@3"])
@pytest.mark.parametrize("shape", [(96, 64), (101, 67), (64, 30)])
def test_03_the_format_is_bit_exact_on_ragged_blocks(text, shape, dtype):
    structure = parse(text)
    values = structure.project(random(*shape)).numpy()
    weight = values if dtype == np.float32 else np.sign(values).astype(np.int8)
    encoding = structure.encode(weight)
    assert encoding.format == "bspc" and encoding.decode().dtype == dtype
    assert encoding.decode().tobytes() == (weight + dtype(0)).tobytes()
    assert encoding.nbytes == structure.nbytes(shape, weight.itemsize)
    assert encoding.arrays["values"].size == np.count_nonzero(weight)  # nothing is padded
    assert len(to_bytes(encoding)) > encoding.nbytes


def test_03_the_format_by_hand():
    weight = np.zeros((5, 4), np.float32)
    weight[0, [1, 3]], weight[2, [1, 3]], weight[4, 0] = [1, 2], [3, 4], 5
    encoding = bspc.encode(weight, 3)
    assert {name: a.tolist() for name, a in encoding.arrays.items()} == {
        "rows": [0b10101],
        "count": [2, 1],
        "index": [1, 3, 0],
        "values": [1, 3, 2, 4, 5],  # column by column
    }


@pytest.mark.parametrize(("stripe", "most"), [(16, 0.15), (64, 0.04)])
def test_06_index_bytes_per_weight(stripe, most):
    structure = BlockColumns(stripe, 128, 10)
    encoding = structure.encode(structure.project(random(3072, 1024)).numpy())
    values = encoding.arrays["values"]
    assert (encoding.nbytes - values.nbytes) / values.size <= most
    assert values.size >= 0.09 * 3072 * 1024


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bsp64x16@0.5", "rate 0.5 is not possible.* from 1 up"),
        ("bsp64x16r2@1.5", "rate 1.5 is not possible.* from 2 up"),
        ("bsp0x16@2", "at least 1 row"),
    ],
)
def test_09_rates_that_keep_more_than_all_are_refused(text, words):
    with pytest.raises(StructureError, match=words):
        parse(text)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("bsp64x16@4", (48, 64), "a stripe has 64 rows, the weight 48"),
        ("bsp16x16@40", (48, 64), "at rate 40 a block of 16 columns keeps none"),
        ("bsp16x16r200@200", (48, 64), "a stripe of 16 keeps no row"),
        ("bsp16x16@4", (48, 64, 3, 3), "use block16x1 on a convolution"),
    ],
)
def test_09_weights_that_cannot_carry_it_are_refused(text, shape, words):
    with pytest.raises(StructureError, match=words):
        parse(text).project(random(*shape))


def test_check_names_the_place():
    structure = BlockColumns(4, 4, 2, 1.0)
    weight = structure.project(random(8, 8))
    assert structure.check(weight) is None
    row, column = 5, int((weight[4:, 4:] == 0).all(0).nonzero()[0]) + 4
    weight[row, column] = 1.0
    violation = structure.check(weight)
    assert violation is not None and "block 1 of stripe 1" in violation.reason
    rows = BlockColumns(4, 4, 4, 2.0)
    weight = rows.project(random(8, 8))
    gone = int((weight == 0).all(1).nonzero()[0])
    weight[gone] = weight[next(i for i in range(4) if i != gone and weight[i].any())]
    violation = rows.check(weight)
    assert violation is not None and "rows of stripe 0" in violation.reason
