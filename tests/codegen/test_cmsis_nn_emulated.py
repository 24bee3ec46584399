"""The paper's CIFAR-10 network in int8 on an emulated Cortex-M: instructions against naive C."""

import functools
import math

import numpy as np
import pytest
from s8_graphs import Chain, weights

from cofit.codegen import compile as compile_program
from cofit.codegen.cortex_m import Emulator, default_board, link
from cofit.codegen.layout import to_logical, to_memory
from cofit.codegen.machine import machine
from cofit.core import numpy_generator
from cofit.ir import Graph, macs
from cofit.ir import attributes as at
from cofit.ir.integer import run_integer

pytestmark = pytest.mark.device

NAIVE = """
#include <stdint.h>

int32_t naive(const int8_t *x, const int8_t *w, const int8_t *b, const int32_t *shape, int8_t *y);
int32_t naive(const int8_t *x, const int8_t *w, const int8_t *b, const int32_t *shape, int8_t *y)
{
  const int32_t size = shape[0], channels = shape[1], outputs = shape[2], kernel = shape[3];
  const int32_t pad = kernel / 2, offset = shape[4], multiplier = shape[5], shift = shape[6];
  for (int32_t k = 0; k < outputs; k++)
    for (int32_t i = 0; i < size; i++)
      for (int32_t j = 0; j < size; j++) {
        int32_t sum = b[k];
        for (int32_t r = 0; r < kernel; r++)
          for (int32_t s = 0; s < kernel; s++) {
            const int32_t row = i + r - pad, column = j + s - pad;
            if (row >= 0 && column >= 0 && row < size && column < size)
              for (int32_t c = 0; c < channels; c++)
                sum += (x[(row * size + column) * channels + c] + offset) *
                       w[((k * kernel + r) * kernel + s) * channels + c];
          }
        int64_t scaled = ((int64_t)sum * multiplier + (1 << 30)) >> 31;
        scaled = (scaled + (1 << (shift - 1))) >> shift;
        y[(i * size + j) * outputs + k] =
            (int8_t)(scaled > 127 ? 127 : scaled < -128 ? -128 : scaled);
      }
  return 0;
}
"""
MAIN = """
int32_t naive(const int8_t *x, const int8_t *w, const int8_t *b, const int32_t *shape, int8_t *y);
int8_t x[32 * 32 * 3 + 16 * 16 * 32], y[32 * 32 * 32], bias[64];
static const int8_t w[64 * 32 * 25] = {1};
int32_t shape[7];
int main(void);
int main(void) { return (int)naive(x, w, bias, shape, y); }
"""
CONVOLUTIONS = ("t0", "t2", "t4")


@functools.cache
def network() -> Graph:
    """conv5x5 3-32, pool, conv5x5 32-32, pool, conv5x5 32-64, pool, linear 1024-10."""
    rng = numpy_generator(0, "cifar10")
    chain = Chain(rng, (1, 3, 32, 32), name="cifar10")
    conv = at.Conv2d(padding=(2, 2, 2, 2), fused="relu")
    chain.weighted(conv, weights(rng, (32, 3, 5, 5)))
    chain.add(at.MaxPool2d((2, 2), (2, 2)))
    chain.weighted(conv, weights(rng, (32, 32, 5, 5)))
    chain.add(at.AvgPool2d((2, 2), (2, 2)))
    chain.weighted(conv, weights(rng, (64, 32, 5, 5)))
    chain.add(at.AvgPool2d((2, 2), (2, 2)))
    chain.add(at.Reshape((1, 1024)))
    chain.weighted(at.Linear(), weights(rng, (10, 1024)))
    return chain.graph()


@functools.cache
def program(core: str):
    return compile_program(network(), core, verify=False)


@functools.cache
def naive_instructions(core: str) -> tuple[int, ...]:
    """Of plain loops over the same three layers, -O3 (these cores have no vectors)."""
    files = {"naive.c": NAIVE, "main.c": "#include <stdint.h>\n" + MAIN}
    linked = link(files, machine(core), default_board(core))
    device = Emulator(linked.image, machine(core))
    device.boot()
    at_ = {name: linked.image.address(name) for name in ("x", "w", "bias", "shape", "y")}
    counts = []
    for size, channels, outputs in ((32, 3, 32), (16, 32, 32), (8, 32, 64)):
        shape = np.array([size, channels, outputs, 5, 3, 1 << 30, 7], np.int32)
        device.write(at_["shape"], shape.tobytes())
        device.call("main")
        counts.append(device.instructions)
    return tuple(counts)


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7"])
def test_06_instruction_ratio(core):
    """Optimised against naive, the three convolutions together: within the paper's bounds."""
    graph = network()
    counted = program(core).measure().instructions
    ours = [counted[name] for name in CONVOLUTIONS]
    dense = [macs(graph, graph.producer[name]) for name in CONVOLUTIONS]
    assert dense == [32 * 32 * 75 * 32, 16 * 16 * 800 * 32, 8 * 8 * 800 * 64]
    ratio = sum(naive_instructions(core)) / sum(ours)
    assert 3.0 <= ratio <= 5.5, (ratio, ours, naive_instructions(core))
    for name, instructions, count in zip(CONVOLUTIONS, ours, dense, strict=True):
        assert instructions >= count / 2, name  # SMLAD does two at most


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7"])
def test_07_emulated_bytes_equal_the_integer_model(core):
    """Every byte of the output, so also every prediction."""
    graph = network()
    x = numpy_generator(7, "x").integers(-128, 128, (3, 3, 32, 32)).astype(np.int8)
    wanted = run_integer(graph, {"x": x})[graph.outputs[0]]
    got = to_logical(program(core).run_native(to_memory(x)), graph.tensors[graph.outputs[0]].shape)
    assert np.array_equal(got, wanted)
    assert math.prod(np.unique(wanted).shape) > 5, "a constant output would prove nothing"
