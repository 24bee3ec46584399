"""Batch normalisation lent to a folded network for the time of a training."""

import pytest
import torch
from regime_nets import small_graph, task

from cofit.core import ModelError
from cofit.ir.execute import run_float
from cofit.ir.module import GraphModule
from cofit.regimes import Batches, Masked, Recipe, RegimeStack, Renormalise, fit, testing, unfuse
from cofit.structures import parse

X, Y = task(64)
GRAPH = unfuse(small_graph())


@pytest.mark.parametrize("check", testing.CHECKS)
def test_conforms(check):
    case = testing.Case(
        lambda: GraphModule(GRAPH), lambda model: Renormalise(GRAPH), X[:16], Y[:16]
    )
    check(case)


def test_unfused_graph_computes_the_same():
    fused = small_graph()
    assert torch.equal(run_float(fused, {"x": X})["y"], run_float(GRAPH, {"x": X})["y"])
    with pytest.raises(ModelError, match="'stem' has a fused activation"):
        Renormalise(fused)


def test_starts_as_the_identity_and_folds_what_it_learned():
    model = GraphModule(GRAPH)
    plain = model(X).detach()
    regime = Renormalise(GRAPH)
    regime.attach(model, X)
    regime.before_step(0, 1)
    assert torch.allclose(model(X), plain, atol=1e-5)

    optimiser = torch.optim.SGD([p for g in regime.param_groups() for p in g["params"]], 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(X), Y).backward()
        optimiser.step()
    for norm in regime._norms.values():
        norm.eval()
    normalised = model(X).detach()
    assert not torch.allclose(normalised, plain, atol=1e-2)
    folded = regime.finalize(model)
    assert not model.edges
    assert torch.allclose(folded(X), normalised, atol=1e-5)


def test_supports_survive_the_fold():
    start = GraphModule(GRAPH)
    with torch.no_grad():
        weight = start.get_parameter("stem.conv.weight")
        weight.copy_(parse("unstructured@3").project(weight.detach()))
    zeros = weight == 0
    stack = RegimeStack([Masked(["stem.conv.weight"]), Renormalise(GRAPH)])
    trained, _ = fit(start, Batches(X, Y, 16), Recipe(2, 0.05), stack)
    assert torch.equal(trained.get_parameter("stem.conv.weight") == 0, zeros)
