"""Fits to hardware that runs nothing here: prices and results are the target's own costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fit_cases import tiny
from torch import nn

from cofit.core import Basis, BudgetError, ConfigError, FileError, VerificationError
from cofit.fit import Summary, load_subject, open_program, run_fit
from cofit.fit.devices import device
from cofit.fit.evidence import verify_weights
from cofit.fit.modelled import ModelledDevice
from cofit.fit.permutation import permute_for_pairs
from cofit.fit.precision import Lowering
from cofit.fit.products import products
from cofit.fit.progress import silent
from cofit.ir import Graph, Quantisation, Tensor, load_graph, run_float, trace
from cofit.ir.integer import dequantise_output, quantise_input, run_integer
from cofit.structures import Polarised, parse
from cofit.targets import Accelerator, ArrayTarget, target
from cofit.targets.arrays import Matrix, crossbar_chip, matrices_of
from cofit.targets.dataflow import accelerator

QUICK = {"pretrain_epochs": 2, "epochs": 2, "rounds": 1, "samples": 64}
FITS = {
    "eyeriss": {"budget": "energy<=0.6x", "structures": ["block2x4", "channel"]},
    "forms": {"budget": "latency<=0.8x, energy<=0.4x", "structures": None},
    "ddc": {"budget": "latency<=0.75x", "structures": ["complementary", "block2x4"]},
    "isaac": {"budget": "energy<=0.7x", "structures": ["polarised8", "rows8", "channel"]},
}
USELESS = {"eyeriss": "block", "forms": "block", "isaac": "polarised", "ddc": "block"}
"""On offer where the structures are given, and saving nothing there."""


@pytest.fixture(scope="module", params=FITS)
def fit(request, tmp_path_factory):
    """A whole fit of the digits network, and the graph that it ended with."""
    folder = tmp_path_factory.mktemp("modelled") / "out"
    config = tiny(folder, target=request.param, **FITS[request.param], **QUICK)
    result = run_fit(config)
    label = min(t.label for t in result.summary.tried)
    return config, result, load_graph(folder / "state", f"{label}-lowered")


def test_the_plan_promised_what_the_target_says_of_the_final_graph(fit):
    config, result, final = fit
    cost = target(config.target).cost(final)
    if "energy" in config.budget:
        assert result.plan.predicted["energy"] == pytest.approx(cost.energy_j, rel=1e-9)
    if "latency" in config.budget:
        assert result.plan.predicted["latency"] == pytest.approx(cost.latency_s, rel=1e-9)
    rows = {row.op: row for row in cost.rows}
    for line in result.summary.plan:
        assert line.latency_predicted_s == pytest.approx(rows[line.op].latency_s, rel=1e-9)
        assert line.latency_measured_s == rows[line.op].latency_s
        assert line.kept_macs == rows[line.op].macs and line.basis is Basis.MODELLED
    fitted = result.summary.fitted
    assert (fitted.latency_s, fitted.energy_j) == (cost.latency_s, cost.energy_j)
    hardware = [row for row in result.summary.limits if row.metric != "accuracy_drop"]
    assert hardware and all(row.met for row in hardware)


def test_no_layer_has_a_structure_that_its_target_does_not_profit_from(fit):
    """Each layer put back to its dense form makes the network dearer, in what the budget limits."""
    config, result, final = fit
    hardware = target(config.target)
    cost = hardware.cost(final)
    changed = 0
    for op, weight in final.weighted():
        assert USELESS[config.target] not in (weight.structure or "")
        if weight.structure is None and weight.quantisation.bits == 8:
            continue
        changed += 1
        wide = replace(weight.quantisation, bits=8)
        plain = final.with_tensors(
            {weight.name: replace(weight, structure=None, quantisation=wide)}
        )
        dearer = hardware.cost(plain)
        more_energy = (dearer.energy_j or 0.0) > (cost.energy_j or 0.0)
        assert more_energy or dearer.latency_s > cost.latency_s, op.output
    assert changed or result.plan.removals


def test_what_is_reported_is_what_was_done(fit):
    config, result, final = fit
    summary = result.summary
    assert result.program is None
    assert {path.name for path in config.out.iterdir()} == {
        "config.toml", "export", "state", "summary.json",
    }  # fmt: skip
    assert Summary.read(config.out / "summary.json") == summary
    seen = summary.verification
    assert not seen.ran and not seen.bit_exact and seen.max_abs_error is None
    assert seen.layers == len(list(final.weighted())) and seen.reference == "integer reference"
    with pytest.raises(FileError, match="a fit to modelled hardware, which has no program"):
        open_program(config.out)
    test = load_subject(config).data.test
    stored = run_integer(final, {final.inputs[0]: quantise_input(final, test.inputs.numpy())})
    scores = dequantise_output(final, stored[final.outputs[0]])
    right = int((scores.argmax(axis=1) == test.targets.numpy()).sum())
    assert summary.fitted.correct == right and seen.samples == len(test)
    assert summary.memory.steps == () and summary.peers == ()
    assert summary.device["target"] == target(config.target).name
    assert "published" in summary.device


def test_pairs_are_trained_for_the_macro_that_reads_both_sides(fit):
    config, result, final = fit
    paired = [w for _, w in final.weighted() if w.structure == "complementary"]
    assert bool(paired) == (config.target == "ddc")
    for weight in paired:
        a, b = weight.data.astype(int)[0::2], weight.data.astype(int)[1::2]
        sums = (a + b).reshape(len(a), -1)
        assert (sums == sums[:, :1]).all()  # as the array checks when it stores them
    fitted = result.summary.fitted.accuracy
    assert fitted > result.summary.accuracy_given - 0.06


def test_weights_that_are_not_in_their_structures_are_refused(fit):
    _, result, final = fit
    verify_weights(final, result.plan, 1)
    layer = result.plan.layers[-1]
    weight = final.tensors[final.producer[layer.op].inputs[1]]
    other = replace(weight, structure="rows4@2")  # says so, and is not
    with pytest.raises(VerificationError, match="it bears rows4@2"):
        verify_weights(final.with_tensors({weight.name: other}), result.plan, 1)
    narrow = replace(layer, chosen=replace(layer.chosen, bits=3))
    with pytest.raises(VerificationError, match="wider than 3 bits"):
        verify_weights(final, replace(result.plan, layers=(narrow,)), 1)
    claimed = replace(layer, chosen=replace(layer.chosen, structure="unstructured@9"))
    marked = replace(weight, structure="unstructured@9")
    with pytest.raises(VerificationError, match="is not in its structure unstructured@9"):
        verify_weights(
            final.with_tensors({weight.name: marked}), replace(result.plan, layers=(claimed,)), 1
        )


REFUSED = [
    (
        {"target": "eyeriss", "budget": "flash<=0.5x"},
        "eyeriss states no flash; it states: latency, energy",
    ),
    ({"target": "ddc:baseline", "budget": "energy<=0.5x"}, "states no energy; it states: latency"),
    ({"target": "capram:4"}, "weights of 4 bipolar digits and sums that its converters round"),
    ({"target": "capram"}, "cofit reproduce cap-ram does"),
    ({"target": "ddc", "budget": "energy<=0.5x"}, "ddc:reconf states no energy"),
    ({"target": "forms", "precision": "fp32"}, "'forms' computes in integers"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "text"), REFUSED)
def test_what_a_target_cannot_do_is_said_before_anything_is_written(changed, text, tmp_path):
    changed = {"budget": "latency<=0.5x", **changed}
    with pytest.raises((BudgetError, ConfigError)) as caught:
        run_fit(tiny(tmp_path / "out", **changed))
    assert text in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_platform_loses_channels_only(tmp_path):
    config = tiny(
        tmp_path / "out", target="snapdragon-855", budget="energy<=0.97x", **QUICK,
        structures=["channel", "block2x4"], precision="int8",
    )  # fmt: skip
    summary = run_fit(config).summary
    found = {row.structure.partition("@")[0] for row in summary.plan if row.structure}
    assert found == {"channel"} and summary.limits[0].met


@pytest.fixture(scope="module")
def convolution() -> Graph:
    """conv 16 -> 16, 3x3, int8."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1)).eval()
        x = torch.rand(8, 16, 6, 6)
    return Lowering("int8", x).lower(trace(module, x[:1], name="one"))


def with_structure(graph: Graph, text: str | None, bits: int = 8) -> Graph:
    ((_, weight),) = graph.weighted()
    values = torch.from_numpy(weight.data)
    if text is not None:
        values = parse(text).project(values.float()).to(torch.int8)
    quantisation = Quantisation(weight.quantisation.scale, 0, bits)
    data = np.clip(values.numpy(), -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1)
    return graph.with_tensors(
        {weight.name: Tensor(weight.name, weight.shape, weight.dtype, quantisation, data, text)}
    )


@pytest.mark.parametrize(
    "name", ["forms", "forms:4", "isaac", "puma", "digital", "ddc", "eyeriss", "edge"]
)
def test_prices_of_a_layer_alone_are_its_costs_in_a_network(name, convolution):
    chosen = device(name)
    assert isinstance(chosen, ModelledDevice) and not chosen.measured
    (product,) = products(convolution)
    m = 4 if name == "forms:4" else 8
    asked = [
        (product, text, bits)
        for text in (
            None,
            "complementary",
            f"polarised{m}",
            f"rows{m}@2",
            f"rows{m}@2+polarised{m}",
        )
        for bits in (8, 4)
    ]
    for (_, text, bits), row in zip(
        asked, chosen.price(convolution, asked, "int8", silent), strict=True
    ):
        cost = target(name).cost(with_structure(convolution, text, bits))
        found = next(r for r in cost.rows if r.op == product.op.output)
        assert row.latency_s == pytest.approx(found.latency_s, rel=1e-12)
        assert (row.energy_j is None) == (found.energy_j is None) == name.startswith("ddc")
        assert (row.energy_j or 0.0) == pytest.approx(found.energy_j or 0.0, rel=1e-12)


def test_one_sign_halves_the_conversions_of_forms_and_nothing_on_isaac(convolution):
    ((op, _),) = convolution.weighted()

    def converters(name: str, text: str | None) -> float:
        chip = crossbar_chip(name)
        shaped = with_structure(convolution, text)
        (matrix,) = matrices_of(shaped, op, sign_group=chip.sign_group)
        return chip.cost(matrix).energy_pj["converters"]

    # positions x planes x groups of 8 rows x filters x cells of 2 bits that hold 7 bits
    counted = 36 * 8 * (144 / 8) * 16 * 4
    assert converters("forms", "polarised8") == pytest.approx(
        counted * crossbar_chip("forms").conversion_pj
    )
    assert converters("forms", None) == 2 * converters("forms", "polarised8")
    assert converters("forms", "polarised4") == converters("forms", None)  # too short for 8 rows
    assert converters("forms", "polarised16") == converters("forms", "polarised8")
    assert converters("forms", "rows8@2+polarised8") == converters("forms", "polarised8") / 2
    assert converters("isaac", "polarised8") == converters("isaac", None)


@pytest.mark.parametrize("name", ["ddc:fcc", "ddc:dual", "ddc:reconf"])
@pytest.mark.parametrize("groups", [1, 32])
def test_pairs_share_words_where_the_macro_reads_both_sides(name, groups):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Conv2d(32, 32, 3, padding=1, groups=groups, bias=False).eval()
        x = torch.rand(8, 32, 6, 6)
    graph = Lowering("int8", x).lower(trace(module, x[:1], name="one"))

    def row(target_name: str, paired: bool):
        shaped = with_structure(graph, "complementary") if paired else graph
        return target(target_name).cost(shaped).rows[-1]

    base, apart, pairs = row("ddc:baseline", True), row(name, False), row(name, True)
    assert base.latency_s == apart.latency_s and "apart" in apart.note and "pairs" in pairs.note
    weights, steps = 32 * (32 // groups) * 9, 36 * 8  # loads of 64 bits, positions x input bits
    load = weights * 8 / 64
    if groups == 1:  # 5 blocks of 64 rows, tiles of 16 filters or of 32
        counted = 5 * steps + load / 2
        assert apart.latency_s * 400e6 == pytest.approx(2 * 5 * steps + load)
    else:
        counted = 32 * steps / {"ddc:fcc": 1, "ddc:dual": 2, "ddc:reconf": 4}[name] + load / 2
    assert pairs.latency_s * 400e6 == pytest.approx(counted)


@pytest.mark.parametrize("bits", [8, 4])
def test_pairs_are_pairs_of_integers_with_one_scale(bits):
    """Rounding each filter on its own would leave sums that differ; and int4 pairs stay int4."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(16, 17, 3, padding=1), nn.ReLU(), nn.Conv2d(17, 8, 1))
        x = torch.rand(8, 16, 6, 6)
    graph = trace(module.eval(), x[:1], name="two")
    shaped, pair = graph, parse("complementary")
    for _, weight in graph.weighted():
        data = torch.from_numpy(weight.data)
        data[0] *= 3  # filters of a pair need not be of one size
        member = replace(weight, data=pair.project(data).numpy(), structure=pair.text)
        shaped = shaped.with_tensors({weight.name: member})
    lowering = Lowering("int8", x)
    every = {op.output: bits for op, _ in graph.weighted()}
    integer, apart = lowering.lower(shaped, every), lowering.lower(graph, every)
    for (_, weight), (_, alone) in zip(integer.weighted(), apart.weighted(), strict=True):
        scale = np.array(weight.quantisation.scale)
        stop = len(scale) // 2 * 2
        assert (scale[0:stop:2] == scale[1:stop:2]).all()
        assert pair.check(torch.from_numpy(weight.data)) is None
        assert pair.check(torch.from_numpy(alone.data)) is not None
        assert np.abs(weight.data).max() <= 2 ** (bits - 1) - 1
        real = scale.reshape(-1, 1, 1, 1) * weight.data
        wanted = shaped.tensors[weight.name].data
        assert np.abs(real - wanted).max() <= (1.01 if bits == 8 else 3) * scale.max()


def test_channels_are_ordered_so_that_pairs_fit():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 20, 1)
        ).eval()  # fmt: skip
    x = torch.rand(4, 3, 8, 8)
    graph = trace(module, x[:1], name="three")
    ordered = permute_for_pairs(graph)

    def error(of: Graph) -> float:
        found = 0.0
        for _, weight in of.weighted():
            data = torch.from_numpy(weight.data).double()
            found += float((parse("complementary").project(data) - data).square().sum())
        return found

    assert error(ordered) < 0.95 * error(graph)
    first, second = (run_float(g, {g.inputs[0]: x})[g.outputs[0]] for g in (graph, ordered))
    assert first.shape == second.shape and torch.allclose(first, second, atol=1e-5)


def test_rows_are_left_out_by_whole_groups_where_groups_have_signs(convolution):
    ((op, weight),) = convolution.weighted()
    shaped = with_structure(convolution, "rows4@2")
    columns = shaped.tensors[weight.name].data.transpose(0, 2, 3, 1).reshape(16, 144)  # c fastest
    used = (columns != 0).any(axis=0)
    (one,) = matrices_of(shaped, op)
    (eight,) = matrices_of(shaped, op, sign_group=8)
    assert one == Matrix(int(used.sum()), 16, 36)
    assert eight.rows == 8 * int(used.reshape(-1, 8).any(axis=1).sum()) > one.rows
    dense = replace(shaped.tensors[weight.name], structure=None)
    (plain,) = matrices_of(shaped.with_tensors({weight.name: dense}), op)
    assert plain.rows == 144  # zeros of a dense weight are stored


def test_sparsity_pays_where_the_accelerator_skips_it(convolution):
    (product,) = products(convolution)
    edge = accelerator("edge")
    asked = [(product, None, 8), (product, "unstructured@4", 8)]
    plain = ModelledDevice(Accelerator(edge))
    skipping = ModelledDevice(Accelerator(replace(edge, sparse={"weight": ("skipped",)})))
    assert "unstructured" in skipping.families("int8") and plain.families("int8") == ("channel",)
    dense, sparse = plain.price(convolution, asked, "int8", silent)
    assert (dense.latency_s, dense.energy_j) == (sparse.latency_s, sparse.energy_j)
    dense, sparse = skipping.price(convolution, asked, "int8", silent)
    assert sparse.energy_j < dense.energy_j and sparse.latency_s <= dense.latency_s


def test_a_fit_offers_what_the_chip_profits_from():
    assert isinstance(target("forms:16"), ArrayTarget)
    assert device("forms:16").families("int8") == ("polarised16", "rows16+polarised16", "channel")
    assert device("isaac").families("int8") == ("rows8", "channel")
    assert device("ddc").families("int8") == ("complementary", "rows8", "channel")
    assert device("ddc").families("int8", "gru") == ("rows8", "channel")
    assert device("ddc:baseline").families("int8") == ("rows8", "channel")
    assert Polarised(16).text in device("forms:16").families("int8")
    assert device("zcu102").precisions("auto") == ["fp32", "int8"]
