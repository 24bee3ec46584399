"""Merging is exact, counts what it costs, and refuses what it cannot do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from depthshrinker_nets import Block, Net, graph_of, seeded, small
from torch import nn

from cofit.codegen import compile as compile_program
from cofit.core import ModelError, UnknownNameError, torch_generator
from cofit.ir import (
    Graph,
    GraphModule,
    compare,
    compose,
    macs,
    merge,
    merge_blocks,
    probes,
    run_float,
    without_activations,
)
from cofit.regimes import Trace
from cofit.reproductions.depthshrinker import all_linear, all_merged, to_merge, units
from cofit.reproductions.depthshrinker.measure import equality

KINDS = [
    (kernel, stride, c_out, first)
    for kernel in (3, 5)
    for stride in (1, 2)
    for c_out in (8, 10)
    for first in (False, True)
]


@pytest.mark.parametrize(("kernel", "stride", "c_out", "first"), KINDS)
def test_01_merge_is_exact_on_all_pixels(kernel, stride, c_out, first):
    model = seeded(lambda: Net(Block(8, c_out, 6, kernel, stride, first=first)))
    graph = graph_of(model)
    assert np.abs(graph.tensors["block.conv.0.bias"].data).max() > 0.1
    merged = merge(graph, "block")
    inputs = torch.randn(4, 3, 9, 9, generator=torch_generator(1, "x"))
    y, z = (run_float(g, {"x": inputs}, keep=True) for g in (graph, merged))
    name = graph.outputs[0]
    assert float((y[name] - z[name]).abs().max()) <= 1e-4 * float(y[name].abs().max())
    # in float64, against torch's own convolutions one after the other
    composite = compose(graph, "block")
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64, generator=torch_generator(2, "x"))
    wanted = x
    for op in graph.ops:
        if op.kind == "conv2d" and op.output.startswith("block."):
            weight, bias = (torch.tensor(graph.tensors[n].data).double() for n in op.inputs[1:])
            c = op.attributes
            wanted = F.conv2d(
                wanted, weight, bias, c.stride, (c.padding[0], c.padding[2]), groups=c.groups
            )
    wanted = wanted + x if stride == 1 and c_out == 8 else wanted
    assert float((composite(x) - wanted).abs().max()) <= 1e-12 * float(wanted.abs().max())
    # padding in front needs one vector, padding inside a map: a zero-border merge would be wrong
    assert (composite.border is None) == first
    assert composite.weight.shape == (c_out, 8, kernel, kernel)
    if not first:
        bare = composite(x) - composite.border
        ring, inside = (bare - wanted).abs(), slice(kernel // 2, -(kernel // 2))
        assert float(ring[..., inside, inside].max()) <= 1e-9 < 1e-2 < float(ring.max())


@pytest.mark.parametrize(
    ("first", "second"), [((3, 2), (3, 1)), ((5, 1), (3, 2)), ((3, 2), (5, 2))]
)
def test_01_general_convolutions_merge_to_the_stated_kernel_and_stride(first, second):
    (d1, s1), (d2, s2) = first, second
    build = lambda: nn.Sequential(nn.Sequential(  # noqa: E731
        nn.Conv2d(3, 4, d1, s1, padding=2), nn.Conv2d(4, 5, d2, s2)))  # fmt: skip
    graph = graph_of(seeded(build), (1, 3, 17, 19))
    merged = merge(graph, "0")
    (op,) = merged.ops
    assert op.attributes.stride == (s1 * s2, s1 * s2)
    assert merged.tensors["0.weight"].shape[2:] == (d1 + (d2 - 1) * s1,) * 2
    found = compare(graph, merged, probes((torch.zeros(1, 3, 17, 19),), torch_generator(0, "p")))
    assert found.max_rel_error < 1e-6


def test_02_merged_network_decides_as_the_fine_tuned_one():
    model = seeded(small)
    removed = ("features.3", "features.5", "features.6")
    to_merge(model, removed)
    before = graph_of(model, (1, 3, 12, 12))
    after = merge_blocks(model, before, removed)
    images = torch.randn(1000, 3, 12, 12, generator=torch_generator(0, "images"))
    with torch.no_grad():
        wanted = model(images)
        found = GraphModule(after)(images)
    assert float((wanted - found).abs().max()) <= 1e-3
    assert torch.equal(wanted.argmax(1), found.argmax(1))
    report = equality(before, after, removed, images)
    assert report.same == 1.0 and 0 < report.pixels <= 1e-4
    program = compile_program(after, "host")
    assert program.verified
    steps = {step.name: step.kernel for step in program.source.steps}
    for block in removed:
        (name,) = [n for n in steps if n.startswith(f"{block}.")]
        assert "depthwise" not in steps[name]
        conv = after.producer[name].attributes
        assert conv.groups == 1 and conv.fused == "relu6"  # the free activation is there
    kept = [n for n in steps if n.startswith("features.4.")]
    assert any("depthwise" in steps[n] for n in kept)
    np.testing.assert_allclose(program.run(images[:8].numpy()), wanted[:8], atol=1e-3)


def test_02_equality_sees_a_wrong_border():
    graph = graph_of(seeded(lambda: Net(Block(8, 8))))
    merged = merge(graph, "block")
    border = merged.tensors["block.border"]
    wrong = merged.with_tensors({border.name: replace(border, data=np.zeros_like(border.data))})
    images = torch.randn(8, 3, 9, 9, generator=torch_generator(0, "images"))
    assert equality(graph, merged, ("block",), images).pixels <= 1e-4
    assert equality(graph, wrong, ("block",), images).pixels > 1e-2


@pytest.mark.parametrize(
    ("expansion", "kernel", "c_in", "c_out", "ratio"),
    [(6, 3, 16, 16, 1.708), (6, 3, 32, 32, 1.521), (6, 3, 64, 64, 1.427), (6, 3, 96, 96, 1.396),
     (6, 5, 32, 32, 0.667), (1, 3, 32, 16, 0.396)],
)  # fmt: skip
def test_03_mac_ratios(expansion, kernel, c_in, c_out, ratio):
    model = seeded(lambda: nn.Sequential(Block(c_in, c_out, expansion, kernel)))
    graph = graph_of(model, (1, c_in, 8, 8))
    merged = merge(graph, "0")
    counts = [sum(macs(g, op) for op in g.ops) for g in (graph, merged)]
    x = torch.randn(1, c_in, 8, 8)
    traced = []
    for g in (graph, merged):
        module = GraphModule(g)
        with Trace(module) as seen:
            module(x)
        traced.append(sum(layer.macs for layer in seen.layers))
    assert traced == counts
    assert traced[0] / traced[1] == pytest.approx(ratio, abs=6e-4)


def test_linear_and_merged_networks_are_one_function_with_borders():
    graph = graph_of(seeded(small), (1, 3, 12, 12))
    blocks = tuple(units(seeded(small)))
    linear, merged = all_linear(graph, blocks), all_merged(graph, blocks)
    images = torch.randn(8, 3, 12, 12, generator=torch_generator(0, "images"))
    assert equality(linear, merged, blocks, images).pixels <= 1e-4
    assert (
        without_activations(graph, blocks[0]).producer["features.3.conv.0"].attributes.fused
        == "none"
    )


class Squeezed(Block):
    def forward(self, x):
        y = self.conv[:6](x)
        return self.conv[6:](y * torch.sigmoid(y.mean((2, 3), keepdim=True)))


def dilated():
    block = Block(8, 8)
    block.conv[3].dilation, block.conv[3].padding = (2, 2), (2, 2)
    return block


def grouped():
    block = Block(8, 8)
    block.conv[6] = nn.Conv2d(48, 8, 1, groups=2, bias=False)
    return block


def gathered():
    block = Block(8, 8)
    block.conv[0] = nn.Conv2d(8, 48, 3, padding=1, bias=False)
    return block


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: Squeezed(8, 8), "globalmean"),
        (lambda: Block(8, 8, act=nn.GELU), "activation"),
        (lambda: Block(8, 8, act=nn.SiLU), "activation"),
        (lambda: Block(8, 8, act=nn.ReLU6), "relu6 is kept"),
        (dilated, "dilation is \\(2, 2\\)"),
        (grouped, "2 groups over 48 channels"),
        (gathered, "in front of the first convolution"),
    ],
)
def test_09_blocks_that_cannot_be_merged_are_named(build, reason):
    graph = graph_of(seeded(lambda: Net(build())))
    with pytest.raises(ModelError, match=rf"block 'block' cannot be merged at 'block.*{reason}"):
        merge(graph, "block")


def test_09_training_mode_unknown_blocks_and_integers_are_refused():
    model = seeded(lambda: Net(Block(8, 8)))
    graph = graph_of(model)
    model.block.conv[4].train()
    with pytest.raises(ModelError, match=r"'block'.*'block\.conv\.4'.*eval\(\)"):
        merge_blocks(model, graph, ["block"])
    with pytest.raises(UnknownNameError, match=r"'blok'.*did you mean 'block"):
        merge(graph, "blok")
    outside = Graph.build(
        graph.name, graph.inputs, ("block.conv.0", *graph.outputs), graph.ops, graph.tensors
    )
    with pytest.raises(ModelError, match="read elsewhere"):
        merge(outside, "block")
