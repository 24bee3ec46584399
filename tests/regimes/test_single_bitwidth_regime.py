"""Learned steps: the quantisers, their gradients, and the contract."""

import math

import pytest
import torch
from regime_nets import conv_net, residual_net, task, weight_names
from torch import nn

from cofit.core import ConfigError, StructureError, UnknownNameError, torch_generator
from cofit.regimes import LearnedSteps, testing
from cofit.regimes.learned_steps import (
    InputGrid,
    WeightGrid,
    most_level,
    sign_scaled,
    step_round,
)

WIDTHS = (1, 2, 3, 4, 8)


def draw(*shape):
    return torch.randn(shape, generator=torch_generator(0, "steps", *shape))


def mixed(model):
    return LearnedSteps({n: WIDTHS[i % 5] for i, n in enumerate(weight_names(model))})


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
def test_learned_steps_conform(check):
    check(testing.Case(residual_net, mixed, *task(16)))


@pytest.mark.parametrize("bits", WIDTHS)
def test_02_rounding_is_idempotent_and_of_few_values(bits):
    weight = draw(6, 5, 3, 3)
    grid = WeightGrid(weight, bits)
    once = grid(weight).detach()
    assert torch.allclose(grid(once), once, rtol=1e-6, atol=0)
    for channel in once.flatten(1):
        assert len(channel.unique()) <= (2 if bits == 1 else 2**bits - 1)
    levels = grid.quantised(weight)
    assert torch.allclose(levels.weight, once, rtol=1e-6, atol=1e-7)
    assert int(levels.level.abs().max()) <= most_level(bits)


def test_02_one_bit_scale_is_the_least_squares_one():
    weight = draw(4, 30)
    scale = WeightGrid(weight, 1).quantised(weight).scale
    signs = torch.where(weight < 0, -1.0, 1.0)
    best = (weight * signs).sum(1) / signs.square().sum(1)
    assert torch.allclose(scale, best)
    assert bool((sign_scaled(torch.zeros(2, 3)) == 0).all())


def test_03_gradients_are_those_of_the_stated_formula():
    for top in (1, 3, 7, 127):
        weight = (draw(5, 12) * 2).double().requires_grad_()
        step = (
            torch.rand(5, 1, generator=torch_generator(1)).double() * 0.2 + 0.05
        ).requires_grad_()
        out = draw(5, 12).double()
        step_round(weight, step, top, 12).backward(out)
        w, s = weight.detach(), step.detach()
        place = w / s
        inside = place.abs() <= top
        level = place.round().clamp(-top, top)
        assert torch.allclose(weight.grad, out * inside, atol=1e-6)
        along = torch.where(inside, level - place, level)
        expected = (out * along).sum(1, keepdim=True) / math.sqrt(12 * top)
        assert torch.allclose(step.grad, expected, atol=1e-6, rtol=1e-6)


def test_03_straight_through_stops_at_the_ends():
    step = torch.full((1, 1), 0.5)
    weight = torch.tensor([[-1.51, -1.5, 0.2, 1.5, 1.51]], requires_grad=True)
    step_round(weight, step, 3, 5).sum().backward()
    assert weight.grad.tolist() == [[0, 1, 1, 1, 0]]
    one = torch.tensor([[-1.01, -1.0, 0.2, 1.0, 1.01]], requires_grad=True)
    sign_scaled(one).sum().backward()
    assert one.grad.tolist() == [[0, 1, 1, 1, 0]]


def test_inputs_are_rounded_to_256_levels_of_a_trained_step():
    grid = InputGrid(8)
    with torch.no_grad():
        positive = draw(4, 500).abs()
        grid(positive)
        grid.measured = True
    assert (float(grid.low), float(grid.high)) == (0, 255)
    rounded = grid(positive)
    assert len(rounded.unique()) <= 256
    assert float((rounded.detach() - positive).abs().max()) <= float(grid.step.detach()) * 0.501
    rounded.square().sum().backward()
    assert grid.step.grad is not None and float(grid.step.grad) != 0
    signed = InputGrid(8)
    with torch.no_grad():
        signed(draw(4, 50))
    assert (float(signed.low), float(signed.high)) == (-127, 127)


@torch.no_grad()
def test_grids_suit_what_training_sees_of_a_network_that_knows_no_statistics_yet():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        layers = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6()]
        for _ in range(4):
            layers += [nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8)]
            layers += [nn.ReLU6(), nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8)]
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_var.fill_(1000.0)  # far from what it will be
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    x, _ = task(32)
    regime = LearnedSteps(dict.fromkeys(weight_names(model), 8))
    regime.attach(model.train(), x)
    seen = {}
    for name, grid in regime.inputs.items():
        owner = model.get_submodule(name.rpartition(".")[0])
        grid.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
        assert owner.training
    after = dict(model.named_buffers())
    assert all(torch.equal(after[name], buffer) for name, buffer in before.items())
    model(x)
    assert seen.keys() == regime.inputs.keys()
    for name, value in seen.items():
        grid = regime.inputs[name]
        levels = float(value.abs().max() / grid.step)
        assert 0.5 * grid.high < levels < 2 * grid.high, name  # weights are rounded since


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="'a' with 9 bits; give 1 to 8"):
        LearnedSteps({"a": 9})
    with pytest.raises(ConfigError, match="activations of 1 bits"):
        LearnedSteps({"a": 2}, activations=1)
    x, _ = task(4)
    with pytest.raises(UnknownNameError, match="nothing"):
        LearnedSteps({"nothing": 2}).attach(conv_net(), x)
    with pytest.raises(StructureError, match=r"'1\.weight' has shape"):
        LearnedSteps({"1.weight": 2}).attach(conv_net(), x)
