"""Detection of a structure from a zero set."""

import pytest
import torch

from cofit.core import StructureError, UnknownNameError, torch_generator
from cofit.structures import (
    ALL_CENTRED,
    Pattern,
    PatternLibrary,
    density,
    detect,
    kept_fraction,
    parse,
)


def member(text, shape=(64, 32, 3, 3), seed=0):
    return parse(text).project(torch.randn(shape, generator=torch_generator(seed, text)))


@pytest.mark.parametrize(
    "text",
    "block32x4@8 block32x1@8 block16x4@5 block16x1@4 block8x1@3.5 pattern8g8@6 pattern8g4@2.25 "
    "pattern8g4@9 pattern8g1@8.1 pattern4g1@9 corner4g1@2.25 pattern13g1@1.8 channel@3 nm2:4 "
    "nm1:4 unstructured@8".split(),
)
def test_the_form_that_made_the_zeros_is_found(text):
    weight = member(text)
    found = detect(weight)
    assert found == parse(text) or found.text.split("@")[0] == text.split("@")[0]
    assert found.check(weight) is None
    assert found.nbytes(tuple(weight.shape), 4) == found.encode(weight.numpy()).nbytes
    assert kept_fraction(found, weight) == pytest.approx(density(weight))


def test_rates_are_the_shortest_that_hold():
    assert detect(member("block16x1@8")).text == "block16x1@8"
    assert detect(member("pattern8g1@8.1")).text == "pattern8g1@8.1"
    assert detect(member("unstructured@3.7")).rate == pytest.approx(3.7, rel=1e-3)


def test_linear_weights():
    assert detect(member("stripe16@8", (128, 96))).text == "block16x1@8"
    assert detect(member("unstructured@4", (128, 96))).text == "unstructured@4"


def test_an_extracted_library_is_recognised():
    library = PatternLibrary(ALL_CENTRED.masks[3:40:7])
    for group in (1, 4):
        weight = Pattern(library, group, 6).project(
            torch.randn(64, 32, 3, 3, generator=torch_generator(1))
        )
        found = detect(weight)
        assert isinstance(found, Pattern) and found.group == group
        assert set(found.library.masks) == set(library.masks)


def test_dense_and_nearly_dense_weights_have_no_structure():
    weight = torch.randn(64, 32, 3, 3, generator=torch_generator(2))
    assert detect(weight) is None
    weight[torch.rand(weight.shape, generator=torch_generator(3)) < 0.01] = 0
    assert detect(weight) is None  # int8 rounding leaves as many
    weight[5] = 0
    assert detect(weight) is None or detect(weight).text.startswith("channel")


def test_a_few_accidental_zeros_do_not_hide_the_form():
    weight = member("block16x1@4")
    weight[torch.rand(weight.shape, generator=torch_generator(4)) < 0.02] = 0
    assert detect(weight).text == "block16x1@4"


def test_accidental_fill_does_not_fake_a_form():
    weight = member("block16x1@4")
    weight[torch.rand(weight.shape, generator=torch_generator(5)) < 0.02] = 1.0
    assert detect(weight).text.startswith("unstructured")


def test_all_zero_weights_have_a_structure():
    zero = torch.zeros(32, 8, 3, 3)
    assert detect(zero).check(zero) is None
    assert detect(torch.zeros(5, 1, 3, 3)) is not None


def test_candidates_limit_and_order_the_choice():
    weight = member("block32x4@8")
    assert detect(weight, ["unstructured", "block32x4"]).text.startswith("unstructured")
    assert detect(weight, ["block2x2", "block32x4"]).text.startswith("block2x2")
    assert detect(weight, ["nm2:4", "channel"]) is None
    with pytest.raises(UnknownNameError, match="block32x4"):
        detect(weight, ["blck32x4"])
    with pytest.raises(StructureError, match="int8 shows in no zeros"):
        detect(weight, ["int8"])


def test_density():
    assert density(torch.tensor([[0.0, 1.0, 2.0, 0.0]])) == 0.5
    assert kept_fraction(parse("channel@2"), torch.ones(5, 2)) == 0.6
