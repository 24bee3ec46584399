"""Recurrent layers in a fit: two products each, planned, solved, trained and compiled."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fit_cases import cost, graph_of, product_of, row, tiny
from torch import nn

from cofit.data import load
from cofit.fit import run_fit
from cofit.fit.candidates import make_menu, measure_slopes
from cofit.fit.device import device
from cofit.fit.plan_rows import plan_rows
from cofit.fit.planning import choose
from cofit.fit.products import products
from cofit.fit.progress import silent
from cofit.fit.reconstruct import reconstruct
from cofit.fit.sensitivity import Probe, output_divergence
from cofit.fit.subject import make_subject
from cofit.ir import run_float, trace
from cofit.models import GruSpeech, StreamingGru
from cofit.structures import parse


class Lstm(nn.Module):
    """Rows of an image as steps."""

    def __init__(self, classes=10):
        super().__init__()
        self.lstm = nn.LSTM(8, 24, batch_first=True)
        self.head = nn.Linear(24, classes)

    def forward(self, x):
        return self.head(self.lstm(x.flatten(1, 2))[0][:, -1])


class OutputsOf(nn.Module):
    """A recurrent layer without its last state."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


def gru():
    return GruSpeech(features=8, hidden=32, stack=1)


def images(count=64, seed=1):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def state_weight(graph):
    return next(p for p in products(graph) if p.side == "hh").weight


@pytest.fixture(scope="module")
def traced():
    return graph_of(gru(), 1, 8, 8)


def test_a_recurrent_op_is_two_products_of_their_own_shares(traced):
    assert [p.name for p in products(traced)] == ["gru ih", "gru hh", "head"]
    assert [p.weight for p in products(traced)][:2] == ["gru.weight_ih_l0", "gru.weight_hh_l0"]
    assert [p.share for p in products(traced)] == [8 / 40, 32 / 40, 1]
    assert [w.name for _, w in traced.weighted()] == [p.weight for p in products(traced)]


@pytest.mark.parametrize("carried", [False, True])
def test_what_a_state_weight_multiplies_is_the_state_before(carried):
    """Against torch's own cell, one step from each of the states that are read."""
    layer, cell = nn.GRU(6, 5, batch_first=True), nn.GRUCell(6, 5)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(cell, name).data = getattr(layer, f"{name}_l0").data
    if carried:
        module = StreamingGru(layer, nn.Linear(5, 3), frames=4).eval()
        graph = trace(module, torch.zeros(1, 4 * 6 + 5), name="case")
        x = torch.randn(1, 4 * 6 + 5, generator=torch.Generator().manual_seed(2))
        frames = x[:, : 4 * 6].reshape(1, 4, 6)
    else:
        graph = trace(OutputsOf(layer), torch.zeros(1, 4, 6), name="case")
        frames = x = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        values = run_float(graph, {graph.inputs[0]: x}, keep=True)
        product = next(p for p in products(graph) if p.side == "hh")
        read = product.reads(values)
        for step in range(4):
            torch.testing.assert_close(
                cell(frames[:, step], read[:, step]), values[product.op.output][:, step]
            )
    assert read.abs().sum(2).min() > 0 if carried else not read[:, 0].any()


def menu_of(graph, families=("block8x1",), rates=(2.0, 4.0)):
    """Priced as if the state's product took three quarters of the op: by its own rate alone."""
    parts = {"gru ih": 0.25, "gru hh": 0.75, "head": 1.0}

    def price(asked):
        return [
            row("alone", 1 - parts[p.name] * (1 - 1 / (parse(s).rate if s else 1)),
                1000 - (500 if s else 0))
            for p, s, _ in asked
        ]  # fmt: skip

    probe = Probe.run(graph, images())
    dense = cost(*(row(op.output, 8e-3, 2000) for op in graph.ops))
    slopes = measure_slopes(probe, lambda _: families, rates, (32,), silent)
    made = make_menu(graph, probe, dense, lambda _: families, rates, (32,), (), price, slopes)
    return made, dense


def test_both_weights_get_options_whose_costs_add_up(traced):
    made, _ = menu_of(traced)
    assert list(made.options) == ["gru ih", "gru hh", "head"]
    for name in ("gru ih", "gru hh"):
        texts = [o.structure for o in made.options[name]]
        assert texts == [None, "block8x1@2", "block8x1@4"]
        losses = [o.loss for o in made.options[name]]
        assert 0 == losses[0] < losses[1] < losses[2]
    pairs = {s: (made.options["gru ih"][i], made.options["gru hh"][i])
             for i, s in enumerate(("dense", "@2", "@4"))}  # fmt: skip
    taken = {s: sum(o.latency_s for o in pair) for s, pair in pairs.items()}
    assert taken == pytest.approx({"dense": 8e-3, "@2": 4e-3, "@4": 2e-3})
    assert [sum(o.flash_bytes for o in pair) for pair in pairs.values()] == [2000, 1000, 1000]


def test_why_a_recurrent_weight_stays_dense_is_said_by_its_name(traced):
    made, _ = menu_of(traced, families=("block200x1",), rates=(2.0,))
    assert made.reasons["gru hh"].startswith("block200x1: a block has 200 output channels")
    assert len(made.options["gru hh"]) == 1


def test_a_plan_within_a_limit_prunes_the_product_that_takes_the_time(traced):
    made, dense = menu_of(traced)
    ops = len(traced.ops)
    plan = choose(traced, made, dense, {"latency": (8 * ops - 5) * 1e-3})
    assert plan.predicted["latency"] <= (8 * ops - 5) * 1e-3
    chosen = {f"{layer.op} {layer.side}".strip(): layer.chosen for layer in plan.layers}
    assert chosen["gru hh"].structure is not None
    whole = choose(traced, made, dense, {"latency": 1.0})
    assert whole.predicted["latency"] == pytest.approx(dense.latency_s) and whole.loss == 0


def test_the_report_has_one_row_for_both(traced):
    made, dense = menu_of(traced)
    plan = choose(traced, made, dense, {"latency": (8 * len(traced.ops) - 5) * 1e-3})
    found = plan_rows(plan, traced, traced, dense, dense)
    assert [r.op for r in found] == ["gru", "head"]
    assert found[0].weight_shape == (96, 40) and found[0].considered == 9
    assert "hh block8x1@" in found[0].structure
    both = [layer.chosen for layer in plan.layers if layer.op == "gru"]
    assert found[0].latency_predicted_s == sum(o.latency_s for o in both)
    assert found[0].loss == sum(o.loss for o in both)


@pytest.mark.parametrize(("module", "name"), [(gru, "gru hh"), (gru, "gru ih"), (Lstm, "lstm hh")])
def test_divergence_is_that_of_the_changed_network(module, name):
    graph = graph_of(module(), 1, 8, 8)
    probe, x = Probe.run(graph, images()), images()
    product = product_of(graph, name)
    weight = torch.from_numpy(graph.tensors[product.weight].data)
    changed = parse("unstructured@3").project(weight)
    bias = torch.from_numpy(graph.tensors[product.bias].data)
    with torch.no_grad():
        read = product.reads(run_float(graph, {graph.inputs[0]: x}, keep=True))
        made_up = bias + (weight - changed) @ read.flatten(0, 1).mean(0)
        values = {product.weight: changed, product.bias: made_up}
        other = graph.with_tensors(
            {n: replace(graph.tensors[n], data=v.numpy()) for n, v in values.items()}
        )
        scores = [run_float(g, {g.inputs[0]: x})[g.outputs[0]] for g in (graph, other)]
    expected = output_divergence(*scores)
    assert expected > 1e-4
    assert probe.divergence(product, changed) == pytest.approx(expected, rel=1e-3)


def test_kept_state_weights_are_the_least_squares_solution_on_dense_states(traced):
    name = state_weight(traced)
    structure = parse("block8x1@2")
    dense = traced.tensors[name].data
    pruned = structure.project(torch.from_numpy(dense)).numpy()
    graph = traced.with_tensors({name: replace(traced.tensors[name], data=pruned)})
    found = reconstruct(graph, traced, images(512), {name: structure}, silent)
    assert structure.check(torch.from_numpy(found.tensors[name].data)) is None
    product = product_of(traced, "gru hh")
    with torch.no_grad():
        values = run_float(traced, {traced.inputs[0]: images(512)}, keep=True)
    states = product.reads(values).flatten(0, 1).double().numpy()
    for output in (0, 8, 95):
        kept = np.flatnonzero(pruned[output])
        columns = np.column_stack([states[:, kept], np.ones(len(states))])
        target = states @ dense[output] + traced.tensors[product.bias].data[output]
        solution = np.linalg.lstsq(columns, target, rcond=None)[0]
        got = [*found.tensors[name].data[output, kept], found.tensors[product.bias].data[output]]
        np.testing.assert_allclose(got, solution, atol=2e-3)


def test_recurrent_kernels_have_families_of_their_own():
    host = device("host")
    assert all("x1" in name for name in host.families("int8", "gru"))
    assert host.families("int8", "lstm") == host.families("int8", "gru")
    assert host.families("int8") != host.families("int8", "gru")


@pytest.fixture(
    scope="module",
    # in int8 half of the bytes are tables and scales
    params=[(gru, "fp32", 0.5), (Lstm, "int8", 0.85)],
    ids=["gru fp32", "lstm int8"],
)
def fitted(request, tmp_path_factory):
    """A fit on rows of digits, its network as it was given, and the share of bytes it may take."""
    module, precision, share = request.param
    torch.manual_seed(3)
    config = tiny(
        tmp_path_factory.mktemp("rows") / "out", model="rows", target="host", rounds=1,
        structures=["block8x1"], rates=[2, 4], pretrain_epochs=12, epochs=3, precision=precision,
        budget=f"flash<={share}x",
    )  # fmt: skip
    subject = make_subject("rows", module(), load("digits"), None, untrained=True)
    return run_fit(config, subject=subject), subject, share


def test_a_recurrent_network_is_fitted_into_fewer_bytes(fitted):
    result, subject, share = fitted
    summary, graph = result.summary, result.program.graph
    assert summary.met and summary.fitted.flash_bytes <= share * summary.dense.flash_bytes
    assert summary.verification.bit_exact is graph.is_integer
    assert summary.verification.max_abs_error < 1e-3
    op = next(op for op in graph.ops if op.kind in ("gru", "lstm"))
    carried = [weight for weight in graph.weights(op) if weight.structure is not None]
    assert carried
    for weight in carried:
        assert parse(weight.structure).check(torch.from_numpy(weight.data)) is None
    variant = next(s.code.variant for s in result.program.source.steps if s.op is op)
    assert all(weight.structure in variant for weight in carried)  # what is gone is not computed
    test = subject.data.test
    predicted = result.program.run(test.inputs.numpy()).argmax(axis=1)
    assert int((predicted == test.targets.numpy()).sum()) == summary.fitted.correct
    assert summary.fitted.accuracy > 0.5  # of ten classes
    row_of = next(r for r in summary.plan if r.op == op.output)
    assert 1 < row_of.rate <= 4.1 and row_of.kept_macs < row_of.macs


def test_training_moves_what_a_recurrent_layer_keeps(fitted):
    result, subject, _ = fitted
    found = result.model.to_graph()
    for product in products(found):
        given = dict(subject.module.named_parameters())[product.weight].detach().numpy()
        now = found.tensors[product.weight].data
        kept = now != 0
        assert np.abs(now[kept] - given[kept]).max() > 1e-3
