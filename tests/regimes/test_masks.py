"""Masked fine-tuning and gradual pruning."""

import copy
import itertools
import re

import pytest
import torch
import torch.nn.functional as F
from regime_nets import conv_net, task, weight_names

from cofit.core import ConfigError, StructureError, UnknownNameError
from cofit.regimes import Batches, Gradual, Masked, Recipe, cubic_rate, fit
from cofit.structures import Unstructured, family, parse

UNSTRUCTURED = family("unstructured")
OPTIMISERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.05),
}


def bits(x):
    return x.detach().view(torch.int32)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_zeros_stay_plus_zero_even_with_momentum_from_before(name):
    model = conv_net()
    names = weight_names(model)
    inputs, targets = task(16)
    optimiser = OPTIMISERS[name](model.parameters())

    def step(regime=None):
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        if regime is not None:
            regime.after_backward()
        optimiser.step()
        if regime is not None:
            regime.after_step()

    for _ in range(3):
        step()
    with torch.no_grad():
        for n in names:
            weight = model.get_parameter(n)
            weight.copy_(Unstructured(3.0).project(weight))
    zeros = {n: model.get_parameter(n) == 0 for n in names}
    kept = {n: model.get_parameter(n).clone() for n in names}
    regime = Masked(names)
    regime.attach(model, inputs)
    for _ in range(5):
        step(regime)
        assert not any(model.get_parameter(n).grad[zeros[n]].any() for n in names)
        for n in names:
            assert (bits(model.get_parameter(n))[zeros[n]] == 0).all()
    for n in names:
        weight = model.get_parameter(n)
        assert (weight != kept[n])[~zeros[n]].all()
    step()  # the masks are what kept the zeros: one step without them and they fill
    assert any(model.get_parameter(n)[zeros[n]].any() for n in names)
    assert regime.density() == pytest.approx(1 / 3, abs=0.01)


def test_unknown_weight_is_named_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"'0\.wieght'.*did you mean '0\.weight'"):
        Masked(["0.wieght"]).attach(conv_net(), torch.zeros(1))


def test_cubic_rate():
    assert cubic_rate(8.0, 0.0) == 1.0
    assert cubic_rate(8.0, 1.0) == 8.0
    assert cubic_rate(2.25, 0.3, 2.25) == 2.25 == cubic_rate(9.0, 0.0, 2.25)
    half = 1 / cubic_rate(8.0, 0.5)
    assert half == pytest.approx(1 / 8 + (1 - 1 / 8) / 8)


def test_gradual_follows_the_cubic_then_freezes():
    model = conv_net()
    weight = model[3].weight
    inputs, targets = task(16)
    regime = Gradual({"3.weight": (UNSTRUCTURED, 4.0)}, begin=0.25, end=0.75, updates=4)
    regime.attach(model, inputs)
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    counts, supports, total = [], [], 16
    for step in range(total):
        regime.before_step(step, total)
        counts.append(int((weight != 0).sum()))
        supports.append(weight != 0)
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        regime.after_backward()
        optimiser.step()
        regime.after_step()
    n = weight.numel()
    # updates are due at steps 6, 8, 10 and 12 = 16 (1/4 + 1/2 i/4)
    due = [0] * 6 + [1, 1, 2, 2, 3, 3] + [4] * 4
    expected = [Unstructured(cubic_rate(4.0, i / 4)).kept((n, 1)) for i in due]
    assert counts == expected and counts[-1] == n // 4
    for before, after in itertools.pairwise(supports):
        assert not (after & ~before).any()
    assert torch.equal(supports[-1], weight != 0)


def test_gradual_keeps_what_the_weights_say_at_that_time():
    model = conv_net()
    regime = Gradual({"3.weight": (UNSTRUCTURED, 2.0)}, end=0.5, updates=1)
    regime.attach(model, torch.zeros(1))
    with torch.no_grad():
        model[3].weight.copy_(
            torch.arange(1.0, model[3].weight.numel() + 1).view_as(model[3].weight)
        )
    regime.before_step(1, 2)
    kept = model[3].weight.flatten() != 0
    assert not kept[: len(kept) // 2].any() and kept[len(kept) // 2 :].all()


def test_gradual_refuses_what_cannot_be():
    with pytest.raises(ConfigError, match="begin < end"):
        Gradual({}, begin=0.5, end=0.5)
    for name, goal, what in (
        ("3.weight", (UNSTRUCTURED, 0.5), "rate 0.5"),
        ("3.weight", (family("pattern8g1"), 2.0), "rate 2.0"),
        ("3.bias", (UNSTRUCTURED, 2.0), "'3.bias'"),
        ("7.weight", (family("pattern8g1"), 4.5), "'7.weight'"),
    ):
        with pytest.raises(StructureError, match=re.escape(what)):
            Gradual({name: goal}).attach(conv_net(), torch.zeros(1))


def test_fit_with_masks_learns_and_keeps_the_zeros():
    model = conv_net()
    with torch.no_grad():
        model[3].weight.copy_(Unstructured(4.0).project(model[3].weight))
    zeros = model[3].weight == 0
    start = copy.deepcopy(model).eval()
    data = Batches(*task(128), size=16)
    trained, ledger = fit(model, data, Recipe(8, 0.1), Masked(["3.weight"]))
    x, y = task(128, seed=1)
    with torch.no_grad():
        assert (trained(x).argmax(1) == y).float().mean() > 0.9
        assert (start(x).argmax(1) == y).float().mean() < 0.6
    assert torch.equal(trained[3].weight == 0, zeros)
    assert ledger.rows[-1].losses["task"] < ledger.rows[0].losses["task"]
    # forward, dX (not of the first layer) and dW of every example of eight epochs
    forward = [64 * 8 * 27, 16 * 12 * 72, 12 * 4]
    assert ledger.macs == 8 * 128 * (3 * sum(forward) - forward[0])


def test_gradual_ends_as_members_of_coarse_structures():
    model = conv_net()
    goals = {"0.weight": (family("nm2:4"), 2.0), "3.weight": (family("pattern8g4"), 8.1)}
    data = Batches(*task(64), size=16)
    trained, _ = fit(model, data, Recipe(3, 0.05), Gradual(goals, end=0.6, updates=3))
    assert parse("nm2:4").check(trained[0].weight.detach()) is None
    assert parse("pattern8g4@8.1").check(trained[3].weight.detach()) is None
    assert parse("pattern8g4@9.5").check(trained[3].weight.detach()) is not None
