"""Acceptance of the sparse engine for transformers on Cortex-M: formats, kernels, instructions.

Its format is `ocb`: lists of the places of kept blocks, two bytes each, where the paper's choice of
run lengths has one; memory is in test_tinyformer_memory.py.
"""

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from s8_graphs import PORTABLE, Chain, weights
from tests.fuzz.batch import run_together
from tests.ir.integer.norms import norm_graph, steps_off
from tinyformer_net import BLOCKS, int8_network

from cofit.codegen.build import build
from cofit.codegen.cortex_m import CortexMRunner, default_board
from cofit.codegen.emit import Source, emit
from cofit.codegen.host import build_flags
from cofit.codegen.kernels import s8_blocks, s8_sparse
from cofit.codegen.layout import to_logical, to_memory
from cofit.codegen.machine import Machine, machine
from cofit.codegen.storage import SCRATCH
from cofit.core import numpy_generator
from cofit.ir import Graph, kept_macs, run_integer
from cofit.ir import attributes as at
from cofit.ir.integer.golden import read_golden
from cofit.ir.integer.golden_graphs import golden_graph
from cofit.structures import from_bytes, parse, to_bytes
from cofit.structures.formats import ocb

SIDES = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (4, 1))


def test_01_thousand_random_masks_round_trip():
    """Bytes are 2 (G + n) + n b: G groups of rows, n blocks of b weights."""
    rng = numpy_generator(1, "masks")
    longest_run, ragged, empty_rows = 0, 0, 0
    for trial in range(1000):
        out, in_ = SIDES[trial % len(SIDES)]
        side = (1, 3)[trial % 4 == 0]
        k, c = int(rng.integers(1, 24)), int(rng.integers(1, 60 if trial % 5 else 900))
        groups, slabs = -(-k // out), -(-c // in_)
        kept = rng.random((groups, slabs, side * side)) < rng.choice([0, 0.004, 0.05, 0.5, 1])
        kept[rng.random(groups) < 0.2] = False
        mask = kept.repeat(out, 0).repeat(in_, 1)[:k, :c].reshape(k, c, side, side)
        values = rng.integers(1, 128, mask.shape) * rng.choice([-1, 1], mask.shape)
        weight = (values * mask).astype(np.int8)
        encoding = ocb.encode(weight, out, in_)
        blocks = int(kept.sum())
        assert encoding.nbytes == 2 * (groups + blocks) + blocks * out * in_
        for held in (encoding, from_bytes(to_bytes(encoding))):
            decoded = held.decode()
            assert decoded.dtype == np.int8 and np.array_equal(decoded, weight)
        places = np.split(encoding.arrays["index"].astype(int), encoding.arrays["count"].cumsum())
        longest_run = max([longest_run, *(np.diff(p, prepend=-1).max(initial=0) for p in places)])
        ragged += k % out > 0 or c % in_ > 0
        empty_rows += int((encoding.arrays["count"] == 0).sum())
    assert longest_run > 256 and ragged > 100 and empty_rows > 100


def pruned(text: str, weight: np.ndarray) -> np.ndarray:
    nearest = parse(text).project(torch.tensor(weight, dtype=torch.float32))
    return nearest.numpy().astype(np.int8)


def test_01_flash_is_the_encoding_and_the_epilogue():
    rng = np.random.default_rng(3)
    for text in ("block2x2@4", "block1x4@4", "block16x1@4", "unstructured@8", "nm1:4"):
        chain = Chain(rng, (1, 16, 6, 6), name="flash")
        chain.weighted(at.Conv2d(), pruned(text, weights(rng, (32, 16, 3, 3))), text)
        source = emit(chain.graph(), PORTABLE)
        encoding = s8_sparse.structured_encoding(source.graph, source.graph.ops[0])
        assert not isinstance(encoding, str)
        epilogue = 32 * (4 + 4 + 1)  # bias, multiplier, shift
        assert source.constant_bytes == encoding.nbytes + epilogue


OPERATORS = {
    "point": ((1, 24, 5, 6), at.Conv2d(), (20, 24, 1, 1)),
    "window": ((1, 24, 7, 6), at.Conv2d((2, 1), (1, 1, 0, 1)), (18, 24, 3, 3)),
    "vector": ((1, 48), at.Linear(), (36, 48)),
    "tokens": ((1, 9, 48), at.Linear(), (36, 48)),
}


@pytest.mark.device
@pytest.mark.parametrize("chosen", [PORTABLE, machine("cortex-m7")], ids=lambda m: m.name)
def test_02_sparse_kernels_give_the_bytes_of_dense_ones(chosen: Machine):
    """The same graph twice, the second time with decoded weights and no structure."""
    rng, pairs = numpy_generator(2), []
    for name, (shape, attributes, of_weight) in OPERATORS.items():
        for i, text in enumerate((*BLOCKS, "block4x4@4", "unstructured@6")):
            chain = Chain(rng, shape, name=f"{name}{i}")
            weight = pruned(text, weights(rng, of_weight))
            weight[4:8] = 0
            chain.weighted(attributes, weight, text)
            sparse = chain.graph()
            decoded = parse(text).encode(weight).decode()
            held = replace(sparse.tensors["t0.w"], data=decoded, structure=None)
            dense = replace(sparse.with_tensors({"t0.w": held}), name=f"{name}{i}dense")
            pairs += [sparse, dense]
    runners = run_together(pairs, chosen, "-O1")
    for sparse, dense in zip(runners[::2], runners[1::2], strict=True):
        (a,), (b,) = sparse.source.steps, dense.source.steps
        assert a.kernel in ("s8-sparse", "s8-blocks") and b.kernel in ("s8-dense", "s8-lifted")
        given = sparse.source.graph.tensors["x"].shape[1:]
        x = to_memory(rng.integers(-128, 128, (3, *given)).astype(np.int8))
        y = np.asarray(sparse.run(x))
        assert np.unique(y).size > 5 and np.array_equal(y, dense.run(x)), sparse.source.name


READ_AND_COMPARE = """
#include "{name}.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void __asan_poison_memory_region(const volatile void *, size_t);
void __asan_unpoison_memory_region(const volatile void *, size_t);

enum {{ SIZE = {size} }};
static uint8_t *arena, wanted[SIZE];

static void take(FILE *file, void *to, size_t bytes)
{{
    if (fread(to, 1, bytes, file) != bytes) exit(3);
}}

static void compare(FILE *file, const char *step, int input, size_t offset, size_t bytes)
{{
    take(file, wanted, bytes);
    if (memcmp(arena + offset, wanted, bytes)) {{
        fprintf(stderr, "%s differs on input %d\\n", step, input);
        exit(1);
    }}
}}

int main(int count, char **arguments)
{{
    void *place;
    FILE *file = fopen(arguments[count - 1], "rb");
    if (file == NULL || posix_memalign(&place, {align}, SIZE)) return 3;
    arena = place;
    for (int input = 0; input < {inputs}; input++) {{
        memset(arena, 0xAA, SIZE);
        take(file, arena + {entry}, {entry_bytes});
{steps}        __asan_unpoison_memory_region(arena, SIZE);
    }}
    return fgetc(file) == EOF ? 0 : 3;
}}
"""


def step_by_step(source: Source, inputs: int) -> str:
    """C that runs every step with all of the arena poisoned but what the step may touch."""
    graph, plan, lines = source.graph, source.plan, []
    for index, step in enumerate(source.steps):
        spans = [(source.offsets[n], graph.tensors[n].nbytes) for n in (*step.reads, step.writes)]
        if step.code.scratch_bytes:
            spans.append((plan.offsets[SCRATCH.format(index)], step.code.scratch_bytes))
        offset, nbytes = source.offsets[step.writes], graph.tensors[step.writes].nbytes
        lines.append("__asan_poison_memory_region(arena, SIZE);")
        lines += [f"__asan_unpoison_memory_region(arena + {a}, {n});" for a, n in spans]
        lines.append(f"{source.name}_step({index}, arena);")
        lines.append(f'compare(file, "{step.name}", input, {offset}, {nbytes});')
    return READ_AND_COMPARE.format(
        name=source.name, size=plan.arena_bytes, align=source.machine.alignment_bytes,
        inputs=inputs, entry=source.offsets[source.entry],
        entry_bytes=graph.tensors[graph.inputs[0]].nbytes,
        steps="".join(f"        {line}\n" for line in lines),
    )  # fmt: skip


@pytest.mark.device
def test_03_every_layer_equals_the_reference_on_200_inputs(tmp_path: Path):
    """Under both sanitisers, with -Wall -Wextra -Werror."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed; it has the address sanitiser that zig lacks")
    graph, x = int8_network()
    assert len(x) == 200
    source = emit(graph, PORTABLE)
    kernels = {step.kernel for step in source.steps}
    assert {"s8-blocks", "s8-sparse", "s8-layernorm", "s8-softmax", "s8-matmul"} <= kernels
    wanted = run_integer(graph, {graph.inputs[0]: x}, keep=True)
    assert np.unique(wanted[graph.outputs[0]]).size > 20
    columns = [x, *(wanted[step.writes] for step in source.steps)]
    parts = [to_memory(column).reshape(len(x), -1) for column in columns]
    (tmp_path / "vectors.bin").write_bytes(np.concatenate(parts, 1).tobytes())
    files = {
        f"{source.name}.c": source.source,
        f"{source.name}.h": source.header,
        "main.c": step_by_step(source, len(x)),
    }
    flags = (*build_flags(source, "-O1"), "-fsanitize=address,undefined")
    assert {"-Wall", "-Werror"} <= set(flags)
    flags += ("-fno-sanitize-recover=all", "-DCOFIT_STEPS", "-D_POSIX_C_SOURCE=200809L")
    program = build(files, flags, "sanitised", "gcc")
    command = [str(program), str(tmp_path / "vectors.bin")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:2000]


@pytest.mark.parametrize("channels", [8, 48, 64, 128, 512])
def test_04_integer_layer_norm_is_within_one_step_of_the_float_one(channels):
    rng = numpy_generator(1, "norm", channels)
    integer, real = norm_graph(rng, channels, rows=200)
    x = np.clip(rng.normal(0, 30, (8, 200, channels)), -128, 127).astype(np.int8)
    off = steps_off(integer, real, x)
    assert (off <= 1).mean() >= 0.999 and off.max() <= 2


@pytest.mark.parametrize("value", [-128, -1, 0, 77, 127])
def test_04_a_constant_input_gives_the_bias_exactly(value):
    integer, real = norm_graph(numpy_generator(2), 64)
    y = run_integer(integer, {"x": np.full((1, 4, 64), value, np.int8)})["y"]
    grid = integer.tensors["y"].quantisation
    bias = np.floor(real.tensors["b"].data / grid.scale[0] + 0.5) + grid.zero_point
    assert np.array_equal(y, np.broadcast_to(bias, y.shape))


@pytest.mark.device
@pytest.mark.parametrize("chosen", [PORTABLE, machine("cortex-m7")], ids=lambda m: m.name)
def test_05_softmax_equals_the_golden_vectors(data_dir: Path, chosen: Machine):
    """The one int8 case; all other operators' are in test_golden_emulated.py."""
    golden = golden_graph(read_golden(data_dir / "cmsis_nn_golden" / "softmax.npz"))
    assert [op.kind for op in golden.graph.ops] == ["softmax"]
    (x,) = golden.inputs.values()
    (runner,) = run_together([golden.graph], chosen)
    got = to_logical(np.asarray(runner.run(to_memory(x))), golden.expected.shape)
    assert np.array_equal(got, golden.expected)
    assert np.array_equal(run_integer(golden.graph, golden.inputs)["y"], golden.expected)


SPARSITIES = (0, 0.5, 0.7, 0.8, 0.9, 0.95)


def ladder(shape: tuple[int, ...], attributes: at.Conv2d | at.Linear) -> Graph:
    """One full weight at every sparsity in every block, and dense at last, layer after layer."""
    rng = numpy_generator(9)
    chain = Chain(rng, shape, name="ladder")
    size = (shape[1], shape[1]) + ((1, 1) if len(shape) == 4 else ())
    values = (rng.integers(1, 128, size) * rng.choice([-1, 1], size)).astype(np.int8)
    for block in BLOCKS:
        for sparsity in SPARSITIES:
            text = f"{block.split('@')[0]}@{1 / (1 - sparsity):.6g}"
            weight = pruned(text, values)
            assert abs((weight == 0).mean() - sparsity) < 0.01
            chain.weighted(attributes, weight, text)
    chain.weighted(attributes, values)
    return chain.graph()


@pytest.mark.device
@pytest.mark.parametrize(
    ("shape", "attributes"), [((1, 64, 4, 4), at.Conv2d()), ((1, 64), at.Linear())],
    ids=["point", "vector"],
)  # fmt: skip
def test_09_instructions_fall_with_sparsity_and_full_lists_lose(shape, attributes, monkeypatch):
    """Full weights are handed to dense kernels; here lists as large as the weight are let through.

    No count lies below half an instruction for each kept product, as many as SMLAD can do, so no
    layer is skipped; outputs are compared too.
    """
    for module in (s8_blocks, s8_sparse):
        monkeypatch.setattr(module, "listed_encoding", s8_sparse.structured_encoding)
    graph = ladder(shape, attributes)
    source = emit(graph, machine("cortex-m7"))
    *sparse, dense = source.steps
    assert {step.kernel for step in sparse} <= {"s8-blocks", "s8-sparse"}
    assert dense.kernel in ("s8-dense", "s8-lifted")
    board = replace(default_board("cortex-m7"), flash_bytes=1 << 24)
    runner = CortexMRunner(source, board)
    x = numpy_generator(10).integers(-128, 128, (1, *shape[1:])).astype(np.int8)
    wanted = run_integer(graph, {"x": x})[graph.outputs[0]]
    assert np.array_equal(to_logical(runner.run(to_memory(x)), wanted.shape), wanted)
    counted = runner.measure().instructions
    counts = np.array([counted[step.name] for step in sparse]).reshape(len(BLOCKS), -1)
    table = f"dense {counted[dense.name]}\n{counts}"
    assert (np.diff(counts, axis=1) < 0).all(), table
    assert (counts[:, 0] > counted[dense.name]).all(), table
    assert (counts[:, -1] < counted[dense.name]).all(), table
    for op, step in zip(graph.ops, source.steps, strict=True):
        assert counted[step.name] >= kept_macs(graph, op) / 2, step.name
    assert math.isclose(kept_macs(graph, graph.ops[0]), math.prod(shape) * shape[1])
