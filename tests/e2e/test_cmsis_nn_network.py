"""Acceptance of the exported network: predictions of a real one, compiled and emulated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.mlperf_tiny import network

from cofit.codegen import compile as compile_program
from cofit.codegen.layout import to_memory
from cofit.data import load
from cofit.ir import dequantise_output, run_float

pytestmark = pytest.mark.device
IMAGES = 1000


def test_07_same_top1_as_reference(data_dir: Path, models_dir: Path) -> None:
    net = network("resnet8", models_dir, IMAGES)
    graph, labels = net.integer, load("cifar10").test.targets[:IMAGES].numpy()
    got = compile_program(graph, "host").run(net.x)
    # every output byte, so also every prediction
    assert np.array_equal(got, dequantise_output(graph, net.reference))
    with torch.no_grad():
        real = run_float(net.floating, {net.floating.inputs[0]: torch.from_numpy(net.x)})
    floats = real[net.floating.outputs[0]].numpy()
    correct_int8 = int((got.argmax(1) == labels).sum())
    correct_float = int((floats.argmax(1) == labels).sum())
    assert correct_float > 0.85 * IMAGES
    assert abs(correct_int8 - correct_float) <= IMAGES // 100
    device = compile_program(graph, "cortex-m4", verify=False)
    assert np.array_equal(
        device.run_native(to_memory(net.stored[:2])), to_memory(net.reference[:2])
    )
