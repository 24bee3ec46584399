"""Code that layers share: found in linked programs, priced as many callers make it."""

import pytest
import torch

from cofit.codegen import emit, machine
from cofit.codegen.cortex_m import board, shared_bytes, shared_names
from cofit.fit.precision import Lowering
from cofit.ir import trace
from cofit.models import load_model
from cofit.targets import CortexM, CostTable, signature_of

TARGET = CortexM(board("stm32f446"))
KINDS = {"dense": (None, 8), "narrow": (None, 4), "block": ("block2x4@4", 8)}


@pytest.fixture(scope="module")
def network():
    """Two residual stages, ten weighted layers; float."""
    return trace(load_model("digits_resnet").module.eval(), torch.zeros(1, 1, 8, 8), name="net")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """An empty table in a folder of its own."""
    found = CostTable(TARGET)
    found.path, found._rows = tmp_path_factory.mktemp("table") / "costs.json", {}
    return found


def lowered(network, bits):
    inputs = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Lowering("int8", inputs).lower(
        network, dict.fromkeys((op.output for op, _ in network.weighted()), bits)
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_general_bytes_are_those_of_a_program_of_many_layers(network, bits):
    cost = TARGET.without_limits().cost(lowered(network, bits))
    rows = {row.op: row for row in cost.rows}
    codes = {code.function: code for code in rows["layer2.0.conv2"].shared}
    # ten layers but one call these
    several = ("s8_dense_tiles", "s8_lift_window") if bits == 8 else ("s8_dense4_2", "s8_column")
    assert set(several) <= set(codes)
    for name in several:
        assert codes[name].flash_bytes == pytest.approx(codes[name].general_bytes, rel=0.05)
    # code stands in the runtime's row, once
    assert rows["(runtime)"].flash_bytes > sum(code.flash_bytes for code in codes.values())
    assert rows["(runtime)"].shared == ()


def test_a_layer_alone_says_what_it_calls(network, table):
    op = network.producer["layer2.0.conv2"]
    rows = {
        kind: table.row(signature_of(network, op, structure, "int8", bits))
        for kind, (structure, bits) in KINDS.items()
    }
    own = {kind: {code.function for code in row.shared} for kind, row in rows.items()}
    columns = own["dense"] & own["block"]
    assert columns == {"s8_lift_window", "s8_lift_2"}
    assert own["dense"] - columns == {"s8_lifted_2", "s8_dense_tiles"}
    assert own["block"] - columns == {"s8_blocks_quads_2", "s8_block_tiles_2"}
    assert own["narrow"] == {"s8_dense4_2", "s8_column", "s8_widen", "s8_store"}
    for row in rows.values():
        for code in row.shared:  # fitted to one layer, code is smaller, but loops may be unrolled
            assert 0 < code.flash_bytes <= 1.5 * code.general_bytes
    narrow = {code.function: code for code in rows["narrow"].shared}["s8_dense4_2"]
    assert narrow.flash_bytes < 0.5 * narrow.general_bytes


def test_shared_code_is_in_no_layers_flash(network, table):
    op = network.producer["layer2.0.conv2"]
    source = emit(lowered(network, 8), machine("cortex-m4"))
    step = next(step for step in source.steps if step.name == op.output)
    assert "s8_dense_tiles" in shared_names(step.code.support)
    row = table.row(signature_of(network, op, None, "int8", 8))
    constants = step.constant_bytes
    assert constants <= row.flash_bytes < constants + 400  # the call, no kernel


def test_shared_code_comes_back_from_a_stored_table(network, table):
    signature = signature_of(network, network.producer["linear"], None, "int8", 8)
    row = table.row(signature)
    assert row.shared
    again = CostTable(TARGET)
    again.path = table.path
    again._rows = again._stored()
    assert again._rows[signature.text] == row


def test_sizes_are_of_the_machine_asked_for():
    support = ("s8_requantise_single.h", "s8_dense.h", "s8_column.h")
    found = {core: shared_bytes(support, machine(core)) for core in ("cortex-m4", "cortex-m7")}
    assert found["cortex-m4"].keys() == found["cortex-m7"].keys() == shared_names(support)
    assert all(nbytes > 50 for sizes in found.values() for nbytes in sizes.values())
