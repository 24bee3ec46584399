"""Real networks, from their weights to the bytes that an emulated microcontroller gives."""

import functools
from pathlib import Path

import numpy as np
import pytest
from benchmarks.mlperf_tiny import CMSIS_NN, CORES, Network, measure, network

from cofit.codegen import compile as compile_program
from cofit.ir import dequantise_output

pytestmark = pytest.mark.device
NAMES = tuple(CMSIS_NN)
REACHED = {
    "resnet8": 12.484e6,
    "ds_cnn": 3.512e6,
    "mobilenet_v1_025": 7.892e6,
    "autoencoder": 0.2636e6,
}
"""Instructions, as `python -m benchmarks.mlperf_tiny` counts them."""


@functools.cache
def prepared(name: str, models: Path) -> Network:
    return network(name, models, 3)


def asked(name: str, request: pytest.FixtureRequest, models: Path) -> Network:
    if name == "resnet8":
        request.getfixturevalue("data_dir")
    return prepared(name, models)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", NAMES)
def test_emulated_bytes_and_sizes(
    name: str, core: str, request: pytest.FixtureRequest, models_dir: Path
) -> None:
    net = asked(name, request, models_dir)
    assert len(np.unique(net.reference)) > 1, "a constant output would prove nothing"
    row = measure(net, core)
    assert row.bit_exact_samples == row.samples == 3
    assert row.instructions <= 1.03 * REACHED[name]
    assert row.predicted_flash_bytes == row.flash_bytes
    assert row.predicted_ram_bytes == row.ram_bytes == row.arena_bytes


@pytest.mark.parametrize("name", NAMES)
def test_host_program_equals_the_reference(
    name: str, request: pytest.FixtureRequest, models_dir: Path
) -> None:
    """Compiled with its own verification; real numbers in and out, several at a time."""
    net = asked(name, request, models_dir)
    program = compile_program(net.integer, "host")
    assert np.array_equal(program.run(net.x), dequantise_output(net.integer, net.reference))
