"""The damage model against closed forms, and its shortcut against running the changed graph."""

import numpy as np
import pytest
import torch
from fit_cases import graph_of, mlp, product_of
from scipy.special import rel_entr, softmax
from torch import nn

from cofit.fit.products import products
from cofit.fit.progress import silent
from cofit.fit.sensitivity import Probe, output_divergence, slopes
from cofit.ir import run_float
from cofit.structures import parse


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pairs = nn.Conv2d(8, 12, 1, groups=2)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = torch.relu(self.deep(torch.relu(self.wide(x))))
        return self.head(torch.relu(self.pairs(x)).mean((2, 3)))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.twice = nn.Linear(6, 6)

    def forward(self, x):
        x = torch.relu(self.twice(torch.relu(self.first(x))))
        return self.twice(x)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(6, 4)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(torch.relu(self.mix(x)).flatten(1))


def inputs(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weight_of(graph, name):
    return torch.from_numpy(graph.tensors[name].data)


def kl(dense, other):
    p, q = softmax(dense.double().numpy(), 1), softmax(other.double().numpy(), 1)
    return rel_entr(p, q).sum(axis=1).mean()


def outputs(graph, x, changed=None):
    """Oracle: the graph with other weights, run as a whole."""
    tensors = {
        name: type(graph.tensors[name])(name, tuple(data.shape), data=data.numpy())
        for name, data in (changed or {}).items()
    }
    with torch.no_grad():
        return run_float(graph.with_tensors(tensors), {graph.inputs[0]: x})[graph.outputs[0]]


def mean_output(graph, probe, name, weight):
    """Mean of a layer's outputs before its activation, per channel and without its bias."""
    x = probe.values[graph.producer[name].inputs[0]]
    if weight.dim() == 2:
        return (x @ weight.T).mean(0)
    return torch.nn.functional.conv2d(x, weight, padding=1).mean((0, 2, 3))


@pytest.mark.parametrize("text", ["unstructured@2", "block1x4@4", "channel@2"])
def test_error_is_the_relative_output_error(text):
    graph = mlp(8, 8)
    spans = torch.tensor([0.1, 3.0, 1.0, 0.0, 2.0, 0.5, 1.5, 4.0])
    x = inputs(40, 8) @ inputs(8, 8, seed=3) * spans
    probe = Probe.run(graph, x)
    dense = weight_of(graph, "0.weight")
    changed = parse(text).project(dense)
    centred = x - x.mean(0)  # the bias makes up for the mean
    exact = (centred @ (dense - changed).T).square().sum() / (centred @ dense.T).square().sum()
    assert 0 < exact < 1
    assert probe.error("0.weight", changed) == pytest.approx(float(exact), rel=1e-5)


def test_error_of_the_same_weight_is_zero_and_of_no_weight_one():
    graph = mlp(6, 4)
    probe = Probe.run(graph, inputs(32, 6))
    dense = weight_of(graph, "0.weight")
    assert probe.error("0.weight", dense.clone()) == 0
    assert probe.error("0.weight", torch.zeros_like(dense)) == pytest.approx(1)


def test_moments_belong_to_the_channels_that_each_filter_reads():
    graph = graph_of(Grouped(), 3, 8, 8)
    x = inputs(16, 3, 8, 8)
    probe = Probe.run(graph, x)
    for name, groups in (("wide", 1), ("deep", 8), ("pairs", 2)):
        entry = probe.values[graph.producer[name].inputs[0]]
        moments = probe.moments[f"{name}.weight"]
        filters, channels = graph.tensors[f"{name}.weight"].shape[:2]
        assert moments.shape == (filters, channels)
        for k in range(filters):
            first = k // (filters // groups) * channels
            for c in range(channels):
                expected = entry[:, first + c].square().mean()
                assert moments[k, c] == pytest.approx(float(expected), rel=1e-5)


def test_error_of_a_grouped_layer_weighs_each_group_by_its_own_input():
    graph = graph_of(Grouped(), 3, 8, 8)
    probe = Probe.run(graph, inputs(16, 3, 8, 8))
    dense = weight_of(graph, "deep.weight")
    moments = probe.moments["deep.weight"][:, 0]
    energy = dense.square().sum(dim=(1, 2, 3)) * moments
    for k in range(8):
        changed = dense.clone()
        changed[k] = 0
        assert probe.error("deep.weight", changed) == pytest.approx(
            float(energy[k] / energy.sum()), rel=1e-5
        )


def test_linear_over_tokens_averages_over_all_of_them():
    graph = graph_of(Tokens(), 3, 6)
    x = inputs(10, 3, 6)
    moments = Probe.run(graph, x).moments["mix.weight"]
    assert moments.shape == (4, 6)
    assert torch.allclose(moments, x.square().mean(dim=(0, 1)).expand(4, 6))


@pytest.mark.parametrize("name", ["wide", "deep", "pairs", "head"])
def test_divergence_equals_a_run_of_the_changed_graph(name):
    graph = graph_of(Grouped(), 3, 8, 8)
    x = inputs(10, 3, 8, 8)  # few enough that means are over all windows
    probe = Probe.run(graph, x)
    changed = parse("unstructured@3").project(weight_of(graph, f"{name}.weight"))
    replaced = {f"{name}.weight": changed}
    if name in ("wide", "head"):  # plain layers: their bias gives the mean that the dense one had
        means = (
            mean_output(graph, probe, name, w)
            for w in (weight_of(graph, f"{name}.weight"), changed)
        )
        dense_mean, changed_mean = means
        replaced[f"{name}.bias"] = weight_of(graph, f"{name}.bias") + dense_mean - changed_mean
    expected = kl(outputs(graph, x), outputs(graph, x, replaced))
    assert expected > 1e-4
    found = probe.divergence(product_of(graph, name), changed)
    assert found == pytest.approx(expected, rel=1e-3)


def test_divergence_of_an_unchanged_layer_is_exactly_zero():
    graph = graph_of(Grouped(), 3, 8, 8)
    probe = Probe.run(graph, inputs(16, 3, 8, 8))
    for product in products(graph):
        assert probe.divergence(product, weight_of(graph, product.weight).clone()) == 0


def test_divergence_of_a_shared_weight_changes_all_its_readers():
    graph = graph_of(Shared(), 6)
    x = inputs(64, 6)
    probe = Probe.run(graph, x)
    changed = parse("unstructured@2").project(weight_of(graph, "twice.weight"))
    expected = kl(outputs(graph, x), outputs(graph, x, {"twice.weight": changed}))
    first = next(p for p in products(graph) if p.weight == "twice.weight")
    assert probe.divergence(first, changed) == pytest.approx(expected, rel=1e-3)


def test_output_divergence_is_the_mean_relative_entropy():
    a, b = inputs(20, 7), inputs(20, 7, seed=2)
    assert output_divergence(a, b) == pytest.approx(kl(a, b), rel=1e-5)
    assert output_divergence(a, a) == 0
    assert output_divergence(a, a + 5) == pytest.approx(0, abs=1e-6)  # scores have no origin


def test_probabilities_are_taken_as_such():
    a, b = inputs(20, 7), inputs(20, 7, seed=2)
    assert output_divergence(a.softmax(1), b.softmax(1)) == pytest.approx(kl(a, b), rel=1e-4)


def test_slope_is_the_steepest_measured_divergence_per_error():
    graph = graph_of(Grouped(), 3, 8, 8)
    probe = Probe.run(graph, inputs(32, 3, 8, 8))
    dense = weight_of(graph, "pairs.weight")
    anchors = [parse(f"unstructured@{rate}").project(dense) for rate in (1.5, 2, 4)]
    product = product_of(graph, "pairs")
    ratios = [probe.divergence(product, a) / probe.noise("pairs.weight", a) for a in anchors]
    assert len(set(ratios)) == 3
    assert slopes(probe, {"pairs.weight": anchors}, silent) == {"pairs.weight": max(ratios)}


def test_slope_of_a_small_perturbation_does_not_depend_on_its_size():
    # divergence and error are both quadratic near the dense network
    graph = graph_of(Grouped(), 3, 8, 8)
    probe = Probe.run(graph, inputs(64, 3, 8, 8))
    dense = weight_of(graph, "head.weight")
    step = inputs(*dense.shape, seed=3) * 0.02
    one, half = (
        slopes(probe, {"head.weight": [dense + step * size]}, silent)["head.weight"]
        for size in (1.0, 0.5)
    )
    assert one > 0
    assert half == pytest.approx(one, rel=0.1)


def test_nothing_to_perturb_has_slope_zero():
    graph = mlp(6, 5, 4)
    probe = Probe.run(graph, inputs(8, 6))
    same = weight_of(graph, "2.weight").clone()
    assert slopes(probe, {"0.weight": [], "2.weight": [same]}, silent) == {
        "0.weight": 0.0,
        "2.weight": 0.0,
    }


def test_probe_keeps_the_values_of_the_whole_sample():
    graph = mlp(6, 5, 4)
    x = inputs(9, 6)
    probe = Probe.run(graph, x)
    assert np.array_equal(probe.values["2"].numpy(), outputs(graph, x).numpy())
    assert all(probe.values[op.output].shape[0] == 9 for op in graph.ops)


@pytest.mark.parametrize("text", ["unstructured@2", "block1x4@2", "channel@2"])
def test_recovered_weights_keep_the_support_and_lessen_the_error(text):
    graph = graph_of(Grouped(), 3, 8, 8)
    probe = Probe.run(graph, inputs(32, 3, 8, 8))
    pruned = parse(text).project(weight_of(graph, "head.weight"))
    found = probe.recovered("head.weight", pruned)
    assert torch.equal(found != 0, pruned != 0)
    gain = probe.error("head.weight", pruned) - probe.error("head.weight", found)
    assert gain > 0 if text != "channel@2" else gain == pytest.approx(0, abs=1e-5)
    whole = weight_of(graph, "deep.weight")
    assert probe.recovered("deep.weight", whole) is whole  # groups are not solved


def test_inputs_that_repeat_others_cost_nothing():
    graph = mlp(8, 4)
    half = inputs(64, 4)
    probe = Probe.run(graph, torch.cat([half, half], dim=1))
    pruned = weight_of(graph, "0.weight").clone()
    pruned[:, 4:] = 0
    assert probe.error("0.weight", pruned) > 0.1
    assert probe.error("0.weight", probe.recovered("0.weight", pruned)) < 1e-6


def test_noise_grows_without_the_bound_that_errors_have():
    graph = mlp(8, 4)
    probe = Probe.run(graph, inputs(64, 8))
    dense = weight_of(graph, "0.weight")
    small, half = (probe.noise("0.weight", dense * share) for share in (0.99, 0.5))
    assert small == pytest.approx(probe.error("0.weight", dense * 0.99), rel=1e-3)
    assert half == pytest.approx(1 / 3)  # a quarter of the energy is lost
    assert 500 < probe.noise("0.weight", torch.zeros_like(dense)) < float("inf")
