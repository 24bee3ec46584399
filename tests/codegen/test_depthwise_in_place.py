"""Depthwise convolutions over their own input: exact, and no second image in the arena."""

import numpy as np
import pytest
from s8_graphs import PORTABLE, Chain, mismatches, weights

from cofit.codegen import compile as compile_program
from cofit.codegen import emit
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.verify import verify
from cofit.ir import Graph, Rounding
from cofit.ir import attributes as at

SHAPES = ((2, 1, 1), (4, 3, 7), (6, 40, 24), (8, 61, 33), (2, 9, 200))
"""Channels, height, width: one band and several, odd rows, a last band of one row."""

PADS = ((1, 1, 1, 1), (2, 0, 0, 2), (0, 2, 2, 0))


def depthwise(chain: Chain, stride: int = 1, pads: at.Pads = (1, 1, 1, 1), **rest) -> str:
    groups = chain.here[1]
    attributes = at.Conv2d((stride, stride), pads, groups=groups, **rest)
    return chain.weighted(attributes, weights(chain.rng, (groups, 1, 3, 3)))


def single(name: str, shape: tuple[int, int, int], pads: at.Pads, fused: str) -> Graph:
    chain = Chain(np.random.default_rng(len(name)), (1, *shape), Rounding.SHORT, name)
    depthwise(chain, pads=pads, fused=fused)
    return chain.graph()


def test_every_band_and_padding_is_exact_and_needs_one_image_and_scratch() -> None:
    graphs = [
        single(f"n{i}_{j}_{fused}", shape, pads, fused)
        for i, shape in enumerate(SHAPES)
        for j, pads in enumerate(PADS)
        for fused in ("none", "relu6")
    ]
    sources = [emit(graph, PORTABLE) for graph in graphs]
    assert any("_kept(" in source.steps[0].code.body for source in sources)
    assert any("_kept_bounded(" in source.steps[0].code.body for source in sources)
    library = build_host(sources, optimise="-O1")
    for source in sources:
        (step,) = source.steps
        image = source.graph.tensors["x"].nbytes
        assert step.kernel == "s8-planes" and step.code.variant.endswith("in place")
        aligned = [-(-nbytes // 64) * 64 for nbytes in (image, step.code.scratch_bytes)]
        assert source.plan.arena_bytes == sum(aligned)
        verify(source, HostRunner(source, library))


def test_scratch_is_that_of_a_layer_of_two_images() -> None:
    """Rows above a band are kept where they are, so the alias costs nothing."""
    graph = single("tall", (8, 61, 33), (1, 1, 1, 1), "none")
    (step,) = emit(graph, PORTABLE).steps
    assert step.code.scratch_bytes <= 4096 < graph.tensors["x"].nbytes


def test_an_input_that_is_read_again_and_a_smaller_output_keep_their_buffers() -> None:
    chain = Chain(np.random.default_rng(3), (1, 6, 20, 20), Rounding.SHORT, "read_again")
    first = depthwise(chain)
    second = depthwise(chain)
    chain.add(at.Add(), first, keep=False)
    depthwise(chain, stride=2)
    source = emit(chain.graph(), PORTABLE)
    places = {step.name: step.code.variant.endswith("in place") for step in source.steps}
    assert places == {first: True, second: False, "t2": True, "t3": False}
    assert not mismatches([chain.graph()], PORTABLE)


@pytest.mark.device
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7"])
def test_emulated_cores_are_exact_in_place(core: str) -> None:
    chain = Chain(np.random.default_rng(9), (1, 4, 50, 31), Rounding.SHORT, "emulated")
    for fused in ("relu", "none", "relu6"):
        depthwise(chain, fused=fused)
    program = compile_program(chain.graph(), core)  # verified step by step, arena poisoned
    image, scratch = 4 * 50 * 31, max(s.code.scratch_bytes for s in program.source.steps)
    assert program.verified
    assert program.plan.arena_bytes == image + -(-scratch // 8) * 8
