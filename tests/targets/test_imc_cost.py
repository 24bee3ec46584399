"""Chips of arrays from files, what layers cost on them, and as targets of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cofit.core import Basis, ConfigError, FileError, TargetError, UnknownNameError
from cofit.ir import calibrate, quantise, trace
from cofit.targets import ArrayTarget, target
from cofit.targets.arrays import (
    Activity,
    Matrix,
    capram,
    check_capacity,
    chip,
    converter_ratio,
    crossbar_chip,
    ddc,
    forms,
    known_chips,
    presets,
    read_chip,
)

ISAAC = presets.PRESETS / "isaac.toml"


def test_05_two_energies_in_closed_form() -> None:
    isaac = crossbar_chip("isaac").cost(Matrix(128, 128, 1, input_bits=16, weight_bits=2))
    small = forms().cost(
        Matrix(128, 128, 1, input_bits=16, weight_bits=3), Activity(16 * 7.0, 1000.0)
    )
    assert isaac.energy_pj["converters"] == pytest.approx(3413, abs=1)
    assert small.energy_pj["converters"] == pytest.approx(463 * 7, rel=1e-3)
    assert isaac.energy_pj["crossbars"] == pytest.approx(16 * 30)
    assert isaac.energy_pj["drivers"] == pytest.approx(128 * 16 * 0.4167)
    assert small.energy_pj["drivers"] == pytest.approx(1000 * 0.4167)
    assert isaac.energy_pj["buffers"] == pytest.approx((128 * 16 + 128 * 8) / 256 * 20.45)


def test_05_every_preset_states_node_and_sources() -> None:
    for name in known_chips():
        found = chip(name)
        assert found.name.startswith(name.partition(":")[0]) and found.node_nm > 0
        assert {"accelerator", "node", "published", "chosen"} <= set(found.facts)
    with pytest.raises(UnknownNameError, match=r"did you mean 'forms:8'"):
        chip("forms:88")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "flip = true",
            "flip = true\nflop = true",
            "unknown key flop; known: about, array, buffer",
        ),
        ("cell_bits", "cellbits", "unknown key array.cellbits"),
        ("[bus]", "[buss]", "unknown key buss"),
        (', unit = "pJ", source = "rate"', ', source = "rate"', "converter.energy.unit is missing"),
        ('"pJ", source = "rate" }', '"pJ" }', "converter.energy.source is missing"),
        ('source = "rate" }', 'source = "rates" }', "source is 'rates'; known: hwc, isca16"),
        ('"pJ", source = "rate"', '"J", source = "rate"', "unit is 'J'; known: fJ, pJ, nJ"),
        ("area = { value = 1200", "area = { value = -1", "converter.area.value is -1"),
        (
            'kind = "derived"\n\n[source.puma]',
            'kind = "derived"\nnode_nm = 45\n\n[source.puma]',
            "comes from 'rate' at 45 nm, the accelerator is at 32 nm",
        ),
        ('scheme = "offset"', 'scheme = "ternary"', "sign scheme 'ternary'; known: split"),
        ("group = { value = 128", "group = { value = 100", "groups of 100 rows do not divide 128"),
        ('kind = "crossbars"', 'kind = "memristors"', "kind is 'memristors'; known: crossbars"),
        ("flip = true", "flip = 1", "flip is 1; it must be a bool"),
        ("[router]\n", "", "router is missing; add it"),
        ('name = "isaac"', "name = isaac", "is not TOML"),
    ],
)
def test_05_bad_files_name_the_key(old: str, new: str, text: str, tmp_path: Path) -> None:
    good = ISAAC.read_text()
    assert old in good
    if old == "[router]\n":
        good = good[: good.index(old)] + good[good.index("[unit]") :]
        old = new = ""
    path = tmp_path / "bad.toml"
    path.write_text(good.replace(old, new, 1) if old else good)
    with pytest.raises(ConfigError) as caught:
        read_chip(path)
    assert text in str(caught.value) and "bad.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_05_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read the accelerator"):
        read_chip(tmp_path / "none.toml")


def test_costs_add_up_over_arrays_and_positions() -> None:
    isaac = crossbar_chip("isaac")
    one = isaac.cost(Matrix(128, 32, 1))
    many = isaac.cost(Matrix(128, 32, 100))
    assert many.latency_s == pytest.approx(100 * one.latency_s)
    assert many.total_pj == pytest.approx(100 * one.total_pj)
    wide, tall = isaac.cost(Matrix(128, 64, 1)), isaac.cost(Matrix(256, 32, 1))
    assert wide.arrays == tall.arrays == 2 and one.arrays == 1 and one.used == 1.0
    assert wide.latency_s == tall.latency_s == one.latency_s  # arrays work side by side
    assert wide.energy_pj["converters"] == 2 * one.energy_pj["converters"]
    ragged = isaac.cost(Matrix(129, 33, 1))
    assert ragged.arrays == 4 and ragged.used == pytest.approx(129 * 33 / (4 * 128 * 32))


def test_depthwise_layers_leave_most_of_an_array_empty() -> None:
    isaac = crossbar_chip("isaac")
    cost = isaac.cost(Matrix(9, 1, 49, copies=64))
    assert cost.arrays == 5  # 14 blocks of 9 rows and 4 columns on a diagonal
    assert cost.used == pytest.approx(64 * 9 * 4 / (5 * 128 * 128))
    macro = ddc("dual").cost(Matrix(9, 1, 49, copies=64, paired=True))
    assert macro.latency_s == pytest.approx((32 * 49 * 8 + 32 * 9 * 8 / 64) / 400e6)


def test_smaller_groups_need_smaller_converters() -> None:
    assert [forms(m).converter_bits for m in (4, 8, 16)] == [3, 4, 5]
    assert converter_ratio(8, 4) == pytest.approx((1.67 / 0.79, 1200 / 361))
    assert forms(16).conversion_pj == pytest.approx(forms(8).conversion_pj * 0.99 / 0.79)
    with pytest.raises(ConfigError, match="converters of 2 bits are not known; known: 3, 4"):
        forms(2)


def test_one_macro_holds_what_fits_and_says_how_much_does_not() -> None:
    ternary = capram("1.5")
    full = {"a": Matrix(64, 512, 1)}
    assert check_capacity(ternary, full) == ternary.cells == 65536
    one_more = {**full, "b": Matrix(1, 1, 1)}
    with pytest.raises(TargetError, match=r"needs 65,538: 2 too many"):
        check_capacity(ternary, one_more)
    binary = capram("1")
    with pytest.raises(TargetError, match=r"has 65,536 cells, the network needs 65,537: 1 too"):
        check_capacity(binary, {"a": Matrix(64, 1024, 1), "b": Matrix(1, 1, 1)})
    with pytest.raises(TargetError, match="fill them badly"):
        check_capacity(binary, {"a": Matrix(65, 1000, 1)})


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = torch.nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.last = torch.nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.depthwise(torch.relu(self.first(x))))
        return self.last(y.mean((2, 3)))


def integer_graph():
    x = torch.rand(4, 3, 8, 8)
    graph = trace(Net().eval(), x[:1])
    return quantise(graph, calibrate(graph, [x.numpy()]))


@pytest.mark.parametrize("name", ["isaac", "puma", "forms", "capram", "ddc", "digital"])
def test_targets_cost_a_graph(name: str) -> None:
    found = target(name)
    assert isinstance(found, ArrayTarget)
    graph = integer_graph()
    cost = found.cost(graph)
    assert [row.op for row in cost.rows] == [op.output for op in graph.ops]
    assert {row.basis for row in cost.rows} == {Basis.MODELLED}
    assert cost.macs == 64 * 16 * 27 + 64 * 16 * 9 + 160
    assert cost.latency_s > 0 and (cost.energy_j is None) == (name == "ddc")
    layers = [row for row in cost.rows if row.macs]
    assert len(layers) == 3 and all(row.note for row in layers)
    apart = "groups of 8: positive and negative parts apart"
    assert (apart in layers[0].note) == (name == "forms")


def test_inputs_that_end_early_cost_less() -> None:
    graph = integer_graph()
    names = [op.output for op, _ in graph.weighted()]
    full = target("forms").cost(graph)
    seen = {names[0]: Activity(4 * 3.0, 27.0)}
    short = ArrayTarget(forms(), seen).cost(graph)
    ratio = short.rows[0].latency_s / full.rows[0].latency_s
    assert ratio == pytest.approx(3 / 8) and short.rows[0].energy_j < full.rows[0].energy_j
    assert short.rows[2] == full.rows[2]


def test_products_of_activations_stay_out() -> None:
    class Product(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.transpose(1, 2)

    graph = trace(Product(), torch.rand(1, 4, 5))
    with pytest.raises(TargetError, match=r"\(matmul\) multiplies two activations"):
        target("isaac").cost(graph)


def test_rows_of_a_macro_that_do_not_share_alike(tmp_path: Path) -> None:
    text = (presets.PRESETS / "capram.toml").read_text()
    path = tmp_path / "odd.toml"
    path.write_text(text.replace("share = { value = 8", "share = { value = 7"))
    with pytest.raises(ConfigError, match=r"odd.toml: macro.share is 7, which does not divide"):
        read_chip(path)
