"""Values of unified blocks: their gradient, equality of magnitudes to the bit, the contract."""

import copy

import pytest
import torch
import torch.nn.functional as F
from regime_nets import residual_net, task

from cofit.core import StructureError
from cofit.regimes import Batches, Recipe, Unified, fit, testing
from cofit.structures import Unify

SETS = {"point.weight": Unify.of(1, 4, 0.5, 0.25), "head.weight": Unify(2, 4, 1)}


def hardened():
    model = residual_net()
    with torch.no_grad():
        for name, structure in SETS.items():
            weight = model.get_parameter(name)
            weight.copy_(structure.project(weight))
    return model


CASE = testing.Case(hardened, lambda model: Unified(SETS), *task(16))


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
def test_unified_conforms(check):
    check(CASE)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_03_blocks_are_unified_zero_or_free_after_training(optimiser):
    x, y = task(64)
    before = hardened()
    recipe = Recipe(6, 0.05, optimiser)
    after, _ = fit(copy.deepcopy(before), Batches(x, y, size=16), recipe, Unified(SETS))
    for name, structure in SETS.items():
        weight = after.get_parameter(name).detach()
        start = before.get_parameter(name).detach()
        tiles, counts = structure.tiles(weight.shape), structure.counts(weight.shape)
        blocks, old = tiles.split(weight), tiles.split(start)
        alike = (blocks.abs() == blocks[:, :1].abs()).all(1)
        zero = (blocks == 0).all(1)
        assert int(zero.sum()) == counts.pruned
        assert int((alike & ~zero).sum()) == counts.unified
        assert int((~alike).sum()) == counts.free
        assert structure.check(weight) is None
        moved = (blocks != old).any(1)
        assert bool((moved == ~zero).all()), "values and free weights train, zeros do not"
        assert torch.equal(zero, (old == 0).all(1))
        assert bool((blocks[alike].sign() * old[alike].sign() >= 0).all())


def test_03_plain_training_loses_the_equality_that_is_tested():
    x, y = task(64)
    model, _ = fit(hardened(), Batches(x, y, size=16), Recipe(1, 0.05))
    assert SETS["point.weight"].check(model.point.weight.detach()) is not None


def test_04_gradient_of_a_value_is_the_signed_sum_of_gradients():
    x, y = task(16)
    plain, model = hardened().double(), hardened().double()
    F.cross_entropy(plain(x.double()), y).backward()
    regime = Unified(SETS)
    regime.attach(model, x)
    F.cross_entropy(model(x.double()), y).backward()
    for name, structure in SETS.items():
        weight = plain.get_parameter(name)
        tiles = structure.tiles(weight.shape)
        owner, _, attribute = name.rpartition(".")
        value = model.get_submodule(owner).parametrizations[attribute][0].value
        _, unified = structure.members(weight.detach())
        signed = torch.where(weight < 0, -1.0, 1.0).double() * weight.grad
        expected = torch.where(unified, tiles.split(signed).sum(1), 0.0)
        assert torch.allclose(value.grad, expected, atol=1e-6, rtol=1e-6)
        latent = model.get_submodule(owner).parametrizations[attribute].original
        free = ~tiles.join((unified | (tiles.split(weight) == 0).all(1))[:, None].expand_as(
            tiles.split(weight)))  # fmt: skip
        assert torch.allclose(latent.grad, torch.where(free, weight.grad, 0.0))


def test_a_step_moves_a_block_as_its_free_weights_would_on_average():
    x, y = task(16)
    model = hardened()
    regime = Unified(SETS)
    regime.attach(model, x)
    F.cross_entropy(model(x), y).backward()
    value = model.head.parametrizations.weight[0].value
    whole = value.grad.clone()
    regime.after_backward()
    assert torch.equal(value.grad, whole / 8)


def test_a_weight_that_is_no_member_is_refused():
    with pytest.raises(StructureError, match=r"'head\.weight' is not unify2x4@1"):
        Unified({"head.weight": Unify(2, 4, 1)}).attach(residual_net(), torch.zeros(1, 3, 8, 8))
