"""The tools of the fuzz tests find what they are for."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from batch import PORTABLE, faults, run_together
from sanitise import sanitised

from cofit.codegen.emit import emit
from cofit.ir import Graph, QuantSpec, Rounding, calibrate, quantise
from cofit.ir import attributes as at
from graphs import Growing

pytestmark = pytest.mark.device


def one_conv() -> tuple[Graph, np.ndarray]:
    growing = Growing(lambda _: 0, (1, 3, 6, 6))
    weight = growing.rng.standard_normal((4, 3, 3, 3))
    bias = growing.constant(np.zeros(4))
    growing.append(at.Conv2d(padding=(1, 1, 1, 1)), "x", growing.constant(weight), bias)
    x = growing.rng.standard_normal((2, 3, 6, 6)).astype(np.float32)
    graph = growing.finish()
    return quantise(graph, calibrate(graph, [x]), QuantSpec(Rounding.DOUBLE)), x


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_buffer_overrun_inside_the_arena_is_found() -> None:
    graph, x = one_conv()
    source = emit(graph, PORTABLE)
    assert sanitised([source], [x], "gcc") is None
    (step,) = source.steps
    short = replace(step, code=replace(step.code, scratch_bytes=step.code.scratch_bytes - 8))
    said = sanitised([replace(source, steps=(short,))], [x], "gcc")
    assert said is not None and "use-after-poison" in said


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_wrong_output_and_undefined_behaviour_are_found() -> None:
    graph, x = one_conv()
    source = emit(graph, PORTABLE)
    wrong = replace(source, source=source.source.replace("acc[0]", "acc[1]"))
    said = sanitised([wrong], [x], "gcc")
    assert said is not None and "differs" in said
    shifted = replace(
        source,
        source=source.source.replace(
            "const int32_t left = shift > 0 ? shift : 0;", "const int32_t left = 40 + shift;"
        ),
    )
    said = sanitised([shifted], [x], "gcc")
    assert said is not None and "shift" in said


def test_a_wrong_constant_is_found() -> None:
    graph, x = one_conv()
    (runner,) = run_together([graph], PORTABLE)
    assert not faults(runner, runner.source, x)
    bias = graph.tensors[graph.ops[0].inputs[2]]
    data = bias.data.copy()
    data[2] += 1 << 12
    other = graph.with_tensors({bias.name: replace(bias, data=data)})
    assert faults(runner, replace(runner.source, graph=other), x)
