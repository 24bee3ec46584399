"""Activations that a search takes out: budget, gradients, savings, exploration, removal."""

import pytest
import torch
import torch.nn.functional as F
from depthshrinker_nets import seeded, small
from torch import nn

from cofit.core import ConfigError, UnknownNameError, torch_generator
from cofit.regimes import (
    ActivationGates,
    ActivationRemoval,
    Context,
    Regime,
    RegimeStack,
    testing,
)
from cofit.reproductions.depthshrinker import units


class Activations(nn.Module):
    """Five units of one activation each, in a chain."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(5))
        self.acts = nn.ModuleList(nn.ReLU6() for _ in range(5))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = x.flatten(1)[:, :6]
        for layer, act in zip(self.layers, self.acts, strict=True):
            x = act(layer(x))
        return self.head(x)


UNITS = {f"u{i}": (f"acts.{i}",) for i in range(5)}


def gates(keep, **options):
    return ActivationGates(UNITS, keep, **options)


def make_activations():
    return seeded(Activations).train()


@pytest.mark.parametrize(("keep", "kept"), [(0.0, 0), (0.4, 2), (0.5, 2), (0.7, 3), (1.0, 5)])
def test_04_exactly_k_units_stay_at_every_step(keep, kept):
    model, regime = make_activations(), gates(keep)
    x = torch.randn(32, 6, generator=torch_generator(0, "x"))
    y = torch.randint(4, (32,), generator=torch_generator(0, "y"))
    regime.attach(model, x)
    optimiser = torch.optim.SGD([{"params": list(model.parameters())}, *regime.param_groups()], 0.3)
    seen = []
    with torch.no_grad():
        regime.slopes.uniform_(-0.2, 1.2, generator=torch_generator(0, "slopes"))
    for step in range(6):
        regime.before_step(step, 6)
        # the smallest slopes stay
        order = regime.slopes.detach().argsort()
        assert set(regime.removed) == {f"u{i}" for i in order[kept:].tolist()}
        values = {}
        hooks = [
            act.register_forward_hook(
                lambda m, a, out, i=i, values=values: values.update({i: (a[0], out)})
            )
            for i, act in enumerate(model.acts)
        ]
        loss = F.cross_entropy(model(x), y)
        for hook in hooks:
            hook.remove()
        active = [i for i, (a, b) in values.items() if torch.equal(b, F.relu6(a))]
        through = [i for i, (a, b) in values.items() if torch.allclose(a, b, atol=1e-6)]
        assert len(active) >= kept and len(through) >= 5 - kept
        assert {f"u{i}" for i in through} >= set(regime.removed)
        seen.append(regime.removed)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(len(removed) == 5 - kept for removed in seen)


def test_04_gradient_is_that_of_the_relaxed_form_inside_and_zero_outside():
    model, regime = make_activations().double(), gates(0.4)
    x = torch.randn(16, 6, generator=torch_generator(0, "x"), dtype=torch.float64) * 3
    regime.attach(model, x)
    slopes = [-0.1, 0.0, 0.5, 1.0, 1.1]
    with torch.no_grad():
        regime.slopes.copy_(torch.tensor(slopes))
    regime.before_step(0, 1)
    caught = {}
    for i, act in enumerate(model.acts):
        act.register_forward_hook(lambda m, a, out, i=i: caught.update({i: (a[0], out)}))
    out = model(x)
    for _, value in caught.values():
        value.retain_grad()
    (out**2).sum().backward()
    for i, slope in enumerate(slopes):
        inner, outer = caught[i]
        through = (outer.grad * (inner - F.relu6(inner))).sum().detach()
        wanted = float(through) if 0 <= slope <= 1 else 0.0
        assert float(regime.slopes.grad[i]) == pytest.approx(wanted, rel=1e-5)
        if i in (1, 2, 3):
            assert abs(wanted) > 1e-6
    # finite differences of y = act(x) + (x - act(x)) q in q, at the decision taken
    q = [float(d) for d in regime._decisions]

    def relaxed(number, value):
        h = x
        for i, layer in enumerate(model.layers):
            h = layer(h)
            share = value if i == number else q[i]
            h = F.relu6(h) + (h - F.relu6(h)) * share
        return float((model.head(h) ** 2).sum().detach())

    step = 1e-6
    slope = (relaxed(2, q[2] + step) - relaxed(2, q[2] - step)) / (2 * step)
    assert float(regime.slopes.grad[2]) == pytest.approx(slope, rel=1e-4)


def test_05_the_largest_saving_goes_first():
    savings = {"u0": 1.0, "u1": 5.0, "u2": 20.0, "u3": 2.0, "u4": 0.5}
    for keep, removed in ((0.8, {"u2"}), (0.6, {"u1", "u2"})):
        model, regime = make_activations(), gates(keep, savings=savings, strength=1e-2)
        x = torch.randn(8, 6)
        regime.attach(model, x)
        optimiser = torch.optim.SGD(regime.param_groups(), 0.1)
        context = Context(0, x, torch.zeros(8), torch.zeros(8))
        for step in range(2):
            regime.before_step(step, 2)
            optimiser.zero_grad()
            sum(regime.loss(context).values()).backward()
            optimiser.step()
        assert set(regime.removed) == removed


def test_06_without_activations_a_block_is_affine():
    model = seeded(small)
    block = "features.4"
    sample = torch.zeros(1, 3, 8, 8)
    regime = ActivationGates({block: units(model)[block]}, 0.0)
    handle = regime.attach(model, sample)
    inside = model.get_submodule(block)
    x, y = torch.randn(2, 1, 8, 8, 8, generator=torch_generator(0, "x")).unbind()

    def bend():
        with torch.no_grad():
            mixed = inside(0.3 * x + 0.7 * y)
            return float((mixed - 0.3 * inside(x) - 0.7 * inside(y)).abs().max())

    assert bend() <= 1e-5
    regime.finalize(model)
    assert bend() <= 1e-5
    handle.remove()
    assert bend() <= 1e-5, "removing the handle must not undo what was hardened"
    assert bend_of_fresh() > 1e-2


def test_04_exploration_draws_units_by_softmax_and_ends():
    """Pairs that go are drawn without replacement; the chances are those of softmax(p / T)."""
    regime = exploring(0.6)
    regime.attach(make_activations(), torch.zeros(1, 6))
    slopes = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0])
    with torch.no_grad():
        regime.slopes.copy_(slopes)
    counts = torch.zeros(5, 5)
    regime.on_epoch(1)
    for step in range(4000):
        regime.before_step(step, 4000)
        gone = regime._decisions.nonzero().flatten()
        assert len(gone) == 2  # the budget binds under noise too
        counts[gone[0], gone[1]] += 1
    chance = torch.softmax(slopes / (3.0 * 0.95), 0)
    for i, j in ((0, 1), (1, 3), (3, 4)):
        pair = chance[i] * chance[j] * (1 / (1 - chance[i]) + 1 / (1 - chance[j]))
        assert float(counts[i, j]) / 4000 == pytest.approx(float(pair), abs=0.025)
    regime.on_epoch(2)
    for step in range(20):
        regime.before_step(step, 20)
        assert regime._decisions.tolist() == [0, 0, 0, 1, 1]
    assert regime.removed == ("u3", "u4")


@pytest.mark.parametrize("in_turn", [False, True])
def test_activations_leave_linearly(in_turn):
    model, regime = make_activations(), ActivationRemoval(UNITS, end=0.5, in_turn=in_turn)
    x = torch.randn(8, 6, generator=torch_generator(0, "x")) * 3
    plain = model(x)
    regime.attach(model, x)
    seen = []
    for step in range(20):
        regime.before_step(step, 20)
        seen.append(regime.shares)
        if step == 0:
            assert torch.equal(model(x), plain)
    places = [[min(max(s / 10 * 5 - i, 0), 1) for i in range(5)] for s in range(20)]
    wanted = places if in_turn else [[min(s / 10, 1)] * 5 for s in range(20)]
    for found, right in zip(seen, wanted, strict=True):
        assert found == pytest.approx(right, abs=1e-6)
    out = model(x)  # all are gone: the network is affine, as after finalize
    y = x.flip(0)
    assert torch.allclose(model((x + y) / 2), (out + model(y)) / 2, atol=1e-5)
    assert torch.equal(regime.finalize(model)(x), out)
    assert all(isinstance(act, nn.Identity) for act in model.acts)
    for end in (0.0, 1.5):
        with pytest.raises(ConfigError, match=f"ends at {end}"):
            ActivationRemoval(UNITS, end=end)
    with pytest.raises(ConfigError, match="in no other"):
        ActivationRemoval({"a": ()})


def bend_of_fresh():
    inside = seeded(small).get_submodule("features.4")
    x, y = torch.randn(2, 1, 8, 8, 8, generator=torch_generator(0, "x")).unbind()
    with torch.no_grad():
        mixed = inside(0.3 * x + 0.7 * y)
        return float((mixed - 0.3 * inside(x) - 0.7 * inside(y)).abs().max())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"units": {}}, "one or more units"),
        ({"units": {"a": ("acts.0",), "b": ("acts.0",)}}, "in no other"),
        ({"keep": 1.5}, "keep=1.5"),
        ({"savings": {"u9": 1.0}}, "unknown unit 'u9'"),
        ({"explore_epochs": 2}, "explore for 2 epochs need a generator"),
    ],
)
def test_09_gates_refuse_bad_input(options, reason):
    with pytest.raises(ConfigError, match=reason):
        ActivationGates(**{"units": UNITS, "keep": 0.4, **options})


def test_gates_name_an_absent_activation():
    with pytest.raises(UnknownNameError, match=r"unit 'a'.*'acts\.9'"):
        ActivationGates({"a": ("acts.9",)}, 0.5).attach(make_activations(), torch.zeros(1, 6))


def conformance(make):
    x = torch.randn(16, 3, 2, 2, generator=torch_generator(0, "x"))
    y = torch.randint(4, (16,), generator=torch_generator(0, "y"))
    return testing.Case(make_activations, lambda model: make(), x, y)


@pytest.mark.parametrize("check", testing.CHECKS)
def test_gates_conform(check):
    saving = {"savings": {"u1": 3.0}, "strength": 0.1}
    # with all activations kept, finalize gives the plain network back
    check(conformance(lambda: gates(1.0, **saving)))
    if check is not testing.check_finalize_is_plain:
        check(conformance(lambda: gates(0.4, **saving)))
        check(conformance(lambda: exploring(0.4, **saving)))
        check(conformance(lambda: ActivationRemoval(UNITS, in_turn=True)))


def exploring(keep, **options):
    noise = torch_generator(0, "explore")
    return gates(keep, explore_epochs=2, generator=noise, **options)


def test_gates_conflict_with_each_other_only():
    with pytest.raises(ConfigError, match="both activation_gate"):
        RegimeStack([gates(0.5), gates(0.5)])
    RegimeStack([gates(0.5), Regime()])
