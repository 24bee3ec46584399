"""Acceptance checks 8 and 9 of pattern sparsity: what is generated is right, and skips zeros."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layers import Builder
from s8_graphs import HOST, PORTABLE, Chain, mismatches, weights

from cofit.codegen import compile, emit, machine
from cofit.codegen.chosen import Chosen
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.kernels.f32_planes import F32Planes
from cofit.codegen.kernels.plane_loops import PlaneLoops
from cofit.core import torch_generator
from cofit.ir import attributes as at
from cofit.structures import Pattern, parse

pytestmark = pytest.mark.device
TEXTS = ("pattern8g1@8.1", "pattern4g1@4", "corner4g1@8.1", "pattern8g4@8.1", "pattern13g1@5")

# vectors of a tile, parts of the channels, rows of a band
SIZES = [(1, 1, 9), (1, 1, 1), (2, 1, 9), (2, 2, 9), (1, 3, 4), (2, 6, 1)]


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


@pytest.mark.skipif(HOST.vector_floats == 1, reason="planes are for vectors")
@pytest.mark.parametrize("text", ["pattern8g4@4", "pattern8g1@4"])
def test_tiles_bands_and_parts_change_no_bit(text):
    """Threads with fewer rows each have other ones, and give the same bits nevertheless."""
    b = Builder("net", (1, 48, 9, 11), np.random.default_rng(8))
    y = b.conv("x", 24, 3, padding=(1, 1, 1, 1))
    weight = b.tensors[b.ops[-1].inputs[1]]
    data = parse(text).project(torch.from_numpy(weight.data)).numpy()
    b.tensors[weight.name] = replace(weight, data=data, structure=text)
    graph = b.graph(y)
    loops = [PlaneLoops(4 if "g4" in text else 1, *sizes) for sizes in SIZES]
    sources = [
        emit(replace(graph, name=f"net{i}"), machine("host"), chosen={y: Chosen(F32Planes(each))})
        for i, each in enumerate(loops)
    ]
    steps = [step for source in sources for step in source.steps if step.op is not None]
    assert {step.kernel for step in steps} == {"f32-planes"}
    assert len({step.code.body for step in steps}) == len(SIZES)
    library = build_host(sources, optimise="-O2")
    x = np.random.default_rng(9).standard_normal((1, 48, 9, 11), np.float32)
    assert len({HostRunner(source, library).run(x).tobytes() for source in sources}) == 1


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
