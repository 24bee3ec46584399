"""Acceptance checks 8 and 9 of pattern sparsity: what is generated is right, and skips zeros."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layers import Builder
from s8_graphs import HOST, PORTABLE, Chain, mismatches, weights

from cofit.codegen import compile, emit, machine
from cofit.core import torch_generator
from cofit.ir import attributes as at
from cofit.structures import Pattern, parse

pytestmark = pytest.mark.device
TEXTS = ("pattern8g1@8.1", "pattern4g1@4", "corner4g1@8.1", "pattern8g4@8.1", "pattern13g1@5")


@pytest.mark.parametrize("text", TEXTS)
def test_08_generated_c_agrees_with_torch(text):
    k, c = 48, 40
    structure = parse(text)
    generator = torch_generator(8, text)
    weight = structure.project(torch.randn(k, c, 3, 3, generator=generator))
    bias = torch.randn(k, generator=generator)
    b = Builder("net", (1, c, 15, 17), np.random.default_rng(8))
    constants = b.constant(weight.numpy(), text), b.constant(bias.numpy())
    program = compile(b.graph(b.add(at.Conv2d(padding=(1, 1, 1, 1)), "x", *constants)))
    x = torch.randn(3, c, 15, 17, generator=generator)
    expected = F.conv2d(x, weight, bias, padding=1)
    error = float((torch.from_numpy(program.run(x.numpy())) - expected).abs().max())
    assert error <= 1e-4 * math.sqrt(9 * c / structure.rate)
    assert [step.kernel for step in program.source.steps][1] in ("f32-planes", "f32-pattern")


@pytest.mark.parametrize("target", [PORTABLE, HOST], ids=lambda m: m.name)
def test_08_int8_is_exact(target):
    graphs = []
    for i, text in enumerate(TEXTS):
        rng = np.random.default_rng(i)
        chain = Chain(rng, (1, 20, 9, 11), name=f"pattern{i}")
        for outputs, stride in ((24, (1, 1)), (16, (2, 1))):
            full = weights(rng, (outputs, chain.here[1], 3, 3)).astype(np.float32)
            weight = parse(text).project(torch.from_numpy(full)).numpy().astype(np.int8)
            chain.weighted(at.Conv2d(stride, (1, 1, 1, 1), fused="relu"), weight, text)
        graphs.append(chain.graph())
    assert not mismatches(graphs, target)


def test_09_zeros_are_neither_stored_nor_multiplied():
    """The loops run over what is stored, so a program that multiplied zeros would store them.

    Latency against ONNX Runtime, and against the same weights compiled densely, are claims of
    `cofit reproduce pattern-sparsity`: a test must not depend on the load of its machine.
    """
    shape, side = (64, 64, 3, 3), 56
    structure = parse("pattern8g1@8.1")
    assert isinstance(structure, Pattern)
    weight = structure.project(torch.randn(shape, generator=torch_generator(9)))
    steps = {}
    for name in (structure.text, None):
        b = Builder("net", (1, 64, side, side), np.random.default_rng(9))
        constants = b.constant(weight.numpy(), name), b.constant(np.zeros(64))
        y = b.add(at.Conv2d(padding=(1, 1, 1, 1)), "x", *constants)
        steps[name] = emit(b.graph(y), machine("host")).steps[1]
    assert steps[None].constant_bytes >= 4 * 9 * 64 * 64
    stored = 4 * 4 * structure.kept(shape)
    assert stored <= steps[structure.text].constant_bytes <= 2 * stored
