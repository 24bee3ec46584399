"""Work of a step in closed form, and what binds it under ceilings made for the purpose."""

import re
from dataclasses import replace

import numpy as np
import pytest

from cofit.codegen import Source, Step, emit, machine
from cofit.codegen.machine import Machine
from cofit.core import Basis
from cofit.ir import DType, Graph, Op, Tensor, attributes
from cofit.targets import (
    Ceilings,
    OpSignature,
    Work,
    one_op_graph,
    roofline_of,
    traffic,
    work_of,
)
from cofit.targets.ceilings import Level, Rate
from cofit.targets.roofline import Roofline, intensity
from cofit.targets.work import register_bytes, winograd_saving

CONV = attributes.Conv2d(padding=(1, 1, 1, 1), fused="relu")
AVX2 = replace(machine("host"), vector_floats=8, vector_registers=16, quads=False)
VNNI = replace(AVX2, vector_floats=16, vector_registers=32, quads=True)


def source_of(
    structure: str | None = None,
    precision: str = "float32",
    op: attributes.Attributes = CONV,
    shape: tuple[int, ...] = (1, 32, 16, 16),
    weight: tuple[int, ...] = (32, 32, 3, 3),
    on: Machine = AVX2,
) -> tuple[Source, Step]:
    source = emit(one_op_graph(OpSignature(op, (shape,), weight, structure, precision), "one"), on)
    return source, next(step for step in source.steps if step.name == "y")


def work(*arguments: object, **options: object) -> Work:
    return work_of(*source_of(*arguments, **options))


def test_dense_convolution() -> None:
    found = work()
    macs = 32 * 32 * 9 * 16 * 16
    assert (found.macs_dense, found.macs_kept, found.macs_executed) == (macs, macs, macs)
    assert found.weight_bytes == 4 * 32 * 32 * 9
    assert found.parameter_bytes == 4 * 32
    assert found.index_bytes == 0
    assert found.input_bytes == found.output_bytes == 4 * 32 * 16 * 16
    assert found.nbytes == found.weight_bytes + 128 + 2 * found.input_bytes
    assert intensity(found) == macs / found.nbytes
    # for outputs x pixels products: a broadcast per pixel, a vector of weights per 8 outputs
    _, step = source_of()
    outputs, pixels = map(int, re.findall(r"(\d+) (?:outputs|pixels)", step.code.variant))
    assert found.register_bytes == macs * (outputs // 8 + pixels) * 32 // (outputs * pixels)
    assert outputs // 8 * pixels <= 16


def test_linear_pads_to_whole_vectors() -> None:
    found = work(op=attributes.Linear(), shape=(1, 40), weight=(10, 40))
    assert found.macs_dense == found.macs_kept == 400
    assert found.macs_executed == 640
    assert (found.input_bytes, found.output_bytes) == (160, 40)


def test_depthwise() -> None:
    op = attributes.Conv2d(padding=(1, 1, 1, 1), groups=16)
    found = work(op=op, shape=(1, 16, 8, 8), weight=(16, 1, 3, 3))
    assert found.macs_dense == found.macs_executed == 16 * 9 * 64
    assert found.weight_bytes == 4 * 16 * 9


@pytest.mark.parametrize("structure", ["block8x1@4", "block16x1@4", "unstructured@4"])
def test_a_kernel_that_skips_does_what_is_kept(structure: str) -> None:
    found = work(structure)
    assert found.macs_executed == found.macs_kept == found.macs_dense // 4
    assert found.weight_bytes == 4 * 32 * 32 * 9 // 4
    assert found.index_bytes > 0


def test_a_dense_kernel_multiplies_zeros() -> None:
    source, step = source_of("block8x1@4")
    graph = source.graph
    bare = {"w": replace(graph.tensors["w"], structure=None)}
    dense = emit(graph.with_tensors(bare), AVX2)
    found = work_of(dense, next(s for s in dense.steps if s.name == "y"))
    assert found.macs_executed == found.macs_dense == 4 * found.macs_kept
    assert work_of(source, step).macs_executed == found.macs_kept


@pytest.mark.parametrize(("edge", "size"), [(16, 4), (7, 4), (6, 2)])
def test_minimal_filtering_multiplies_whole_tiles(edge: int, size: int) -> None:
    source, step = source_of(None, "int8", shape=(1, 32, edge, edge))
    assert f"{size}x{size} outputs" in step.code.variant
    tiles = (-(-edge // size)) ** 2
    assert work_of(source, step).macs_executed == 32 * 32 * (size + 2) ** 2 * tiles


def test_folded_minimal_filtering_multiplies_whole_tiles() -> None:
    """7x7 of stride 2 as 4x4 on 12 channels: 36 products for 9 outputs."""
    op = attributes.Conv2d((2, 2), (3, 3, 3, 3), fused="relu")
    source, step = source_of(None, "int8", op, (1, 3, 40, 26), (32, 3, 7, 7))
    assert step.code.variant == "3x3 outputs"
    found = work_of(source, step)
    assert found.macs_executed == 32 * 12 * 36 * 7 * 5
    assert winograd_saving(3) == pytest.approx(49 * 9 / (4 * 36))


@pytest.mark.parametrize("structure", [None, "block32x4@4", "block16x2@4"])
def test_int8_tiles_load_a_vector_per_sixteen_rows_and_a_word_per_pixel(structure: str) -> None:
    """Products and loads counted by hand for the tile that the kernel says it has."""
    source, step = source_of(structure, "int8", shape=(1, 32, 7, 7), on=VNNI)
    listed = structure is not None
    assert work_of(source, step).macs_executed == 32 * 32 * 9 * 49 // (4 if listed else 1)
    each, rows, pixels = 4, 32, 7
    if structure == "block16x2@4":  # pairs
        each, rows, pixels = 2, 16, 12
    else:
        assert f"{rows} x {pixels} pixels" in step.code.variant
    executed = each * rows * pixels * 1000
    loads = rows // 16 + pixels + listed
    assert register_bytes(VNNI, source.graph, step, executed) == 1000 * loads * 64


def test_int4_weights_count_once_each() -> None:
    signature = OpSignature(CONV, ((1, 32, 8, 8),), (32, 32, 3, 3), None, "int8", 4)
    source = emit(one_op_graph(signature, "one"), machine("cortex-m4"))
    found = work_of(source, source.steps[0])
    assert found.weight_bytes == 32 * 32 * 9 // 2
    assert found.macs_executed == found.macs_dense == 32 * 32 * 9 * 64


def test_an_embedding_reads_the_rows_of_its_tokens() -> None:
    tensors = {
        "x": Tensor("x", (1, 6), DType.I32),
        "w": Tensor("w", (100, 8), data=np.ones((100, 8), np.float32)),
        "y": Tensor("y", (1, 6, 8)),
    }
    graph = Graph.build(
        "one", ("x",), ("y",), (Op("y", attributes.Embedding(), ("x", "w")),), tensors
    )
    source = emit(graph, AVX2)
    found = work_of(source, next(s for s in source.steps if s.name == "y"))
    assert found.weight_bytes == found.output_bytes == 4 * 6 * 8
    assert found.nbytes == 2 * 4 * 6 * 8 + 4 * 6


def test_an_elementwise_op_only_moves_bytes() -> None:
    signature = OpSignature(attributes.Activation("hardswish"), ((1, 4, 6, 6),))
    source = emit(one_op_graph(signature, "one"), AVX2)
    found = work_of(source, next(s for s in source.steps if s.name == "y"))
    assert found.macs_executed == 0
    assert found.nbytes == 2 * 4 * 144


def limits(
    macs_per_s: float, *levels: tuple[str, int | None, float], overlap: bool = True
) -> Ceilings:
    return Ceilings(
        Basis.MEASURED,
        "",
        {"float32": Rate(macs_per_s), "int8": Rate(macs_per_s)},
        "",
        tuple(Level(name, size, Rate(rate)) for name, size, rate in levels),
        0.0,
        overlap,
    )


def roofline(ceilings: Ceilings) -> Roofline:
    source, step = source_of()
    found, at = work_of(source, step), source.steps.index(step)
    return roofline_of(source, found, traffic(source, at, found, ceilings), ceilings)


FAST = 1e30


def test_compute_binds_where_memory_is_free() -> None:
    found = roofline(limits(1e9, ("L1", None, FAST)))
    macs = 32 * 32 * 9 * 16 * 16
    assert found.limit_s == found.compute_s == macs / 1e9
    assert found.binds(1.5 * found.limit_s) == "compute"
    assert found.binds(3 * found.limit_s) == "overhead"
    assert found.overhead_s(3 * found.limit_s) == pytest.approx(2 * found.limit_s)
    assert found.overhead_s(0.5 * found.limit_s) == 0.0  # never below zero
    assert found.binds(0.5 * found.limit_s) == "compute"


def test_the_slowest_level_binds() -> None:
    found = roofline(limits(FAST, ("L1", 0, FAST), ("DRAM", None, 1e9)))
    assert found.binds(found.limit_s) == "DRAM"
    assert found.limit_s == work().nbytes / 1e9
    tile = roofline(limits(FAST, ("L1", 1024, 1e9), ("DRAM", None, FAST)))
    assert tile.binds(tile.limit_s) == "L1"
    assert tile.limit_s == work().register_bytes / 1e9


def test_constants_come_from_what_holds_the_whole_program() -> None:
    source, step = source_of()
    found, at = work_of(source, step), source.steps.index(step)
    whole = source.constant_bytes + source.plan.arena_bytes
    kept = limits(1.0, ("L1", 0, 1.0), ("L2", whole, 1.0), ("DRAM", None, 1.0))
    assert "DRAM" not in traffic(source, at, found, kept)
    # all else fits: three quarters of the constants do not
    alone = replace(found, input_bytes=0, output_bytes=0)
    streamed = limits(1.0, ("L1", 0, 1.0), ("L2", whole // 4, 1.0), ("DRAM", None, 1.0))
    assert traffic(source, at, alone, streamed)["DRAM"] == found.constant_bytes * 3 // 4


def test_inputs_come_from_what_holds_all_since_they_were_written() -> None:
    source, step = source_of()
    found, at = work_of(source, step), source.steps.index(step)
    assert at == 1  # the step before it wrote its input
    levels = ("L1", found.input_bytes, 1.0), ("DRAM", None, 1.0)
    alone = replace(found, weight_bytes=0, parameter_bytes=0, output_bytes=0, register_bytes=0)
    assert traffic(source, at, alone, limits(1.0, *levels)) == {"L1": found.input_bytes}
    levels = ("L1", found.input_bytes // 2, 1.0), ("DRAM", None, 1.0)
    half = traffic(source, at, alone, limits(1.0, *levels))
    assert half == {"L1": found.input_bytes // 2, "DRAM": found.input_bytes // 2}


def test_nothing_overlaps_on_a_core_that_issues_one_by_one() -> None:
    found = roofline(limits(1e9, ("memory", None, 1e9), overlap=False))
    assert found.limit_s == found.compute_s + found.slowest_s
