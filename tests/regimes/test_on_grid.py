"""Training on fixed-point grids: the contract, and what the weights end as."""

import pytest
import torch
from regime_nets import conv_net, residual_net, task, weight_names

from cofit.core import StructureError
from cofit.regimes import Batches, Masked, OnGrid, Recipe, RegimeStack, fit, testing
from cofit.structures import FixedPoint, Unstructured


def eighths(model):
    return OnGrid({name: FixedPoint(8) for name in weight_names(model)})


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
def test_on_grid_conforms(check):
    check(testing.Case(residual_net, eighths, *task(16)))


def test_weights_end_on_their_grid_and_masked_ones_at_zero():
    model = conv_net()
    names = weight_names(model)
    with torch.no_grad():
        for name in names:
            model.get_parameter(name).copy_(Unstructured(2).project(model.get_parameter(name)))
    zeros = {name: model.get_parameter(name).detach() == 0 for name in names}
    grids = {name: FixedPoint(4) for name in names}
    x, y = task(64)
    trained, _ = fit(
        model, Batches(x, y, size=16), Recipe(3, 0.05), RegimeStack([Masked(names), OnGrid(grids)])
    )
    for name in names:
        weight = trained.get_parameter(name).detach()
        assert FixedPoint(4).check(weight) is None
        assert bool((weight[zeros[name]] == 0).all())


def test_a_parameter_that_is_no_weight_is_refused():
    with pytest.raises(StructureError, match=r"int8 does not apply to '1\.weight'"):
        OnGrid({"1.weight": FixedPoint(8)}).attach(conv_net(), task(4)[0])
