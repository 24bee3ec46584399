"""The checker must find what a careless checker misses."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import VerificationError, torch_generator
from cofit.ir import assert_equivalent, compare, probes, randomise_statistics_, trace

EXAMPLE = (torch.zeros(2, 3, 6, 6),)


def samples() -> list[tuple[torch.Tensor, ...]]:
    return probes(EXAMPLE, torch_generator(1))


def test_the_error_is_the_largest_one() -> None:
    xs = [(torch.tensor([[1.0, -4.0]]),), (torch.tensor([[2.0, 8.0]]),)]
    found = compare(lambda x: (x, x), lambda x: (x, x + torch.tensor([0.25, -0.5])), xs)
    assert (found.max_abs_error, found.max_rel_error) == (0.5, 0.125)
    assert found.samples == 2 and not found.equal
    assert compare(lambda x: x, lambda x: x, []).equal is False  # nothing was compared


def test_float32_rounding_is_not_equal() -> None:
    model = nn.Conv2d(3, 4, 3)
    assert compare(model, copy.deepcopy(model), samples()).max_abs_error == 0
    assert not compare(model, lambda x: model(x.float()), samples()).equal


def test_a_difference_at_the_border_is_found() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    wrong = copy.deepcopy(conv)
    wrong.padding_mode = "replicate"
    wrong._reversed_padding_repeated_twice = [1, 1, 1, 1]
    assert not compare(conv, wrong, samples()).equal


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x.clamp(min=0, max=100),  # seen by large values only
        lambda x: torch.where(x == 0, 1e-3, x.relu()),  # by zeros only
        lambda x: x.relu() * (1 + 1e-7),
        lambda x: x.relu() / (x < 100),  # infinite where large
    ],
)
def test_rare_differences_are_found(wrong) -> None:
    assert not compare(F.relu, wrong, samples()).equal
    assert compare(F.relu, lambda x: (x + x.abs()) / 2, samples()).equal


def test_a_fold_that_forgets_the_mean_needs_random_statistics_to_be_seen() -> None:
    def folded(model: nn.Sequential) -> nn.Module:
        conv, bn = copy.deepcopy(model[0]), model[1]
        scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
        conv = conv.double()
        conv.weight.data *= scale.reshape(-1, 1, 1, 1)
        conv.bias.data = conv.bias.data * scale + bn.bias.double()
        return conv

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).requires_grad_(False)
    assert compare(model, folded(model), samples()).equal
    randomise_statistics_(model, torch_generator(2))
    assert not compare(model, folded(model), samples()).equal


def test_training_mode_is_another_function_and_nothing_is_left_changed() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Identity())
    randomise_statistics_(model, torch_generator(2))
    frozen = copy.deepcopy(model)
    frozen[0].forward = lambda x: F.batch_norm(  # eval whatever the mode
        x, frozen[0].running_mean, frozen[0].running_var, frozen[0].weight, frozen[0].bias
    )
    state = copy.deepcopy(model.state_dict())
    assert compare(model, frozen, samples()).equal
    assert not compare(model, frozen, samples(), training=True).equal
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_graphs_in_place_functions_and_shapes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    graph = trace(model, EXAMPLE)
    assert_equivalent(model, graph, samples())
    assert compare(torch.relu_, torch.relu, samples()).equal
    with pytest.raises(VerificationError, match="cannot be compared"):
        compare(model, lambda x: model(x.float()).flatten(1), samples())
    with pytest.raises(VerificationError, match="the merge does not compute") as caught:
        assert_equivalent(model, lambda x: 2 * graph_output(model, x), samples(), what="the merge")
    assert "\n" not in str(caught.value)


def graph_output(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x.float()).double()
