"""int8 kernels of sequences on a CPU with vectors: exact for ragged sizes and at every extreme."""

import ctypes
import math
from dataclasses import replace

import numpy as np
import pytest
from s8_graphs import Chain, weights
from test_s8_host import HOST, MACHINES, ROUNDINGS, assert_exact

from cofit.codegen.build import build
from cofit.codegen.c_text import support_text
from cofit.codegen.machine import Machine
from cofit.ir import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor
from cofit.ir import attributes as at
from cofit.ir.integer import exponential_table, softmax
from cofit.ir.integer.softmax import softmax_parameters

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(HOST.vector_floats < 8, reason="this CPU has no vectors of eight int32"),
]


def families(graphs: list[Graph], machine: Machine) -> set[str]:
    """Kernels of the graphs, which are exact."""
    sources = assert_exact(graphs, machine)
    return {step.kernel for source in sources for step in source.steps}


def product(
    name: str, sizes: tuple[int, int, int, int], by_rows: bool, zeros: tuple[int, int],
    rounding: Rounding,
) -> Graph:  # fmt: skip
    """Two slices of one input, multiplied."""
    matrices, rows, inner, columns = sizes
    x = (1, 1, matrices, rows, inner)
    y = (1, 1, matrices, *((columns, inner) if by_rows else (inner, columns)))
    middle, total = math.prod(x), math.prod(x) + math.prod(y)
    shapes = {"in": (1, total), "a": (1, middle), "b": (1, total - middle), "x": x, "y": y}
    # slices keep the input's zero point; the products' own are those of a table before them
    grids = {key: Quantisation((0.02,), zeros[0]) for key in shapes}
    grids |= {"c": Quantisation((0.013,), zeros[1]), "y": Quantisation((0.013,), zeros[1])}
    grids["out"] = Quantisation((0.02 * 0.013 * 200 * math.sqrt(inner),), 5)
    shapes |= {"c": shapes["b"], "out": (*x[:-1], columns)}
    ops = (
        Op("a", at.Slice((0, 0), (1, middle), (1, 1)), ("in",)),
        Op("b", at.Slice((0, middle), (1, total), (1, 1)), ("in",)),
        Op("c", at.Activation("hardswish"), ("b",)),
        Op("x", at.Reshape(x), ("a",)),
        Op("y", at.Reshape(y), ("c",)),
        Op("out", at.Matmul(by_rows, 0.3), ("x", "y")),
    )
    tensors = {key: Tensor(key, shape, DType.I8, grids[key]) for key, shape in shapes.items()}
    return Graph.build(name, ("in",), ("out",), ops, tensors, QuantSpec(rounding))


@MACHINES
@ROUNDINGS
def test_products_of_ragged_sizes(rounding: Rounding, machine: Machine) -> None:
    rng = np.random.default_rng(1)
    sizes = [(1, 1, 1, 1), (3, 5, 7, 9), (2, 7, 16, 17), (1, 13, 33, 8), (2, 65, 16, 65)]
    sizes += [tuple(int(n) for n in rng.integers(1, (4, 20, 40, 40))) for _ in range(3)]
    graphs = [
        product(f"product{i}{by_rows:d}", each, by_rows, zeros, rounding)
        for i, each in enumerate(sizes)
        for by_rows, zeros in ((True, (-128, 127)), (False, (3, -128)))
    ]
    assert "s8-host-matmul" in families(graphs, machine)


@pytest.mark.parametrize("scale", [2.0**-30, 0.003, 0.07, 0.9, 15.0])
def test_a_table_holds_every_exponential(scale: float) -> None:
    """Rows of two values, whose softmax shows each of the table's entries."""
    parameters = softmax_parameters(scale)
    table = exponential_table(parameters)
    assert table.shape == (256,) and table[255] == 2**31 - 1 and (np.diff(table) >= 0).all()
    assert (table[: 255 + parameters.diff_min] == 0).all()
    expected = np.exp(np.arange(-255, 1) * scale) * 2.0**31
    counted = table > 0
    assert np.abs(table - expected)[counted].max() < 2.0**31 * 4e-6
    pairs = np.stack([np.full(256, 127), np.arange(-128, 128)], 1).astype(np.int8)
    share = table / (table + 2.0**31 - 1)
    assert np.abs(softmax(pairs, parameters)[:, 1].astype(int) + 128 - 256 * share).max() <= 1


@MACHINES
def test_softmax_of_ragged_rows(machine: Machine) -> None:
    """One class, sums of a single exponential up to thousands, differences that do not count."""
    graphs = []
    for classes in (1, 2, 7, 8, 33, 65, 300, 4096):
        for scale in (1e-9, 0.004, 0.1, 14.0) if classes < 4096 else (1e-9, 0.05):
            chain = Chain(np.random.default_rng(2), (1, 4, classes), name=f"softmax{len(graphs)}")
            chain.tensors["x"] = replace(chain.tensors["x"], quantisation=Quantisation((scale,), 9))
            chain.add(at.Softmax(), scale=1 / 256)
            graphs.append(chain.graph())
    assert families(graphs, machine) == {"s8-host-softmax"}


@MACHINES
@ROUNDINGS
def test_layer_norms_of_ragged_rows(rounding: Rounding, machine: Machine) -> None:
    rng = np.random.default_rng(3)
    graphs = []
    for index, count in enumerate((1, 2, 15, 16, 17, 40, 64, 129, 2048)):
        chain = Chain(rng, (1, 5, count), rounding, f"norm{index}")
        eps = (1e-5, 0.0, 1e3)[index % 3]
        step = 2.0**-10
        weight = rng.integers(-2047, 2048, count).astype(np.int16)
        bias = rng.integers(-(1 << 20), 1 << 20, count).astype(np.int32)
        kinds = {"w": (DType.I16, weight, step), "b": (DType.I32, bias, step / 4096)}
        for name, (kind, data, scale) in kinds.items():
            bits = 12 if name == "w" else 8
            chain.tensors[name] = Tensor(
                name, (count,), kind, Quantisation((scale,), 0, bits), data
            )
        chain.tensors["y"] = Tensor("y", (1, 5, count), DType.I8, Quantisation((0.03,), -7))
        chain.ops.append(Op("y", at.LayerNorm(eps), ("x", "w", "b")))
        chain.last = "y"
        graphs.append(chain.graph())
    assert families(graphs, machine) == {"s8-host-layernorm"}


NORM = """
void roots(const uint64_t *values, int32_t count, uint32_t *out)
{
    for (int32_t i = 0; i < count; i++)
        out[i] = s8_host_root(values[i]);
}

void quotients(const int32_t *d, const uint32_t *root, int32_t count, int32_t *out)
{
    for (int32_t i = 0; i < count; i += 4)
        _mm_storeu_si128((__m128i *)(void *)(out + i),
                         s8_norm_quotients(_mm_loadu_si128((const __m128i *)(const void *)(d + i)),
                                           _mm256_set1_pd((double)(root[i] >> 1) + 0.5),
                                           _mm256_set1_pd(1.0 / (double)root[i])));
}
"""


def test_roots_and_quotients_by_doubles_are_exact() -> None:
    """At squares and their neighbours, and where a quotient is a whole number or just below."""
    support = support_text(["s8_requantise_single.h", "s8_host_layernorm.h"])
    files = {"norm.c": "#include <stddef.h>\n#include <stdint.h>\n" + support + NORM}
    flags = ("-std=c99", "-O2", *HOST.flags, "-shared", "-fPIC")
    library = ctypes.CDLL(str(build(files, flags, "norm.so")))
    rng = np.random.default_rng(4)

    def pointer(values: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(values.ctypes.data)

    bases = np.concatenate([np.arange(3000), (1 << 26) - np.arange(1, 3000)])
    bases = np.append(bases, rng.integers(0, 1 << 26, 20_000))
    values = (bases**2)[:, None] + np.arange(-1, 2)
    values = np.clip(values, 0, (1 << 52) - 1).ravel().astype(np.uint64)
    found = np.zeros(len(values), np.uint32)
    library.roots(pointer(values), ctypes.c_int32(len(values)), pointer(found))
    assert found.tolist() == [math.isqrt(v) for v in values.tolist()]

    root = rng.integers(1, 1 << rng.integers(1, 25, 50_000))
    most = 255 * 2048
    whole = root * rng.integers(1, 1 + (most << 12) // root) - root // 2
    near = np.clip((whole >> 12)[:, None] + np.arange(-1, 3), 0, most)
    sizes = np.where(rng.random(near.shape) < 0.2, most, near)
    quotient = ((sizes << 12) + (root // 2)[:, None]) // root[:, None]
    fits = (quotient < 1 << 31).all(1)
    signs = rng.choice([-1, 1], sizes.shape)
    d, expected = ((values * signs)[fits].astype(np.int32).ravel() for values in (sizes, quotient))
    out = np.zeros(len(d), np.int32)
    divisors = np.repeat(root[fits], 4).astype(np.uint32)
    library.quotients(pointer(d), pointer(divisors), ctypes.c_int32(len(d)), pointer(out))
    assert np.array_equal(out, expected)


@MACHINES
@ROUNDINGS
@pytest.mark.parametrize("kind", [at.Gru(), at.Lstm()])
def test_recurrent_layers_of_ragged_sizes(
    kind: at.Gru | at.Lstm, rounding: Rounding, machine: Machine
) -> None:
    """Gates within their tables' range and, of thirtyfold weights, far beyond it."""
    rng = np.random.default_rng(5)
    gates, graphs = 3 if kind.kind == "gru" else 4, []
    for hidden, inputs in ((1, 1), (5, 3), (8, 4), (9, 7), (16, 16), (27, 11), (40, 10)):
        for size in (1.0, 30.0):
            chain = Chain(rng, (1, 6, inputs), rounding, f"cell{len(graphs)}")
            rows, scale = gates * hidden, chain.quantisation.scale[0]
            steps = size * 0.003 * np.exp(rng.uniform(-1, 1, rows)) / math.sqrt(hidden)
            names = []
            for side, columns, of in (("ih", inputs, scale), ("hh", hidden, 2.0**-15)):
                grids = (Quantisation(tuple(steps)), Quantisation(tuple(steps * of)))
                spread = 1 / (steps.max() * of)
                bias = (rng.normal(0, 0.5, rows) * spread).astype(np.int32)
                names.append(chain.constant(f"w{side}", weights(rng, (rows, columns)), grids[0]))
                names.append(chain.constant(f"b{side}", bias, grids[1]))
            x, b = (names[0], names[2]), (names[1], names[3])
            chain.add(kind, *x, *b, scale=1 / 120)
            graphs.append(chain.graph())
    sources = assert_exact(graphs, machine)
    assert {step.kernel for source in sources for step in source.steps} == {"s8-host-recurrent"}
    general = ["S8_ANY" in source.steps[0].code.body for source in sources]
    assert any(general) and not all(general)
