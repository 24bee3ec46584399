"""Cost tables: filled once, kept on disk, invalidated by what the numbers depend on."""

import numpy as np
import pytest

from cofit.core import Basis, StructureError
from cofit.ir import Graph, attributes
from cofit.structures import parse
from cofit.targets import (
    CostTable,
    HostTarget,
    OpSignature,
    one_op_graph,
    signature_of,
    table_key,
    target,
)
from cofit.targets import table as table_module

CONV = attributes.Conv2d(padding=(1, 1, 1, 1), fused="relu")
DENSE8 = OpSignature(CONV, ((1, 16, 8, 8),), (32, 16, 3, 3), None, "int8")
BLOCK8 = OpSignature(CONV, ((1, 16, 8, 8),), (32, 16, 3, 3), "block4x1@4", "int8")
DENSE32 = OpSignature(CONV, ((1, 16, 8, 8),), (32, 16, 3, 3))
OTHERS = [
    OpSignature(attributes.Add(), ((1, 4, 6, 6), (1, 4, 6, 6)), None, None, "int8"),
    OpSignature(attributes.Concat(1), ((1, 4, 6, 6), (1, 2, 6, 6)), None, None, "int8"),
    OpSignature(attributes.Mul(), ((1, 4, 6, 6), (1, 4, 1, 1)), None, None, "int8"),
    OpSignature(attributes.Linear(), ((1, 40),), (10, 40), None, "int8"),
    OpSignature(attributes.MaxPool2d((2, 2), (2, 2)), ((1, 4, 6, 6),), None, None, "int8"),
    OpSignature(attributes.Activation("hardswish"), ((1, 4, 6, 6),), None, None, "int8"),
    OpSignature(attributes.Softmax(), ((1, 10),), None, None, "int8"),
    OpSignature(attributes.GlobalMean(), ((1, 4, 6, 6),), None, None, "int8"),
]


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A table folder of its own; builds stay in the shared cache."""
    monkeypatch.setattr(table_module, "cache_dir", lambda: tmp_path)


@pytest.mark.parametrize("signature", [DENSE8, BLOCK8, DENSE32, *OTHERS], ids=lambda s: s.text[:40])
def test_one_op_graph_is_the_op(signature):
    graph = one_op_graph(signature, "one")
    op = graph.producer["y"]
    assert op.attributes == signature.attributes
    assert signature_of(graph, op, signature.structure, signature.precision) == signature
    weight = graph.weight(op)
    if signature.structure is not None:
        assert weight.structure == signature.structure
        assert np.count_nonzero(weight.data) <= weight.size / 4 * 1.01
        import torch

        assert parse(signature.structure).check(torch.tensor(weight.data)) is None
    elif weight is not None:
        assert np.count_nonzero(weight.data) > 0.9 * weight.size


def test_weights_depend_on_the_signature_only():
    one, two = one_op_graph(BLOCK8, "a"), one_op_graph(BLOCK8, "b")
    assert np.array_equal(one.tensors["w"].data, two.tensors["w"].data)
    texts = {s.text for s in (DENSE8, BLOCK8, DENSE32, *OTHERS)}
    assert len(texts) == 3 + len(OTHERS)


def test_structure_that_does_not_apply_is_an_error():
    bad = OpSignature(CONV, ((1, 16, 8, 8),), (32, 16, 3, 3), "nonsense@4", "int8")
    with pytest.raises((StructureError, ValueError), match="nonsense"):
        one_op_graph(bad, "bad")


@pytest.mark.device
def test_emulated_rows_are_stored_and_found_again(fresh, monkeypatch):
    device = target("cortex-m4")
    table = CostTable(device)
    signatures = [DENSE8, BLOCK8, *OTHERS]
    table.fill(signatures)
    dense, block = table.row(DENSE8), table.row(BLOCK8)
    assert dense.basis is Basis.EMULATED and dense.op == DENSE8.text
    assert block.instructions < dense.instructions
    assert block.flash_bytes < dense.flash_bytes / 2
    assert block.macs <= dense.macs / 3.5
    assert all(table.row(s).instructions > 0 for s in OTHERS)

    def refuse(*_):
        raise AssertionError("a stored row was measured again")

    monkeypatch.setattr(table_module, "emit", refuse)
    again = CostTable(device)
    assert [again.row(s) for s in signatures] == [table.row(s) for s in signatures]


@pytest.mark.device
def test_table_row_is_the_cost_inside_a_network(fresh):
    """The same op in the table and in a program of its own: the same instructions."""
    device = target("cortex-m4")
    graph: Graph = one_op_graph(DENSE8, "whole")
    inside = next(row for row in device.cost(graph).rows if row.op == "y")
    alone = CostTable(device).row(DENSE8)
    # the input values differ, and with them which clamps are taken
    assert alone.instructions == pytest.approx(inside.instructions, rel=0.01)
    assert alone.flash_bytes == inside.flash_bytes


@pytest.mark.device
def test_host_rows_are_measured_with_their_spread(fresh):
    table = CostTable(HostTarget())
    table.fill([DENSE32, DENSE8])
    row = table.row(DENSE32)
    assert row.basis is Basis.MEASURED
    assert row.latency_s > 0 and row.spread >= 0
    assert row.flash_bytes >= 32 * 16 * 9 * 4
    assert row.macs == 64 * 16 * 9 * 32


@pytest.mark.device
def test_a_slow_while_of_the_machine_does_not_price_an_op(fresh, monkeypatch):
    """Readings of an op lie apart in time, go on until two agree, and the least counts."""
    readings = {"op0": [1.5, 1.0, 1.02], "op1": [2.04, 2.0]}
    order = []

    class Runner:
        def __init__(self, source, library):
            self.name = source.name
            self.left = iter([9.0, *readings[source.name]])  # the first run warms up

        def measure(self, repeats=None):
            order.append(self.name)
            latency = next(self.left)

            class Result:
                latency_s = latency
                per_step_s = {"y": latency}  # noqa: RUF012

            return Result()

    monkeypatch.setattr(table_module, "HostRunner", Runner)
    table = CostTable(HostTarget())
    table.fill([DENSE32, DENSE8])
    slow, steady = table.row(DENSE32), table.row(DENSE8)
    assert (slow.latency_s, steady.latency_s) == (1.0, 2.0)
    assert slow.spread == pytest.approx(0.02) and steady.spread == pytest.approx(0.02)
    assert order == ["op0", "op0", "op1", "op1", "op0", "op1", "op0"]


def test_tables_belong_to_cpu_compiler_and_generator(monkeypatch):
    host, board = HostTarget(), target("cortex-m4")
    keys = [table_key(host), table_key(board), table_key(target("cortex-m4:nrf52840"))]
    monkeypatch.setattr(table_module, "cpu_name", lambda: "another CPU")
    keys.append(table_key(host))
    assert table_key(board) == keys[1], "emulation does not depend on this CPU"
    monkeypatch.setattr(table_module, "generator_hash", lambda: "changed")
    keys += [table_key(host), table_key(board)]
    assert len(set(keys)) == 6
