"""Targets: lookup, limits, rows that add up to the linked program, energy from data sheets."""

from dataclasses import replace

import numpy as np
import pytest

from cofit.codegen import emit, machine
from cofit.codegen.cortex_m import CORES, CortexMRunner, board, boards_of
from cofit.core import Basis, TargetError, UnknownNameError, numpy_generator
from cofit.ir import DType, Graph, Op, Quantisation, QuantSpec, Tensor
from cofit.ir import attributes as at
from cofit.targets import (
    CortexM,
    HostTarget,
    Modelled,
    Platform,
    known_targets,
    target,
    toolchain_report,
)


def network(integer: bool = True, channels: int = 12) -> Graph:
    """conv3x3, max pool, reshape (a view: one pixel is left), linear."""
    rng = numpy_generator(0, "targets")
    kind = DType.I8 if integer else DType.F32

    def act(name: str, shape: tuple[int, ...], scale: float) -> Tensor:
        return Tensor(name, shape, kind, Quantisation((scale,), 3) if integer else None)

    def constant(name: str, shape: tuple[int, ...], scale: float, bias: bool = False) -> Tensor:
        if not integer:
            values = rng.standard_normal(shape).astype(np.float32)
            return Tensor(name, shape, DType.F32, None, values)
        high = 4000 if bias else 127
        dtype = DType.I32 if bias else DType.I8
        values = (1 + rng.integers(0, high, shape)).astype(dtype.value)
        return Tensor(name, shape, dtype, Quantisation((scale,)), values)

    tensors = [
        act("x", (1, 3, 8, 8), 0.1),
        constant("w", (channels, 3, 3, 3), 0.01),
        constant("b", (channels,), 0.001, bias=True),
        act("y", (1, channels, 8, 8), 0.2),
        act("p", (1, channels, 1, 1), 0.2),
        act("f", (1, channels), 0.2),
        constant("v", (10, channels), 0.01),
        constant("c", (10,), 0.002, bias=True),
        act("z", (1, 10), 0.3),
    ]
    ops = (
        Op("y", at.Conv2d(padding=(1, 1, 1, 1), fused="relu"), ("x", "w", "b")),
        Op("p", at.MaxPool2d((8, 8), (8, 8)), ("y",)),
        Op("f", at.Reshape((1, channels)), ("p",)),
        Op("z", at.Linear(), ("f", "v", "c")),
    )
    spec = QuantSpec() if integer else None
    return Graph.build("small", ("x",), ("z",), ops, {t.name: t for t in tensors}, spec)


def test_every_known_name_is_a_target():
    assert len(known_targets()) == len(set(known_targets())) >= 10
    for name in known_targets():
        found = target(name)
        limits = found.limits
        if name == "host" or isinstance(found, Modelled | Platform):
            assert limits.flash_bytes is None and limits.ram_bytes is None
        else:
            assert found.name.startswith(name)
            assert limits.flash_bytes >= 256 * 1024 and limits.ram_bytes >= 64 * 1024
    assert target("cortex-m4").name == "cortex-m4:stm32f446"
    assert target("cortex-m7").name == "cortex-m7:stm32f746"
    assert target("cortex-m4:nrf52840").limits.ram_bytes == 256 * 1024


def test_wrong_names_are_explained():
    with pytest.raises(UnknownNameError, match=r"cortex-m5.*did you mean"):
        target("cortex-m5")
    with pytest.raises(UnknownNameError, match=r"nrf52841.*nrf52840"):
        target("cortex-m4:nrf52841")
    with pytest.raises(TargetError, match=r"stm32f746.*cortex-m7"):
        target("cortex-m4:stm32f746")


def test_every_board_states_its_source_and_core():
    for core in CORES:
        for name in boards_of(core):
            found = board(name)
            assert found.core == core
            assert len(found.source) > 20
            assert 16e6 <= found.clock_hz <= 600e6


@pytest.mark.device
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m7"])
def test_everything_adds_up_on_a_board(name):
    graph = network()
    device = target(name)
    cost = device.cost(graph)
    runner = CortexMRunner(emit(graph, machine(name)), device.board)
    measured = runner.measure()

    assert [row.op for row in cost.rows] == ["y", "p", "f", "z", "(runtime)"]
    assert {row.basis for row in cost.rows} == {Basis.EMULATED}
    assert cost.flash_bytes == runner.linked.image.flash_bytes
    assert cost.instructions == runner.emulator.instructions
    assert cost.latency_s == pytest.approx(measured.latency_s, rel=1e-12)
    arena = runner.source.plan.arena_bytes
    assert cost.ram_bytes == arena + runner.emulator.stack_high_water_bytes
    rows = {row.op: row for row in cost.rows}
    assert rows["y"].ram_bytes >= 3 * 64 + 12 * 64  # input and output are alive together
    assert all(row.ram_bytes <= arena for row in cost.rows[:-1])
    assert rows["y"].flash_bytes > 12 * 27 and rows["z"].flash_bytes > 120
    assert rows["f"].latency_s == rows["f"].flash_bytes == 0
    # SMLAD multiplies twice per instruction at most, and half an instruction per cycle is two
    assert rows["y"].instructions > rows["y"].macs / 2
    assert cost.energy_j is None


@pytest.mark.device
def test_boards_differ_in_clock_and_energy_only():
    graph = network()
    fast, slow = target("cortex-m4").cost(graph), target("cortex-m4:nrf52840").cost(graph)
    assert fast.instructions == slow.instructions
    assert slow.latency_s / fast.latency_s == pytest.approx(180 / 64)
    # 52 uA/MHz at 3 V: 156 pJ per cycle
    assert slow.energy_j == pytest.approx(slow.latency_s * 64e6 * 156e-12)
    assert all("data sheet" in row.note for row in slow.rows[:2])


@pytest.mark.device
def test_network_too_large_for_the_board():
    device = target("cortex-m4")
    tiny = CortexM(replace(device.board, name="tiny", flash_bytes=2048))
    with pytest.raises(TargetError, match=r"bytes of flash \(.*board 'tiny' has 2048"):
        tiny.cost(network())
    small = CortexM(replace(device.board, name="small", ram_bytes=4608))
    with pytest.raises(TargetError, match=r"bytes of RAM \(.*board 'small' has 4608"):
        small.cost(network())


@pytest.mark.device
def test_program_of_another_core_is_refused():
    runner = CortexMRunner(emit(network(), machine("cortex-m4")), board("stm32f446"))
    with pytest.raises(TargetError, match=r"built for cortex-m4.*cortex-m7"):
        target("cortex-m7").cost_of(runner)


@pytest.mark.device
@pytest.mark.parametrize("integer", [False, True])
def test_host_rows_are_measured(integer):
    graph = network(integer)
    cost = HostTarget().cost(graph)
    names = [row.op for row in cost.rows]
    assert [n for n in names if not n.startswith("(")] == ["y", "p", "f", "z"]
    assert names[-1] == "(runtime)"
    assert {row.basis for row in cost.rows} == {Basis.MEASURED}
    rows = {row.op: row for row in cost.rows}
    assert rows["y"].latency_s > 0 and rows["y"].spread >= 0
    element = 1 if integer else 4
    assert rows["y"].flash_bytes >= 12 * 27 * element
    assert rows["y"].macs == 64 * 27 * 12
    assert cost.energy_j is None and cost.instructions is None


def test_toolchain_report_names_every_tool():
    tools = {tool.name: tool for tool in toolchain_report()}
    assert {"zig", "gcc", "clang", "arm-none-eabi-gcc", "unicorn", "cpu"} <= set(tools)
    assert tools["zig"].version.startswith("ziglang ")
    assert tools["unicorn"].version and "lanes" in tools["cpu"].version
