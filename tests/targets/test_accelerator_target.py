"""Accelerators as targets: rows of a graph, basis, precision, and what a row is made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cofit.core import Basis
from cofit.ir import Graph, Op, Tensor, macs, quantise, trace
from cofit.ir import attributes as at
from cofit.ir.calibrate import calibrate
from cofit.targets import Accelerator, target
from cofit.targets.dataflow import Layer, accelerator, known_accelerators, search
from cofit.targets.dataflow.network import layers_of


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, padding=1, groups=16),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * 4, 10),
    ).eval()
    example = torch.randn(8, 3, 16, 16)
    traced = trace(net, example[:1], "small")
    return quantise(traced, calibrate(traced, [example.numpy()]))


@pytest.mark.parametrize("name", known_accelerators())
def test_every_op_has_a_modelled_row(name: str, graph: Graph) -> None:
    found = target(name)
    assert isinstance(found, Accelerator)
    cost = found.cost(graph)
    assert [row.op for row in cost.rows] == [op.output for op in graph.ops]
    assert cost.macs == sum(macs(graph, op) for op in graph.ops)
    assert {row.basis for row in cost.rows} == {Basis.MODELLED}
    assert cost.energy_j is not None
    floor = cost.macs / found.hardware.units / found.hardware.clock_hz
    assert cost.latency_s >= floor
    weights = sum(t.nbytes for t in graph.tensors.values() if t.data is not None)
    assert cost.flash_bytes == weights


def test_row_is_the_best_mapping_of_its_layer(graph: Graph) -> None:
    found = target("edge")
    assert isinstance(found, Accelerator)
    (layer,) = layers_of(graph, graph.ops[0], 8, 16)
    assert layer == Layer(
        graph.ops[0].output, k=16, c=3, y=8, x=8, r=3, s=3, stride=(2, 2), bits_psum=16
    )
    row = found.cost(graph).rows[0]
    mapped = search(layer, accelerator("edge"))
    assert row.latency_s == pytest.approx(mapped.cycles / found.hardware.clock_hz)
    assert row.energy_j == pytest.approx(mapped.energy_pj * 1e-12)


def test_depthwise_is_poor_on_channels_and_good_on_pixels() -> None:
    """A layer with one channel per group uses 1 of 64 lanes of NVDLA, all pixels of ShiDianNao."""
    depthwise = Layer(k=64, c=64, y=32, x=32, r=3, s=3, groups=64)
    nvdla = Accelerator(accelerator("nvdla-like")).best(depthwise)
    pixels = Accelerator(accelerator("shidiannao")).best(depthwise)
    assert nvdla.utilisation <= 1 / 64
    assert pixels.utilisation > 10 * nvdla.utilisation


def test_narrow_weights_and_zeros_save_what_the_hardware_can_use() -> None:
    eyeriss = accelerator("eyeriss")
    dense = Layer(k=64, c=64, y=14, x=14, r=3, s=3)
    best = Accelerator(eyeriss).best
    full = best(dense)
    assert best(replace(dense, bits_weight=4)).energy_pj < full.energy_pj
    assert best(replace(dense, bits_weight=32)).steps == 2 * full.steps
    half = best(replace(dense, density_input=0.5))  # gated and compressed, not skipped
    assert half.energy_pj < full.energy_pj and half.steps == full.steps
    skipping = replace(eyeriss, sparse={"weight": ("skipped",)})
    assert Accelerator(skipping).best(replace(dense, density_weight=0.25)).steps == full.steps / 4
    assert best(replace(dense, density_weight=0.25)).energy_pj == full.energy_pj


def test_kernels_larger_than_the_array_fold() -> None:
    large = Layer(k=8, c=1, y=24, x=5, r=24, s=20, bits_input=16, bits_weight=16, bits_psum=16)
    mapped = Accelerator(accelerator("eyeriss")).best(large)
    half = Accelerator(accelerator("eyeriss")).best(replace(large, r=12))
    assert mapped.steps == 2 * half.steps
    assert large.macs / 168 <= half.steps * 2 <= 2 * large.macs / 168


def test_products_of_activations_and_recurrences() -> None:
    tensors = {
        "x": Tensor("x", (1, 1, 4, 6, 8)),
        "y": Tensor("y", (1, 1, 4, 8, 5)),
        "z": Tensor("z", (1, 1, 4, 6, 5)),
    }
    product = Op("z", at.Matmul(), ("x", "y"))
    graph = Graph.build("heads", ("x", "y"), ("z",), (product,), tensors)
    (layer,) = layers_of(graph, product, 8, 32)
    assert layer.macs == macs(graph, product) and layer.groups == 4

    def constant(name: str, *shape: int) -> Tensor:
        return Tensor(name, shape, data=np.ones(shape, np.float32))

    weights = (constant("wi", 9, 2), constant("wh", 9, 3), constant("bi", 9), constant("bh", 9))
    found = {t.name: t for t in (Tensor("x", (1, 7, 2)), Tensor("h", (1, 7, 3)), *weights)}
    gru = Op("h", at.Gru(), ("x", "wi", "wh", "bi", "bh"))
    recurrent = Graph.build("gru", ("x",), ("h",), (gru,), found)
    layers = layers_of(recurrent, gru, 8, 32)
    assert len(layers) == 8
    assert sum(layer.macs for layer in layers) == macs(recurrent, gru)
