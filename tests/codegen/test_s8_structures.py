"""Structured int8 weights: exact on every kernel, chosen by the structure and never by zeros."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from s8_graphs import (
    HOST,
    KERNELS,
    PORTABLE,
    Chain,
    differences,
    mismatches,
    random_convolution,
    weights,
)

from cofit.codegen.cortex_m.boards import board, boards_of
from cofit.codegen.cortex_m.runner import CortexMRunner
from cofit.codegen.emit import emit
from cofit.codegen.machine import Machine, cortex_m
from cofit.ir import Rounding
from cofit.ir import attributes as at
from cofit.structures import parse

pytestmark = pytest.mark.device
MACHINES = pytest.mark.parametrize("machine", [PORTABLE, HOST], ids=lambda m: m.name)
TEXTS = (
    "unstructured@5", "unstructured@40", "block1x4@2", "block2x2@3", "block4x4@2", "block2x1@2",
    "block3x2@2", "block4x8@2", "block16x1@2", "block16x4@3", "block8x2@2", "block8x1@4",
    "block1x1@5", "stripe16@2", "pattern8g1@2.25", "pattern8g1@5", "pattern8g4@2.25",
    "corner4g8@4", "corner4g1@3", "nm1:4", "nm1:3", "channel@2", "block2x2@2+int4",
    "rows4@3", "rows8w@4", "rows4@3+polarised4",
)  # fmt: skip


def projected(text: str, weight: np.ndarray) -> np.ndarray:
    nearest = parse(text).project(torch.tensor(weight, dtype=torch.float32))
    return nearest.numpy().astype(np.int8)


def structured_layer(chain: Chain, text: str) -> bool:
    """Append a layer of this structure if one fits the channels at hand."""
    rng = chain.rng
    _, c, h, w = chain.here
    kernel = (3, 3) if text[0] in "pc" and "g" in text else KERNELS[rng.integers(len(KERNELS))]
    k = int(rng.choice([7, 16, 17, 24]))
    stride = tuple(rng.integers(1, 3, 2).tolist())
    pads = (kernel[0] - 1, kernel[0] // 2, kernel[1] - 1, kernel[1])
    linear = text.startswith("stripe")
    shape = (k, c * h * w) if linear else (k, c, *kernel)
    if parse(text).applies(shape) is not None:
        return False
    weight = projected(text, weights(rng, shape, 7 if "int4" in text else 127))
    bits = 4 if "int4" in text else 8
    if linear:
        chain.add(at.Reshape((1, c * h * w)))
        chain.weighted(at.Linear(), weight, text, bits)
        chain.add(at.Reshape((1, k, 1, 1)))
    else:
        chain.weighted(at.Conv2d(stride, pads), weight, text, bits)
    if min(chain.here[2:]) < 4:
        chain.add(at.Pad(((0, 0), (0, 0), (2, 2), (1, 3))))
    return True


def kernel_for(text: str, machine: Machine) -> tuple[str, ...]:
    """The families that a structure may reach; vectors compute narrow and full ones densely."""
    if machine is PORTABLE:
        return "s8-sparse", "s8-lifted" if text.startswith("channel") else "s8-blocks"
    wide = text.startswith(("block8", "block16", "stripe16", "rows"))
    dense = "s8-host-kept" if text.startswith("channel") else "s8-host-dense"
    return "s8-host-block" if wide else dense, "s8-host-dense-winograd"


@MACHINES
def test_every_structure_is_exact(machine: Machine) -> None:
    rng = np.random.default_rng(7)
    graphs, texts = [], set()
    for index, rounding in enumerate(Rounding):
        chain = Chain(rng, (1, 12, 9, 7), rounding, f"structures{index}")
        for text in TEXTS * 2:
            if structured_layer(chain, text):
                texts.add(text)
        graphs.append(chain.graph())
    assert texts == set(TEXTS)
    for graph in graphs:
        for step in emit(graph, machine).steps:
            weight = graph.weight(step.op) if step.op else None
            if weight is not None:
                expected = kernel_for(str(weight.structure), machine)
                lists = any("bytes with indices" in reason for reason in step.rejected)
                if lists and machine is PORTABLE:
                    expected = "s8-dense", "s8-lifted"
                assert step.kernel.startswith(expected), step.rejected
    assert not mismatches(graphs, machine)


@pytest.mark.parametrize("core", ["m4", "m7"])
def test_emulated_core_gives_the_same_bytes(core: Literal["m4", "m7"]) -> None:
    """The instructions themselves (SMLAD, LDRD, SMMULR, SEL), not their plain C."""
    rng = np.random.default_rng(13)
    for rounding in Rounding:
        chain = Chain(rng, (1, 12, 9, 7), rounding, "core")
        for text in TEXTS:
            structured_layer(chain, text)
        for _ in range(20):
            random_convolution(chain)
        chain.add(at.MaxPool2d((2, 2), (1, 1)))
        chain.add(at.AvgPool2d((2, 2), (1, 1), (1, 0, 0, 1)))
        chain.add(at.Activation("hardswish"), keep=False)
        chain.add(at.Add("relu"), chain.last, keep=False)
        chain.add(at.GlobalMean(keep=False), keep=False)
        classes = Chain(rng, (1, 3, 40), rounding, "classes")
        classes.add(at.Softmax(), scale=1 / 256)
        for graph in (chain.graph(), classes.graph()):
            source = emit(graph, cortex_m(core))
            runner = CortexMRunner(source, board(boards_of(f"cortex-{core}")[0]))
            assert not differences(source, runner)


@pytest.mark.parametrize("rounding", [r for r in Rounding if r is not Rounding.DOUBLE])
def test_blocks_at_a_single_pixel_are_exact(rounding: Rounding) -> None:
    rng = np.random.default_rng(17)
    chain = Chain(rng, (1, 64), rounding, "strips")
    for index, text in enumerate(("block2x4@4", "block4x4@4", "block8x4@2", "block16x4@8") * 2):
        k = 64 if index < 4 else 60  # the last group of rows is not whole
        weight = projected(text, weights(rng, (k, chain.here[1])))
        weight[: 8 * (index % 2)] = 0  # groups without a block
        chain.weighted(at.Linear("relu" if index % 3 == 0 else "none"), weight, text)
    graph = chain.graph()
    source = emit(graph, cortex_m("m4"))
    assert {step.kernel for step in source.steps} <= {"s8-blocks", "s8-sparse"}
    assert sum(step.kernel == "s8-blocks" for step in source.steps) >= 4
    assert not mismatches([graph], PORTABLE)
    assert not differences(source, CortexMRunner(source, board(boards_of("cortex-m4")[0])))


def test_blocks_at_a_single_pixel_save_instructions() -> None:
    rng, counts = np.random.default_rng(19), []
    for text in (None, "block4x4@4"):
        chain = Chain(rng, (1, 128), name="strip")
        weight = weights(rng, (128, 128))
        chain.weighted(at.Linear(), weight if text is None else projected(text, weight), text)
        source = emit(chain.graph(), cortex_m("m4"))
        runner = CortexMRunner(source, board(boards_of("cortex-m4")[0]))
        counts.append(sum(runner.measure().instructions.values()))
    assert counts[1] < counts[0] / 2


def one_layer(weight: np.ndarray, structure: str | None, machine: Machine) -> str:
    chain = Chain(np.random.default_rng(1), (1, weight.shape[1], 6, 6), name="one")
    chain.weighted(at.Conv2d(padding=(1, 1, 1, 1)), weight, structure)
    return emit(chain.graph(), machine).steps[0].kernel


@MACHINES
def test_zeros_without_structure_run_dense(machine: Machine) -> None:
    weight = projected("block16x4@4", weights(np.random.default_rng(2), (32, 16, 3, 3)))
    assert "dense" in one_layer(weight, None, machine)
    assert "dense" not in one_layer(weight, "block16x4@4", machine)


def test_lists_as_large_as_what_they_leave_out_run_dense() -> None:
    rng = np.random.default_rng(7)
    for text in ("nm2:4", "unstructured@2", "block1x2@1.2", "block4x4@1.3"):
        weight = projected(text, weights(rng, (32, 16, 3, 3)))
        fits = parse(text).encode(weight).nbytes < weight.nbytes
        assert fits == (text == "block4x4@1.3")
        assert (one_layer(weight, text, PORTABLE) == "s8-dense") != fits, text


def test_structure_the_weight_does_not_obey_runs_dense() -> None:
    weight = weights(np.random.default_rng(4), (32, 16, 3, 3))
    assert one_layer(weight, "block16x4@4", PORTABLE) == "s8-dense"


def test_four_bits_take_half_the_flash() -> None:
    rng = np.random.default_rng(5)
    chain = Chain(rng, (1, 9, 5, 5), name="four")
    weight = weights(rng, (7, 9, 3, 3), 7)
    chain.weighted(at.Conv2d(), weight, bits=4)
    graph = chain.graph()
    source = emit(graph, PORTABLE)
    assert source.constant_bytes == 7 * -(-81 // 2) + 7 * 9
    same = replace(
        graph.tensors["t0.w"], quantisation=replace(graph.tensors["t0.w"].quantisation, bits=8)
    )  # type: ignore[type-var]
    wide = emit(graph.with_tensors({"t0.w": same}), PORTABLE)
    assert wide.constant_bytes == 7 * 81 + 7 * 9
    assert not mismatches([graph], PORTABLE)
