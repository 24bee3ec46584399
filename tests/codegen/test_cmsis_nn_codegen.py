"""Acceptance of the int8 kernels as C: golden vectors, scratch, DSP emulation, random shapes."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import capstone
import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from s8_graphs import HOST, POISON, PORTABLE, Chain, mismatches, random_convolution, weights

from cofit.codegen.build import build
from cofit.codegen.c_text import support_text
from cofit.codegen.emit import emit
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.layout import to_logical, to_memory
from cofit.codegen.machine import Machine, cortex_m
from cofit.core import UnsupportedOpError
from cofit.ir import Rounding
from cofit.ir import attributes as at
from cofit.ir.integer.golden import GoldenCase, read_goldens
from cofit.ir.integer.golden_graphs import GoldenGraph, golden_graph

pytestmark = pytest.mark.device
MACHINES = pytest.mark.parametrize("machine", [PORTABLE, HOST], ids=lambda m: m.name)


def graph_of(case: GoldenCase) -> GoldenGraph | None:
    """The case as a graph of one input, if graphs can say it."""
    try:
        golden = golden_graph(case)
    except UnsupportedOpError:
        return None
    return golden if len(golden.inputs) == 1 else None


@MACHINES
def test_01_golden_through_host_c(data_dir: Path, machine: Machine) -> None:
    cases = read_goldens(data_dir / "cmsis_nn_golden")
    found = [golden for golden in map(graph_of, cases) if golden is not None]
    assert len(found) >= 60
    sources = [emit(golden.graph, machine) for golden in found]
    library = build_host(sources, optimise="-O1")
    wrong = []
    for golden, source in zip(found, sources, strict=True):
        (x,) = golden.inputs.values()
        runner = HostRunner(source, library)
        shape = golden.graph.tensors[golden.graph.outputs[0]].shape
        got = to_logical(np.asarray(runner.run(to_memory(x))), shape)
        if not np.array_equal(np.clip(got, *golden.bounds), golden.expected):
            wrong.append(golden.graph.name)
    assert not wrong


def test_04_scratch_closed_form() -> None:
    rng = np.random.default_rng(4)
    for k, c, kernel in [(5, 3, (3, 3)), (8, 4, (1, 5)), (4, 7, (2, 2)), (3, 16, (5, 5))]:
        chain = Chain(rng, (1, c, 9, 8))
        chain.weighted(at.Conv2d(padding=(1, 1, 1, 1)), weights(rng, (k, c, *kernel)))
        source = emit(chain.graph(), PORTABLE)
        columns = -(-kernel[0] * kernel[1] * c // 4) * 4
        (step,) = source.steps
        assert step.code.scratch_bytes == 2 * columns * 2
        written = bytes_written(source)
        low = source.plan.offsets["(scratch 0)"]
        used = written[low : low + step.code.scratch_bytes]
        # the last bytes of each column are filled, nothing behind the scratch is touched
        length = 2 * kernel[0] * kernel[1] * c
        assert used[columns * 2 - (columns * 2 - length) - 1]
        assert used[columns * 2 + length - 1]
        assert not written[low + step.code.scratch_bytes :].any() or low + len(used) < len(written)
        touched = int(np.flatnonzero(written).max()) + 1
        assert touched <= source.plan.arena_bytes
        assert source.plan.arena_bytes - touched < source.machine.alignment_bytes


def bytes_written(source) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Which arena bytes a run changes, by running over two poisons."""
    library = build_host([source], optimise="-O1")
    x = np.zeros((1, *source.graph.tensors[source.graph.inputs[0]].shape[1:]), np.int8)
    kept = []
    for poison in (POISON, POISON ^ 0xFF):
        runner = HostRunner(source, library)
        runner.load(to_memory(x), poison)
        runner.step(0)
        assert runner.overrun() is None
        kept.append(runner._arena.copy() != poison)
    return kept[0] | kept[1]


DSP_FUNCTIONS = """
int32_t smlad(uint32_t a, uint32_t b, int32_t acc) { return cofit_smlad(a, b, acc); }
uint32_t sxtb16(uint32_t x) { return cofit_sxtb16(x); }
uint32_t sxtab16(uint32_t base, uint32_t x) { return cofit_sxtab16(base, x); }
uint32_t ror8(uint32_t x) { return cofit_ror8(x); }
uint32_t pack(int32_t low, int32_t high) { return cofit_pack(low, high); }
uint32_t max8(uint32_t a, uint32_t b) { return cofit_max8(a, b); }
"""


def test_05_dsp_emulation_and_shapes() -> None:
    text = "#include <stdint.h>\n" + support_text(["s8_maxpool.h"]) + DSP_FUNCTIONS
    library = build({"dsp.c": text}, ("-std=c99", "-O1", "-shared", "-fPIC"), "dsp.so")
    c = ctypes.CDLL(str(library))
    for name in ("sxtb16", "sxtab16", "ror8", "pack", "max8"):
        getattr(c, name).restype = ctypes.c_uint32
    c.smlad.restype = ctypes.c_int32
    edges = [0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x80008000, 0x7FFF7FFF, 0x80007FFF, 0xFF00FF80, 2**31]
    rng = np.random.default_rng(5)
    words = [*edges, *rng.integers(0, 2**32, 60, np.uint64).tolist()]
    u32 = ctypes.c_uint32
    for a in words:
        assert c.sxtb16(u32(a)) == pair(signed(a, 8), signed(a >> 16, 8))
        assert c.ror8(u32(a)) == (a >> 8 | a << 24) & 0xFFFFFFFF
        for b in words:
            low, high = signed(a, 16) + signed(b, 8), signed(a >> 16, 16) + signed(b >> 16, 8)
            assert c.sxtab16(u32(a), u32(b)) == pair(low, high)
            assert c.pack(ctypes.c_int32(a), ctypes.c_int32(b)) == pair(a, b)
            lanes = [max(signed(a >> i, 8), signed(b >> i, 8)) & 255 for i in (0, 8, 16, 24)]
            assert c.max8(u32(a), u32(b)) == sum(v << 8 * i for i, v in enumerate(lanes))
            acc = signed(a ^ b, 32)
            total = signed(a, 16) * signed(b, 16) + signed(a >> 16, 16) * signed(b >> 16, 16) + acc
            assert c.smlad(u32(a), u32(b), ctypes.c_int32(acc)) == signed(total, 32)


def signed(value: int, bits: int) -> int:
    """The lowest bits as a two's-complement number."""
    value &= (1 << bits) - 1
    return value - (value >> bits - 1 << bits)


def pair(low: int, high: int) -> int:
    return (low & 0xFFFF) | (high & 0xFFFF) << 16


@pytest.mark.parametrize(
    ("machine", "count"), [(PORTABLE, 1002), (HOST, 201)], ids=("portable", "host")
)
def test_05_thousand_random_shapes(machine: Machine, count: int) -> None:
    rng = np.random.default_rng(55)
    graphs = []
    for index, rounding in enumerate(Rounding):
        chain = Chain(rng, (1, 5, 11, 9), rounding, f"shapes{index}")
        for _ in range(count // len(Rounding)):
            random_convolution(chain)
        graphs.append(chain.graph())
    convolutions = [op for graph in graphs for op in graph.ops if op.kind == "conv2d"]
    assert len(convolutions) == count
    assert not mismatches(graphs, machine)


def mixed_source(machine: Machine):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(9)
    chain = Chain(rng, (1, 8, 10, 10), name="mixed")
    chain.weighted(at.Conv2d(padding=(1, 1, 1, 1)), weights(rng, (8, 8, 3, 3)))
    chain.weighted(at.Conv2d(padding=(1, 1, 1, 1), groups=8), weights(rng, (8, 1, 3, 3)))
    sparse = weights(rng, (8, 8, 1, 1))
    sparse[2:6] = 0
    chain.weighted(at.Conv2d(), sparse, "block2x4@2")
    chain.weighted(at.Conv2d(), weights(rng, (16, 8, 1, 1), 7), bits=4)
    chain.add(at.Activation("hardswish"), keep=False)
    chain.add(at.MaxPool2d((2, 2), (2, 2)))
    chain.add(at.AvgPool2d((3, 3), (1, 1), (1, 1, 1, 1)))
    chain.add(at.GlobalMean(keep=False), keep=False)
    chain.weighted(at.Linear(), weights(rng, (10, 16)))
    chain.add(at.Softmax(), scale=1 / 256)
    return emit(chain.graph(), machine)


STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-c")


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
@MACHINES
def test_09_generated_c(machine: Machine, compiler: str) -> None:
    if compiler != "zig" and shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    source = mixed_source(machine)
    assert source.source == mixed_source(machine).source
    assert "malloc" not in source.source and "free(" not in source.source
    files = {"mixed.c": source.source, "mixed.h": source.header}
    for optimise in ("-O0", "-O3"):
        assert build(files, (*STRICT, optimise), "mixed.o", compiler).stat().st_size > 0


def test_09_cortex_m_uses_dual_arithmetic() -> None:
    source = mixed_source(cortex_m("m4"))
    files = {"mixed.c": source.source, "mixed.h": source.header}
    flags = ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4", "-mthumb", "-O3")
    path = build(files, (*STRICT, *flags, "-ffreestanding"), "mixed.o")
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    with path.open("rb") as file:
        sections = [s for s in ELFFile(file).iter_sections() if s.name.startswith(".text")]
        text = [i for s in sections for i in decoder.disasm(s.data(), 0)]
    names = {i.mnemonic.split(".")[0] for i in text}
    assert {"smlad", "sxtb16", "sxtab16", "smmulr", "ssub8", "sel"} <= names
    assert any(i.mnemonic == "sxtb16" and "ror" in i.op_str for i in text)


def test_09_undefined_behaviour_is_absent(tmp_path: Path) -> None:
    """A run of all kernels under the sanitiser, which stops the process at the first finding."""
    source = mixed_source(PORTABLE)
    main = f"""
#include "mixed.h"
#include <stdint.h>
static uint8_t arena[MIXED_ARENA_BYTES] __attribute__((aligned(MIXED_ARENA_ALIGN)));
int main(void)
{{
    for (int i = 0; i < MIXED_INPUT_BYTES; i++) arena[MIXED_INPUT_OFFSET + i] = (uint8_t)(i * 37);
    {source.name}_run(arena);
    return 0;
}}
"""
    files = {"mixed.c": source.source, "mixed.h": source.header, "main.c": main}
    flags = ("-std=c99", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    program = build(files, flags, "mixed")
    result = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr or sys.platform
