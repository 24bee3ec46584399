"""Networks on simulated arrays: the rounded network where nothing is lost, another where it is."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ModelError, torch_generator
from cofit.structures import Complementary, Polarised
from cofit.targets.arrays import (
    ArraySpec,
    Clip,
    Variation,
    layer_matrix,
    levels_on,
    on_arrays,
    program,
    weight_levels,
)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False), nn.ReLU(),
            nn.Flatten(), nn.Linear(8 * 4 * 5, 6),
        ).eval()  # fmt: skip


def images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 3, 8, 10, generator=torch_generator(1))


def rounded(model: nn.Module, x: torch.Tensor, spec: ArraySpec) -> torch.Tensor:
    """The same rounding by torch alone: per-layer inputs, per-filter weights."""
    top = (1 << spec.weight_bits - 1) - 1
    plain = x  # ranges are those of the network as it was
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            signed = bool((plain < 0).any())
            high = (1 << spec.input_bits - 1) - 1 if signed else (1 << spec.input_bits) - 1
            step = float(plain.abs().max()) / high
            words = (x / step).round().clamp(-high if signed else 0, high).double()
            flat = layer.weight.detach().double().flatten(1)
            scale = flat.abs().amax(1) / top
            levels = (flat / scale[:, None]).round().reshape(layer.weight.shape)
            if isinstance(layer, nn.Conv2d):
                y = F.conv2d(words, levels, None, layer.stride, layer.padding, 1, layer.groups)
                y = y * (scale * step).reshape(-1, 1, 1)
                bias = 0 if layer.bias is None else layer.bias.detach().reshape(-1, 1, 1)
            else:
                y, bias = F.linear(words, levels) * scale * step, layer.bias.detach()
            x = (y + bias).float()
        else:
            x = layer(x)
        plain = layer(plain)
    return x


@pytest.mark.parametrize("scheme", ["offset", "split", "twos_complement"])
def test_lossless_arrays_are_the_rounded_network(scheme: str) -> None:
    spec = ArraySpec(scheme=scheme, rows=64, group=16, cell_bits=1 if scheme[0] == "t" else 2)
    model, x = network(), images()
    adc = Clip(spec.lossless_bits())
    analog = on_arrays(model, x, spec, lambda name: partial(program, adc=adc))
    with torch.no_grad():
        assert torch.allclose(analog(x), rounded(model, x, spec), atol=1e-5)
        small = on_arrays(model, x, spec, lambda name: partial(program, adc=Clip(2)))
        assert not torch.allclose(small(x), analog(x), atol=1e-2)


def test_gradients_are_those_of_the_rounded_network() -> None:
    spec = ArraySpec(rows=64, group=16)
    model, x = network(), images()
    analog = on_arrays(model, x, spec, lambda name: program).train()
    analog(x).square().sum().backward()
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        index, _, kind = name.partition(".")
        found = analog[int(index)].layer.get_parameter(kind).grad
        assert F.cosine_similarity(found.flatten(), parameter.grad.flatten(), dim=0) > 0.99
    assert analog[0].layer.weight.grad.abs().sum() > 0


def test_training_writes_the_weights_of_every_pass() -> None:
    spec = ArraySpec(rows=64, group=16)
    x = images()
    analog = on_arrays(network(), x, spec, lambda name: program)
    with torch.no_grad():
        before = analog(x)
        analog[5].layer.weight.mul_(2)
        assert not torch.allclose(analog.train()(x), before)
        assert torch.equal(analog.eval()(x), analog.train()(x))


def test_chips_differ_and_stay_what_they_are() -> None:
    spec = ArraySpec(rows=64, group=8, scheme="split")
    model, x = network(), images()

    def chip(seed: int, sigma: float) -> torch.Tensor:
        def write(name: str):
            variation = Variation(sigma=sigma)
            return partial(program, variation=variation, generator=torch_generator(seed, name))

        analog = on_arrays(model, x, spec, write)
        with torch.no_grad():
            first, again = analog(x), analog(x)
        assert torch.equal(first, again)
        return first

    exact = chip(0, 0.0)
    assert torch.equal(chip(1, 0.1), chip(1, 0.1)) and not torch.equal(chip(1, 0.1), chip(2, 0.1))
    errors = [float((chip(1, sigma) - exact).norm()) for sigma in (0.02, 0.1, 0.4)]
    assert errors == sorted(errors) and errors[0] > 0


def test_rows_lie_as_fragments_do() -> None:
    weight = torch.randn(6, 5, 3, 3, generator=torch_generator(2))
    spec = ArraySpec(scheme="polarised", group=8, flip=True)
    levels, _ = weight_levels(Polarised(8).project(weight), spec)
    matrix = layer_matrix(levels)
    assert matrix.shape == (45, 6)
    program(matrix, spec)  # one sign per group, or it would refuse
    pairs = Complementary().project((weight * 40).round().clamp(-127, 127).to(torch.int8)).long()
    program(layer_matrix(pairs), ArraySpec(scheme="complementary", cell_bits=1))


def test_odd_digits_take_the_nearest_odd_number() -> None:
    spec = ArraySpec(scheme="bipolar", cell_bits=1, weight_bits=2)
    real = torch.tensor([[-9.0, -2.0, -0.1, 0.0, 0.9, 1.9, 2.0, 3.4]])
    levels = levels_on(real, torch.ones(1), spec)
    assert levels.tolist() == [[-3, -1, -1, 1, 1, 1, 3, 3]]


def test_networks_without_layers_are_refused() -> None:
    with pytest.raises(ModelError, match="neither convolutions nor linear layers"):
        on_arrays(nn.Sequential(nn.ReLU()), torch.zeros(1, 2), ArraySpec(), lambda name: program)
