"""The public checks over every form and ragged shapes; and that the checks bite."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from structure_cases import CASES, TEXTS

from cofit.core import torch_generator
from cofit.structures import Block, Unstructured, parse
from cofit.structures.testing import CHECKS, check_encoding, check_nearest, check_projection


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("text", "shape"), CASES, ids=str)
def test_structure_conforms(text, shape, check):
    check(parse(text), shape, torch_generator(0, text, *shape))


def test_every_form_has_at_least_two_shapes():
    for text in TEXTS:
        assert sum(text == case for case, _ in CASES) >= 2, text


@settings(max_examples=60, deadline=None)
@given(
    text=st.sampled_from(TEXTS),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 13), st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 2**32),
)
def test_structure_conforms_on_any_shape_it_accepts(text, shape, seed):
    structure = parse(text)
    assume(structure.applies(shape) is None)
    for check in CHECKS:
        check(structure, shape, torch_generator(seed))


@settings(max_examples=30, deadline=None)
@given(rate=st.floats(1, 1e6), form=st.sampled_from(["unstructured", "block3x2", "channel"]))
def test_any_rate_reads_back(rate, form):
    structure = parse(f"{form}@{rate!r}")
    assert structure.rate == rate and parse(structure.text) == structure
    structure.project(torch.ones(6, 4))  # even a rate beyond the number of units keeps one
    assert structure.nbytes((6, 4), 1) >= 1


@dataclass(frozen=True)
class KeepsTies(Unstructured):
    """The classic mistake: everything at the threshold stays."""

    def select(self, energy):
        count = int(super().select(energy).sum())
        return energy >= energy.flatten().topk(count).values[-1]


@dataclass(frozen=True)
class KeepsFirst(Unstructured):
    """A mask of the right size in the wrong place."""

    def select(self, energy):
        return super().select(torch.arange(energy.numel(), 0, -1.0).reshape(energy.shape))


@dataclass(frozen=True)
class LosesSign(Block):
    """An encoding that is nearly right."""

    def encode_elements(self, weight):
        encoding = super().encode_elements(weight)
        arrays = {n: np.abs(a) if n == "values" else a for n, a in encoding.arrays.items()}
        return replace(encoding, arrays=arrays)


def test_checks_catch_fakes():
    generator = torch_generator(3)
    with pytest.raises(AssertionError, match="nearer"):
        check_nearest(KeepsFirst(4), (9, 5), generator)
    with pytest.raises(AssertionError, match="decode differs"):
        check_encoding(LosesSign(2, 1, 2), (8, 4, 3, 3), generator)
    tied = torch.ones(4, 4)
    assert KeepsTies(4).check(KeepsTies(4).project(tied)) is not None
    check_projection(KeepsTies(4), (9, 5), generator)  # random weights have no ties: not enough
