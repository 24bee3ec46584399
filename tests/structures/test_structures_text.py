"""Names, families, applicability and composition."""

import json
import pickle
import subprocess
import sys

import pytest
import torch
from structure_cases import TEXTS

from cofit.core import StructureError, UnknownNameError, torch_generator
from cofit.structures import (
    NM,
    T_SHAPES,
    VGG8,
    Block,
    Channel,
    Composition,
    Connectivity,
    FixedPoint,
    Pattern,
    PatternLibrary,
    Stripe,
    Structure,
    Unstructured,
    family,
    known_families,
    parse,
    support,
)


@pytest.mark.parametrize(
    ("structure", "text"),
    [
        (Unstructured(4), "unstructured@4"),
        (Channel(2.0), "channel@2"),
        (Block(16, 1, 8), "block16x1@8"),
        (Block(32, 4, 8.25), "block32x4@8.25"),
        (Stripe(16, 8), "stripe16@8"),
        (Pattern(VGG8, 1, 9), "pattern8g1@9"),
        (Pattern(VGG8, 4, 2.25), "pattern8g4@2.25"),
        (Pattern(T_SHAPES, 1, 9), "pattern4g1@9"),
        (Pattern(PatternLibrary.of([(0, 1, 3), (5, 7, 8)]), 1, 3), "pattern[b-1a0]g1@3"),
        (Connectivity(3.6), "connectivity@3.6"),
        (Connectivity(3.6, "filter"), "connectivity-filter@3.6"),
        (NM(2, 4), "nm2:4"),
        (FixedPoint(8), "int8"),
        (Block(16, 1, 4) + FixedPoint(8), "block16x1@4+int8"),
        (Connectivity(2) + Pattern(VGG8, 1, 2.25) + FixedPoint(4),
         "connectivity@2+pattern8g1@2.25+int4"),
    ],
)  # fmt: skip
def test_text_is_the_json_form(structure, text):
    assert structure.text == text
    assert parse(json.loads(json.dumps(structure.text))) == structure
    assert isinstance(structure, Structure)
    assert pickle.loads(pickle.dumps(structure)) == structure  # workers of a search


def test_text_is_stable_across_processes():
    code = "from cofit.structures import parse; print(parse('pattern[b-1a0]g4@3+int8').text)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "pattern[b-1a0]g4@3+int8"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("blok16x1@4", UnknownNameError, "unknown structure 'blok16x1' .*'block16x1'"),
        ("pattern9g1@4", UnknownNameError, "did you mean 'pattern"),
        ("pattern8@4", UnknownNameError, "did you mean 'pattern8g"),
        ("", UnknownNameError, "known: "),
        ("block16x1", StructureError, "no pruning rate; write for example 'block16x1@4'"),
        ("block16x1@fast", StructureError, "'fast' in 'block16x1@fast' is not a pruning rate"),
        ("block16x1@0.5", StructureError, "rate 0.5 is not possible.* from 1 up"),
        ("block16x1@nan", StructureError, "rate nan"),
        ("block16x1@inf", StructureError, "rate inf"),
        ("block0x1@2", StructureError, "both sides are at least 1"),
        ("stripe0@2", StructureError, "at least 1"),
        ("pattern8g1@2", StructureError, r"rate 2\.0 .* from 2.25 up"),
        ("pattern8g3@4", StructureError, "groups of 1, 4, 8"),
        ("nm4:2", StructureError, "1 <= N <= M"),
        ("nm2:4@3", StructureError, "nm2:4 has rate 2, not 3"),
        ("int6", StructureError, "8 or 4 bits"),
        ("int8+block16x1@4", StructureError, "cannot join int8.block16x1@4; join one structure"),
        ("block16x1@4+channel@2", StructureError, "cannot join"),
        ("int8+int4", StructureError, "cannot join"),
        ("connectivity@2+pattern8g1@4", StructureError, "keeps all kernels"),
        ("connectivity@2+pattern8g4@2.25", StructureError, "group 1"),
        ("rows8@2+polarised4", StructureError, "of the same fragments"),
        ("rows8@2+polarised8w", StructureError, "of the same fragments"),
    ],
)
def test_what_cannot_be_read_is_explained(text, error, words):
    with pytest.raises(error, match=words):
        parse(text)


def test_families_take_a_rate():
    assert family("block16x1")(8) == Block(16, 1, 8)
    assert family("pattern8g4")(9) == Pattern(VGG8, 4, 9)
    assert family("pattern8g4").least_rate == 2.25
    assert family("nm2:4").fixed and family("nm2:4")(2) == NM(2, 4)
    assert family("block16x1+int8")(4).text == "block16x1@4+int8"
    assert family("nm2:4+int8")(2).text == "nm2:4+int8"
    with pytest.raises(StructureError, match="nm2:4 has rate 2, not 8"):
        family("nm2:4")(8)
    with pytest.raises(StructureError, match="2 rates"):
        family("connectivity+pattern8g1")
    with pytest.raises(UnknownNameError, match="did you mean 'unstructured'"):
        family("unstructurd")


def test_every_known_family_names_itself():
    for name in known_families():
        form = family(name)
        structure = form(form.least_rate)
        assert form.name == name
        assert parse(structure.text) == structure and structure.text.split("@")[0] == name


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        ("pattern8g1@4", (8, 8, 1, 1), "3x3 patterns, the kernels are 1x1"),
        ("pattern8g1@4", (8, 8), "kernels are 1x1"),
        ("pattern8g1@4", (32, 1, 3, 3), "use pattern8g1@2.25"),
        ("pattern8g8@4", (4, 8, 3, 3), "8 filters share a pattern, the weight has 4"),
        ("connectivity@2", (32, 1, 3, 3), "removes the output channel"),
        ("connectivity@2+pattern8g1@2.25", (32, 1, 3, 3), "removes the output channel"),
        ("block16x4@4", (32, 3, 3, 3), "4 input channels, the weight 3"),
        ("block32x1@4", (16, 8, 3, 3), "32 output channels, the weight 16"),
        ("block16x1@4", (32, 1, 3, 3), "depthwise"),
        ("stripe16@4", (32, 8, 3, 3), "use block16x1 on a convolution"),
        ("nm2:4", (32, 3), "has 3 weights, a group 4"),
        ("block16x4@4+int8", (32, 3, 3, 3), "4 input channels"),
        ("int8", (3, 4, 5), "weights are"),
    ],
)
def test_unsuited_shapes_are_refused_with_the_reason(text, shape, reason):
    structure = parse(text)
    assert reason in structure.applies(shape)
    uses = [
        lambda: structure.project(torch.zeros(shape)),
        lambda: structure.check(torch.zeros(shape)),
        lambda: structure.encode(torch.zeros(shape).numpy()),
        lambda: structure.nbytes(shape, 4),
    ]
    for use in uses:
        with pytest.raises(StructureError, match="does not fit a weight of shape"):
            use()


def test_suited_special_layers():
    for text, shape in [
        ("pattern8g1@2.25", (32, 1, 3, 3)),  # depthwise: pattern only
        ("pattern8g8@2.25", (32, 1, 3, 3)),
        ("connectivity@4", (32, 16, 1, 1)),  # 1x1: connectivity only
        ("block1x1@4", (32, 1, 3, 3)),
        ("stripe16@4", (10, 64)),
        ("unstructured@4", (32, 1, 3, 3)),
    ]:
        assert parse(text).applies(shape) is None, text


def test_support_keeps_accidental_zeros_trainable():
    weight = torch.randn(16, 4, 3, 3, generator=torch_generator(0))
    weight[0, 0, 0, 0] = 0.0
    weight[1:, 0, 0, 0] = 9.0  # its block is the strongest
    for text in ("block16x1@4", "block16x1@4+int8"):
        structure = parse(text)
        assert structure.project(weight)[0, 0, 0, 0] == 0
        assert bool(support(structure, weight)[0, 0, 0, 0])
        assert int(support(structure, weight).sum()) == 16 * 9
    assert bool(support(parse("int4"), weight).all())


class OnlyProjects:
    """A structure of others that has no mask."""

    def project(self, weight):
        return weight.clamp(min=0)


def test_support_of_a_structure_without_mask():
    weight = torch.tensor([[1.0, -1.0]])
    assert support(OnlyProjects(), weight).tolist() == [[True, False]]


def test_projection_follows_precision_and_gradient():
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        weight = torch.randn(16, 8, generator=torch_generator(1)).to(kind)
        assert parse("block16x1@2").project(weight).dtype == kind
    weight = torch.randn(16, 8, requires_grad=True, generator=torch_generator(1))
    parse("block16x1@2").project(weight).sum().backward()
    assert torch.equal(weight.grad != 0, parse("block16x1@2").mask(weight))
    with pytest.raises(StructureError, match="float32 or float64 weights"):
        FixedPoint(8).project(weight.half())


def test_compositions_flatten_and_multiply_rates():
    nested = Composition((Connectivity(2) + Pattern(VGG8, 1, 2.25), FixedPoint(8)))
    assert nested == parse("connectivity@2+pattern8g1@2.25+int8")
    assert nested.rate == 4.5
    assert nested.approximation is not None
    assert parse("connectivity@2+pattern8g1@2.25").approximation is None
    assert {parse(text) for text in TEXTS} == {parse(text) for text in reversed(TEXTS)}
