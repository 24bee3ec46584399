"""Additions in float32 give the integers of the reference on every pair of inputs, in C."""

import itertools

import numpy as np
import pytest
from s8_graphs import HOST

from cofit.codegen.emit import emit
from cofit.codegen.host import HostRunner, build_host
from cofit.codegen.kernels.float_sum import float_sum
from cofit.codegen.layout import to_memory
from cofit.ir import DType, Graph, Op, Quantisation, QuantSpec, Rounding, Tensor
from cofit.ir import attributes as at
from cofit.ir.integer import run_integer

FIRST, SECOND = (
    grid.reshape(1, 1, 256, 256).astype(np.int8)
    for grid in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")
)


def addition(scales, zeros, rounding=Rounding.DOUBLE, name="g"):
    """x + a constant that, together with `FIRST` as x, makes all pairs of int8."""
    forms = [Quantisation((float(np.float32(s)),), z) for s, z in zip(scales, zeros, strict=True)]
    tensors = {
        "x": Tensor("x", FIRST.shape, DType.I8, forms[0]),
        "c": Tensor("c", SECOND.shape, DType.I8, forms[1], SECOND),
        "y": Tensor("y", FIRST.shape, DType.I8, forms[2]),
    }
    op = Op("y", at.Add(), ("x", "c"))
    return Graph.build(name, ("x",), ("y",), (op,), tensors, QuantSpec(rounding))


def random_additions():
    rng = np.random.default_rng(11)
    for index, rounding in itertools.product(range(8), Rounding):
        x, y = rng.uniform(0.005, 0.1, 2)
        scales = (x, y, max(x, y) * rng.uniform(0.6, 1.8))
        zeros = rng.integers(-128, 128, 3).tolist()
        yield addition(scales, zeros, rounding, f"sum{index}{rounding.value}")


@pytest.mark.skipif(HOST.vector_floats < 8, reason="needs vectors of eight floats")
def test_all_pairs_in_c():
    graphs = list(random_additions())
    sources = [emit(graph, HOST) for graph in graphs]
    library = build_host(sources, optimise="-O1")
    for graph, source in zip(graphs, sources, strict=True):
        runner = HostRunner(source, library)
        runner.load(to_memory(FIRST), 0)
        runner.step(0)
        assert np.array_equal(runner.read("y"), run_integer(graph, {"x": FIRST})["y"])
    fast = [source for source in sources if "s8_host_sum.h" in source.steps[0].code.support]
    assert len(fast) > len(sources) / 2


def test_factors_that_float64_cannot_stand_for_are_left_to_integers():
    graph = addition((0.1, 0.1 / 2**12, 0.1), (0, 0, 0))
    assert float_sum(graph, graph.ops[0]) is None


def test_no_factors_are_claimed_where_the_integers_are_others(monkeypatch):
    """The search compares with the reference, so a reference that is off by one finds nothing."""
    from cofit.codegen.kernels import float_sum as module

    graph = addition((0.031, 0.047, 0.059), (3, -7, 11))
    assert float_sum(graph, graph.ops[0]) is not None
    real = module.add_integers

    def off_by_one(*arguments, **named):
        wanted = real(*arguments, **named).copy()
        wanted[5, 200] += 1 if wanted[5, 200] < 100 else -1
        return wanted

    module._search.cache_clear()
    monkeypatch.setattr(module, "add_integers", off_by_one)
    assert float_sum(graph, graph.ops[0]) is None
    module._search.cache_clear()
