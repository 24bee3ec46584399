"""FORMS as a reproduction: trained polarisation, variation, cycles on real activations, smoke."""

import math

import pytest
import torch
from provenance import states_sources

from cofit.core import torch_generator
from cofit.data import load
from cofit.ir import trace
from cofit.regimes import ADMM, Batches, Held, Recipe, fit
from cofit.reproductions import reproduce
from cofit.reproductions.forms import REPRODUCTION
from cofit.reproductions.forms.crossbars import on_crossbars
from cofit.reproductions.forms.network import WEIGHTS, LeNet, layer_sets
from cofit.reproductions.forms.study import crossbar_counts, is_polarised, mean_cycles
from cofit.reproductions.forms.variation import varied
from cofit.reproductions.harness import accuracy, fewer, runner, seeded
from cofit.reproductions.harness.integers import integer_accuracy, quantised
from cofit.structures import FixedPoint, Polarised, from_bytes, to_bytes
from cofit.targets.arrays import Crossbar

RATES = {"features.3.weight": (1.0, 1.5), "classifier.0.weight": (2.0, 1.5)}


@pytest.fixture(scope="module")
def digits():
    return fewer(load("digits"), 1400)


def batches(data):
    return Batches(data.train.inputs, data.train.targets, size=25)


@pytest.fixture(scope="module")
def dense(digits):
    model = seeded(lambda: LeNet((1, 8, 8), (12, 24, 48), 3), 0)
    return fit(model, batches(digits), Recipe(6, 5e-3, optimiser="adam"))[0]


def compressed(dense, digits, fragment, epochs=(6, 8)):
    model = seeded(lambda: LeNet((1, 8, 8), (12, 24, 48), 3), 0)
    model.load_state_dict(dense.state_dict())
    sets = layer_sets(RATES, fragment)
    admm = ADMM(sets, rho=1e-3, growth=10.0, stages=3, stage_epochs=epochs[0] // 3)
    model = fit(model, batches(digits), Recipe(epochs[0], 5e-3, optimiser="adam"), admm)[0]
    recipe = Recipe(epochs[1], 5e-3, optimiser="adam")
    return fit(model, batches(digits), recipe, Held(sets))[0]


@pytest.fixture(scope="module")
def polarised(dense, digits):
    return compressed(dense, digits, 8)


def weights_of(model):
    return {name: model.get_parameter(name).detach() for name in WEIGHTS}


def test_02_every_fragment_has_one_sign_after_training_storage_and_quantising(polarised, digits):
    weights = weights_of(polarised)
    assert is_polarised(weights, 8)
    assert all(FixedPoint(8).check(weight) is None for weight in weights.values())
    assert all(bool((weight < 0).any() and (weight > 0).any()) for weight in weights.values())
    for weight in weights.values():
        stored = from_bytes(to_bytes(Polarised(8).encode(weight.numpy())))
        assert torch.equal(torch.from_numpy(stored.decode()), weight)
    graph = quantised(trace(polarised, digits.train.inputs[:1]), digits.train.inputs[:100])
    for _, stored in graph.weighted():
        assert Polarised(8).check(torch.from_numpy(stored.data)) is None


def test_02_folding_a_normalisation_turns_whole_columns():
    generator = torch_generator(2)
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 12, 3), torch.nn.BatchNorm2d(12)).eval()
    with torch.no_grad():
        model[0].weight.copy_(Polarised(8).project(torch.randn(12, 4, 3, 3, generator=generator)))
        model[1].weight.copy_(torch.randn(12, generator=generator))
        model[1].running_var.copy_(torch.rand(12, generator=generator) + 0.1)
    (_, folded), *_ = trace(model, torch.randn(1, 4, 8, 8, generator=generator)).weighted()
    signs = Polarised(8).signs(model[0].weight)
    turned = Polarised(8).signs(torch.from_numpy(folded.data))
    assert Polarised(8).check(torch.from_numpy(folded.data)) is None
    assert torch.equal(turned, signs * model[1].weight.sign().long()[:, None])
    assert not torch.equal(turned, signs)


def test_08_counts_of_a_trained_network_are_whole_and_multiply_out(polarised):
    counts = crossbar_counts(weights_of(polarised), Crossbar(rows=16, columns=16))
    assert counts["cells"] == pytest.approx(8 * counts["pruning"], rel=1e-15)
    assert counts["pruning"] > 1.5
    assert all(isinstance(counts[key], int) for key in ("baseline", "split", "crossbars"))
    fine = crossbar_counts(weights_of(polarised), Crossbar(rows=8, columns=8))
    assert fine["split"] / fine["crossbars"] == pytest.approx(2.0, abs=0.1)


def test_09_one_sign_per_fragment_costs_little_and_abs_does_not_pass(polarised, dense, digits):
    def integers(model):
        graph = quantised(trace(model, digits.train.inputs[:1]), digits.train.inputs[:100])
        return integer_accuracy(graph, digits.test)

    pruned = integers(compressed(dense, digits, None))
    assert integers(polarised) >= pruned - 0.05  # a few epochs, 355 images
    fake = seeded(lambda: LeNet((1, 8, 8), (12, 24, 48), 3), 0)
    fake.load_state_dict(dense.state_dict())
    with torch.no_grad():
        for name in WEIGHTS:
            fake.get_parameter(name).abs_()
    assert is_polarised(weights_of(fake), 8)
    assert accuracy(fake, digits.test) < pruned - 0.2


def test_09_variation_is_that_of_cells_seeded_and_of_fifty_chips():
    assert REPRODUCTION.scales["standard"].draws >= 50
    weight = FixedPoint(8).project(torch.randn(40, 50, generator=torch_generator(9)))
    assert torch.equal(varied(weight, 0.0, torch_generator(0)), weight)
    one, two, again = (varied(weight, 0.1, torch_generator(s)) for s in (1, 2, 1))
    assert torch.equal(one, again) and not torch.equal(one, two)
    assert torch.equal(one.sign(), weight.sign())
    draws = torch.stack([varied(weight, 0.1, torch_generator(s)) / weight for s in range(200)])
    draws = draws[:, weight != 0]
    assert float(draws.mean()) == pytest.approx(math.exp(0.005), abs=2e-3)
    # cells vary alone, so a weight of several cells varies less than one of a single cell
    levels = FixedPoint(8).levels(weight)[weight != 0].abs()
    spread = draws.std(0)
    single, several = spread[levels == 64].mean(), spread[levels == 85].mean()
    cells = torch.tensor([64.0, 16.0, 4.0, 1.0])
    assert float(several / single) == pytest.approx(float(cells.norm() / 85), abs=0.08)


def test_06_cycles_on_real_activations_rise_with_the_group(polarised, digits):
    found = [mean_cycles(polarised, digits, m) for m in (1, 8, 128)]
    assert 0 < found[0] < found[1] < found[2] <= 16


def test_05_chips_agree_on_the_trained_network_and_skipping_pays_by_its_cycles(polarised, digits):
    found = on_crossbars(polarised, digits)
    assert found["exact"]["flipped"] == 1.0 > found["exact"]["plain"]
    parts = {chip: found[chip]["parts"] for chip in ("isaac", "split", "forms")}
    skipped = found["forms, no skipping"]
    ratio = parts["forms"]["converters"] / skipped["parts"]["converters"]
    # the mean does not know how many columns each layer has
    assert ratio == pytest.approx(mean_cycles(polarised, digits, 8) / 16, rel=0.05)
    assert found["forms"]["energy"] < skipped["energy"]
    assert parts["split"]["converters"] > 1.9 * parts["isaac"]["converters"]
    conversions = skipped["parts"]["converters"] / 0.22619
    assert conversions >= 4 * parts["isaac"]["converters"] / 1.6666667


def test_smoke_scale_runs_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "THREADS", 1)
    finding = reproduce("forms", "smoke", tmp_path, lambda *a: None)
    assert states_sources(finding)
    assert len(finding.claims) == 12
    exact = next(claim for claim in finding.claims if "4-bit converters" in claim.claim)
    assert exact.holds and exact.measured.mean == 100
    assert all(math.isfinite(v) for claim in finding.claims for v in claim.measured.values)
    (tmp_path / "finding.json").unlink()
    monkeypatch.setattr("cofit.reproductions.forms.study.train", None)  # nothing is trained again
    assert reproduce("forms", "smoke", tmp_path, lambda *a: None).claims == finding.claims
