"""ADMM with patterns and connectivity: acceptance checks 5 and 6 of pattern sparsity."""

import copy
import statistics

import pytest
import torch
from regime_nets import conv_net, task

from cofit.core import ConfigError, StructureError
from cofit.regimes import ADMM, Batches, Context, Masked, Recipe, fit
from cofit.structures import Channel, Connectivity, Unstructured, parse

PATTERN = parse("pattern8g1@2.25")
SETS = {
    "0.weight": (PATTERN,),
    "3.weight": (parse("connectivity@3.6"), PATTERN),
}
NOTHING = torch.zeros(1)


@pytest.fixture(scope="module")
def dense():
    model, _ = fit(conv_net(), Batches(*task(256), size=16), Recipe(6, 0.1))
    return model


def accuracy(model):
    x, y = task(512, seed=1)
    with torch.no_grad():
        return float((model.eval()(x).argmax(1) == y).float().mean())


def test_05_admm_gap_falls_and_hardening_beats_one_shot_projection(dense):
    one_shot = copy.deepcopy(dense)
    regime = ADMM(SETS)
    regime.attach(one_shot, NOTHING)
    regime.harden()

    regime = ADMM(SETS, rho=3e-2, stage_epochs=3, round_steps=32)
    model = copy.deepcopy(dense)
    trained, ledger = fit(model, Batches(*task(256), size=8), Recipe(12, 0.05), regime)
    gaps = [row.gap for row in regime.history]
    smoothed = [statistics.mean(gaps[i : i + 3]) for i in range(0, 12, 3)]
    assert smoothed == sorted(smoothed, reverse=True) and len(set(smoothed)) == 4
    assert gaps[-1] < 0.05 < gaps[0]
    assert [row.rho for row in regime.history[::3]] == pytest.approx([0.03, 0.3, 3.0, 30.0])
    assert accuracy(trained) >= accuracy(one_shot) + 0.1
    assert set(ledger.rows[0].losses) == {"task", "penalty"}

    for name, sets in SETS.items():
        weight = trained.get_parameter(name).detach()
        assert all(structure.check(weight) is None for structure in sets)
    kept = trained.get_parameter("3.weight").flatten(2).any(dim=2).sum()
    assert kept == 27  # ceil(12 * 8 / 3.6)

    tuned, _ = fit(trained, Batches(*task(256), size=8), Recipe(2, 0.02), Masked(SETS))
    assert all(
        s.check(tuned.get_parameter(n).detach()) is None for n, sets in SETS.items() for s in sets
    )


@pytest.mark.parametrize("growth", [1.0, 10.0])
def test_06_dual_is_the_running_sum_of_the_gap(dense, growth):
    """At constant rho; when rho grows, U shrinks so that the multiplier rho U goes on."""
    model = copy.deepcopy(dense)
    regime = ADMM(SETS, rho=1e-2, growth=growth, stage_epochs=2, stages=3, round_steps=4)
    multipliers = {name: [0.0] * len(sets) for name, sets in SETS.items()}
    rounds = 0

    def record(stage, done, total):
        nonlocal rounds
        state = regime.state_dict()
        if len(state["history"]) == rounds:
            return
        rounds += 1
        for name, sums in multipliers.items():
            for i, z in enumerate(state["z"][name]):
                sums[i] = sums[i] + before["rho"] * (before[name] - z)

    before = {}
    original = regime.after_step

    def after_step():
        before["rho"] = regime.rho
        before.update({name: model.get_parameter(name).detach().clone() for name in SETS})
        original()

    regime.after_step = after_step
    regime.finalize = lambda model: model
    fit(model, Batches(*task(64), size=16), Recipe(7, 0.05), regime, progress=record)
    assert rounds == 7
    state = regime.state_dict()
    for name, sums in multipliers.items():
        for u, multiplier in zip(state["u"][name], sums, strict=True):
            assert multiplier.abs().max() > 1e-4
            assert torch.allclose(regime.rho * u, multiplier, rtol=1e-4, atol=1e-6)
            if growth == 1.0:
                assert torch.allclose(u, multiplier / 1e-2, rtol=1e-4, atol=1e-4)


def test_penalty_is_squared_and_its_gradient_is_rho_times_the_distance(dense):
    model = copy.deepcopy(dense)
    regime = ADMM(SETS, rho=0.5)
    regime.attach(model, NOTHING)
    regime.on_epoch(1)
    with torch.no_grad():
        model[3].weight.add_(0.1)
    value = regime.loss(Context(0, NOTHING, NOTHING, NOTHING))["penalty"]
    state = regime.state_dict()
    expected, total = 0.0, 0.0
    for z, u in zip(state["z"]["3.weight"], state["u"]["3.weight"], strict=True):
        distance = model[3].weight.detach() - z + u
        expected = expected + 0.5 * distance
        total += 0.25 * float(distance.square().sum())
    z, u = state["z"]["0.weight"][0], state["u"]["0.weight"][0]
    total += 0.25 * float((model[0].weight.detach() - z + u).square().sum())
    value.backward()
    assert value.item() == pytest.approx(total, rel=1e-5)
    assert torch.allclose(model[3].weight.grad, expected, atol=1e-6)


def test_a_member_has_no_gap_and_stays(dense):
    model = copy.deepcopy(dense)
    regime = ADMM(SETS)
    regime.attach(model, NOTHING)
    assert regime.gap() > 0.3
    regime.harden()
    members = {name: model.get_parameter(name).detach().clone() for name in SETS}
    again = ADMM(SETS)
    again.attach(model, NOTHING)
    again.on_epoch(1)
    assert again.gap() == 0.0 == max(max(row) for row in again.residuals().values())
    again.harden()
    assert all(torch.equal(model.get_parameter(n), w) for n, w in members.items())


def test_harden_projects_in_the_given_order(dense):
    model = copy.deepcopy(dense)
    weight = model[3].weight.detach().clone()
    connectivity, pattern = SETS["3.weight"]
    regime = ADMM({"3.weight": (connectivity, pattern)})
    regime.attach(model, NOTHING)
    regime.harden()
    assert torch.equal(model[3].weight, pattern.project(connectivity.project(weight)))


def test_what_cannot_be_is_refused(dense):
    with pytest.raises(ConfigError, match="at least one structure"):
        ADMM({"0.weight": ()})
    with pytest.raises(ConfigError, match="rho=-1"):
        ADMM(SETS, rho=-1)
    with pytest.raises(StructureError, match=r"'7\.weight'.*1x1"):
        ADMM({"7.weight": (PATTERN,)}).attach(dense, NOTHING)

    class Negated(Channel):
        """A set that leaves the sets before it."""

        def project(self, weight):
            return torch.ones_like(weight)

        def check(self, weight):
            return None

    model = copy.deepcopy(dense)
    sets = (Unstructured(2.0), Connectivity(2.0), Negated(1.0))
    regime = ADMM({"3.weight": sets})
    regime.attach(model, NOTHING)
    with pytest.raises(StructureError, match=r"'3\.weight'.*another order"):
        regime.harden()
