"""Fine-tuning within pieces, and training through projections, of the structures of values."""

import pytest
import torch
import torch.nn.functional as F
from regime_nets import conv_net, task

from cofit.core import StructureError
from cofit.regimes import Batches, Held, PairedGrid, Projected, Recipe, fit, testing
from cofit.structures import Channel, Complementary, FixedPoint, Polarised, Rows
from cofit.structures.complementary import pair_scale

NAME = "3.weight"
SETS = (Channel(1.5), Rows(8, 1.5), Polarised(8), FixedPoint(8))


def hardened(sets):
    def build():
        model = conv_net()
        weight = model.get_parameter(NAME)
        with torch.no_grad():
            for structure in sets:
                weight.copy_(structure.project(weight.detach()))
        return model

    return build


CASES = {
    "polarised": (hardened(SETS), lambda model: Held({NAME: SETS})),
    "complementary": (
        hardened([Complementary()]), lambda model: Held({NAME: (Complementary(),)})
    ),
    "paired grid": (conv_net, lambda model: Projected({NAME: PairedGrid()})),
}  # fmt: skip


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES)
def test_regime_conforms(case, check):
    make, regime = CASES[case]
    check(testing.Case(make, regime, *task()))


def trained(make, regime, rate=0.2):
    model = make()
    x, y = task()
    return fit(model, Batches(x, y, size=len(x)), Recipe(8, rate), regime)[0]


def test_no_fragment_changes_sign_and_no_pruned_row_returns():
    before = hardened(SETS)().get_parameter(NAME).detach()
    after = trained(hardened(SETS), Held({NAME: SETS})).get_parameter(NAME).detach()
    assert not torch.equal(before, after)
    assert all(structure.check(after) is None for structure in SETS)
    signs = Polarised(8).signs(before)
    assert torch.equal(Polarised(8).clamp(after, signs), after)
    assert bool((after[(before != 0).flatten(1).sum(1) == 0] == 0).all())
    revived = (before == 0) & (after != 0)  # an entry at its bound may leave it to the right side
    assert bool(revived.any())


def test_pairs_stay_pairs_in_every_step_and_on_the_grid_at_the_end():
    model = trained(CASES["paired grid"][0], Projected({NAME: PairedGrid()}))
    weight = model.get_parameter(NAME).detach()
    assert Complementary().check(weight) is None
    levels = weight / pair_scale(weight)[:, None, None, None]
    sums = levels[0::2] + levels[1::2]
    assert float((sums - sums.round()).abs().max()) < 1e-9
    assert torch.equal(weight, PairedGrid()(weight)) or levels.abs().max() < 127


def test_the_gradient_is_that_of_the_linear_projection():
    weight = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randn(4, 5, dtype=torch.float64)
    F.mse_loss(PairedGrid()(weight), target, reduction="sum").backward()
    with torch.no_grad():
        outer = 2 * (PairedGrid()(weight) - target)
        # an orthogonal projection's gradient is the projection of the gradient
        assert torch.allclose(weight.grad, Complementary().project(outer), atol=1e-9)


def test_pairs_are_held_as_the_loop_lays_weights_out():
    make = hardened([Complementary()])
    after = trained(make, Held({NAME: (Complementary(),)})).get_parameter(NAME).detach()
    assert not torch.equal(after, make().get_parameter(NAME))
    assert after.is_contiguous(memory_format=torch.channels_last)  # `fit` trains in this layout
    assert Complementary().check(after) is None


def test_held_refuses_a_weight_outside_its_structure():
    with pytest.raises(StructureError, match=r"'3\.weight' is not polarised8"):
        trained(conv_net, Held({NAME: (Polarised(8),)}))
