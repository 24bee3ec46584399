"""Acceptance of the generator on Cortex-M: links bare, keeps its claims, gives the host's bytes."""

from dataclasses import replace

import numpy as np
import pytest
from s8_graphs import Chain, weights

from cofit.codegen import compile as compile_program
from cofit.codegen.cortex_m import predict
from cofit.codegen.layout import to_memory
from cofit.codegen.machine import host
from cofit.core import numpy_generator
from cofit.ir import Graph
from cofit.ir import attributes as at

pytestmark = pytest.mark.device


def network(name: str) -> Graph:
    rng = numpy_generator(3, name)
    chain = Chain(rng, (1, 5, 12, 12), name=name)
    chain.weighted(at.Conv2d(padding=(1, 1, 1, 1), fused="relu"), weights(rng, (12, 5, 3, 3)))
    chain.weighted(at.Conv2d(padding=(1, 1, 1, 1), groups=12), weights(rng, (12, 1, 3, 3)))
    chain.weighted(at.Conv2d(fused="relu6"), weights(rng, (16, 12, 1, 1)))
    chain.add(at.MaxPool2d((2, 2), (2, 2)))
    chain.add(at.GlobalMean(keep=False), keep=False)
    chain.weighted(at.Linear(), weights(rng, (10, 16)))
    return chain.graph()


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7"])
def test_07_cortex_m_build(core):
    """Linked without a libc, emulated from reset; output bytes equal the host build's."""
    graph = network("bare")
    here = compile_program(graph, replace(host(), io="native"), verify=False)
    device = compile_program(graph, core)
    shape = graph.tensors["x"].shape
    x = numpy_generator(4, "x").integers(-128, 128, (4, *shape[1:])).astype(np.int8)
    assert np.array_equal(device.run_native(to_memory(x)), here.run_native(to_memory(x)))

    image, objects = device.runner.linked.image, device.runner.linked.objects
    prediction = predict(objects)
    assert prediction.missing == ()
    assert prediction.flash_bytes == image.flash_bytes
    assert prediction.ram_bytes == image.ram_bytes == device.plan.arena_bytes

    measured = device.measure()
    emulated = device.runner.emulator.instructions
    assert sum(measured.instructions.values()) == emulated
    owned = sum(image.flash_of(step.function) for step in device.source.steps)
    assert device.source.constant_bytes < owned < image.flash_bytes
