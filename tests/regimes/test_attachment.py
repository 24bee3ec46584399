"""Parametrising by name, and undoing it exactly."""

import pytest
import torch
from regime_nets import conv_net
from torch import nn
from torch.nn.utils import parametrize

from cofit.core import UnknownNameError
from cofit.regimes.attachment import latent, parametrise


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_transforms_compose_and_come_off_one_by_one():
    model = conv_net()
    weight = model[3].weight
    names, values = list(model.state_dict()), weight.detach().clone()
    undo = [parametrise(model, "3.weight", Times(f)) for f in (2.0, 3.0)]
    assert torch.equal(model[3].weight, 6 * values)
    assert latent(model, "3.weight") is weight
    undo.pop()()
    assert torch.equal(model[3].weight, 2 * values)
    undo.pop()()
    assert model[3].weight is weight and torch.equal(weight, values)
    assert list(model.state_dict()) == names and type(model[3]) is nn.Conv2d


def test_a_users_own_parametrisation_stays():
    model = conv_net()
    values = model[3].weight.detach().clone()
    parametrize.register_parametrization(model[3], "weight", Times(2.0))
    names = list(model.state_dict())
    undo = parametrise(model, "3.weight", Times(3.0))
    assert torch.equal(model[3].weight, 6 * values)
    undo()
    undo()
    assert torch.equal(model[3].weight, 2 * values)
    assert list(model.state_dict()) == names


def test_unknown_names_change_nothing():
    model = conv_net()
    with pytest.raises(UnknownNameError, match=r"'3\.wight'"):
        parametrise(model, "3.wight", Times(1.0))
    assert not parametrize.is_parametrized(model[3])
