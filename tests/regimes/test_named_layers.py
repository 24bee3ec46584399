"""Whatever a structure or a regime cannot take is refused by an error that names the layer."""

import importlib
import pkgutil
from functools import partial

import pytest
import torch
from torch import nn

import cofit.graphs
import cofit.regimes
import cofit.reproductions
from cofit.core import ConfigError, ModelError, StructureError, UnknownNameError
from cofit.ir import calibrate, quantise, trace
from cofit.ir.module import GraphModule
from cofit.regimes import (
    ADMM,
    QAT,
    ActivationGates,
    ActivationRemoval,
    Gradual,
    GroupLasso,
    Held,
    LearnedSteps,
    Masked,
    OnGrid,
    PairedGrid,
    PatternADMM,
    Projected,
    PruneInTraining,
    Regime,
    RegimeStack,
    Renormalise,
    Unified,
    unfuse,
)
from cofit.regimes.admm import ROUND_STEPS
from cofit.reproductions.hamming_codesign.training import HammingAware
from cofit.structures import (
    ALL_CENTRED,
    Connectivity,
    FixedPoint,
    Pattern,
    Unify,
    family,
    known_families,
)

SAMPLE = torch.zeros(2, 6, 4, 4)
SHAPES = {"conv": (10, 6, 3, 3), "point": (3, 10, 1, 1), "head": (5, 48)}


def network():
    """A 3x3 and a 1x1 convolution and a linear layer, each with a bias, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential()
        net.add_module("conv", nn.Conv2d(6, 10, 3, padding=1))
        net.add_module("point", nn.Conv2d(10, 3, 1))
        net.add_module("flat", nn.Flatten())
        net.add_module("head", nn.Linear(48, 5))
    return net


def broken(name):
    """The network with one weight that is NaN."""
    net = network()
    with torch.no_grad():
        net.get_parameter(name)[1, 1] = float("nan")
    return net


def structure_of(form):
    found = family(form)
    return found(found.least_rate if found.fixed else max(2.0, found.least_rate))


def pruning(name, structure):
    sets = {name: (structure,)}
    return PruneInTraining([name], lambda _: sets, lasso_epoch=0, mask_epoch=1)


CARRIERS = {
    "admm": lambda name, form: ADMM({name: (structure_of(form),)}),
    "gradual": lambda name, form: Gradual({name: (family(form), structure_of(form).rate)}),
    "held": lambda name, form: Held({name: (structure_of(form),)}),
    "pruneintraining": lambda name, form: pruning(name, structure_of(form)),
}
"""Regimes that take any structure."""

SETS = (Connectivity(2.0), Pattern(ALL_CENTRED, 1, 2.25))
OTHERS = {
    "patternadmm": lambda name: PatternADMM({name: SETS}),
    "unified": lambda name: Unified({name: Unify(1, 2, 2.0)}),
    "grid": lambda name: OnGrid({name: FixedPoint(8)}),
    "masked": lambda name: Masked([name]),
    "grouplasso": lambda name: GroupLasso({name: (torch.ones(2, 2, dtype=torch.bool),)}, 1.0),
    "steps": lambda name: LearnedSteps({name: 4}),
    "projected": lambda name: Projected({name: PairedGrid()}),
    "hamming": lambda name: HammingAware((name,), "twos_complement", 4, 1.0),
}
"""Regimes of one kind of structure, or of none, that take weights by name."""


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("form", known_families())
def test_structures_are_refused_by_layer(form, carrier):
    """A bias, every weight whose shape does not suit, an absent weight, and one that is NaN."""
    structure, make = structure_of(form), CARRIERS[carrier]
    unsuited = ["conv.bias"]
    unsuited += [f"{n}.weight" for n, s in SHAPES.items() if structure.applies(s) is not None]
    for name in unsuited:
        with pytest.raises(StructureError, match=rf"does not apply to '{name}': \w"):
            make(name, form).attach(network(), SAMPLE)
    with pytest.raises(UnknownNameError, match=r"'conv\.weigth'.*did you mean 'conv\.weight'"):
        make("conv.weigth", form).attach(network(), SAMPLE)
    for name in {f"{n}.weight" for n in SHAPES} - set(unsuited):
        with pytest.raises(StructureError, match=f"'{name}' holds NaN"):
            make(name, form).attach(broken(name), SAMPLE)


@pytest.mark.parametrize("form", known_families())
def test_weights_outside_their_structure_are_refused_by_layer(form):
    structure = structure_of(form)
    weights = {n: network().get_parameter(f"{n}.weight").detach() for n in SHAPES}
    suited = [n for n, w in weights.items() if structure.applies(tuple(w.shape)) is None]
    outside = [n for n in suited if structure.check(weights[n]) is not None]
    assert outside or not suited  # one block may be all there is of a small weight
    for layer in outside:
        with pytest.raises(StructureError, match=rf"'{layer}\.weight' is not .*project it"):
            CARRIERS["held"](f"{layer}.weight", form).attach(network(), SAMPLE)


@pytest.mark.parametrize("kind", OTHERS)
def test_regimes_refuse_weights_by_layer(kind):
    make = OTHERS[kind]
    with pytest.raises(UnknownNameError, match=r"'conv\.weigth'.*did you mean 'conv\.weight'"):
        make("conv.weigth").attach(network(), SAMPLE)
    with pytest.raises(StructureError, match=r"'conv\.weight'"):
        make("conv.weight").attach(broken("conv.weight"), SAMPLE)
    if kind != "masked":  # any parameter has zeros
        with pytest.raises(StructureError, match=r"'conv\.bias'"):
            make("conv.bias").attach(network(), SAMPLE)


def a_round(regime):
    for _ in range(ROUND_STEPS):
        regime.after_step()


def test_weights_that_diverge_are_named_when_they_are_next_projected():
    for make in (CARRIERS["admm"], lambda n, _: PatternADMM({n: SETS}, stage_epochs=1)):
        net = network()
        regime = make("conv.weight", "block2x1")
        regime.attach(net, SAMPLE)
        with torch.no_grad():
            net.conv.weight[0, 0] = float("inf")
        for late in (partial(a_round, regime), regime.harden):
            with pytest.raises(StructureError, match=r"'conv\.weight' holds NaN or infinite"):
                late()
    net = network()
    gradual = CARRIERS["gradual"]("conv.weight", "block2x1")
    gradual.attach(net, SAMPLE)
    with torch.no_grad():
        net.conv.weight[0, 0] = float("nan")
    with pytest.raises(StructureError, match=r"'conv\.weight' holds NaN"):
        gradual.before_step(1, 1)
    with pytest.raises(StructureError, match=r"'conv\.weight': .*rate"):
        Gradual({"conv.weight": (family("pattern8g1"), 1.5)}).attach(network(), SAMPLE)


def test_regimes_of_graphs_and_modules_name_the_layer():
    graph = trace(network(), SAMPLE)
    integer = quantise(graph, calibrate(graph, [SAMPLE + 1]))
    with pytest.raises(ModelError, match="trains a GraphModule"):
        QAT(integer).attach(network(), SAMPLE)
    module = GraphModule(graph)
    with torch.no_grad():
        module.get_parameter("head.weight")[0, 0] = float("nan")
        module.get_parameter("point.weight")[0, 0] = float("inf")
    with pytest.raises(StructureError, match=r"'(head|point)\.weight' holds NaN"):
        QAT(integer).attach(module, SAMPLE)
    fused = trace(nn.Sequential(nn.Conv2d(6, 4, 3), nn.ReLU()), SAMPLE)
    with pytest.raises(ModelError, match=r"'0'|'1'"):
        Renormalise(fused)
    with pytest.raises(ModelError, match=r"convolution 'point' gives NaN"):
        Renormalise(unfuse(graph)).attach(module, SAMPLE + 1)
    for gates in (ActivationGates({"u": ("act",)}, 0.5), ActivationRemoval({"u": ("act",)})):
        with pytest.raises(UnknownNameError, match=r"unit 'u'.*'act'"):
            gates.attach(network(), SAMPLE)
    with pytest.raises(ConfigError, match=r"'conv\.weight'"):
        RegimeStack([Masked(["conv.weight"]), Masked(["conv.weight"])])


NO_LAYERS = {"Distillation", "RegimeStack", "Watch", "Gap", "Gaps", "Variational"}
"""They take no layer: whole networks, other regimes, or only look."""
OF_GRAPH_DATA = {"Distance", "Metered", "_Joined"}
"""Of the values of edges, of messages along them, and of mini-batches; they take no layer."""
OF_GRAPHS = {"QAT", "Renormalise", "ActivationGates", "ActivationRemoval"}


def test_no_regime_is_left_out():
    for room in (cofit.regimes, cofit.graphs, cofit.reproductions):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if not module.name.startswith("cofit.reproductions.planted"):
                importlib.import_module(module.name)

    def below(base):
        return {s for c in base.__subclasses__() for s in (c, *below(c))}

    every = {c.__name__ for c in below(Regime) if c.__module__.startswith("cofit.")}
    tested = {make("conv.weight", "block2x1") for make in CARRIERS.values()}
    tested |= {make("conv.weight") for make in OTHERS.values()}
    assert every == {type(r).__name__ for r in tested} | NO_LAYERS | OF_GRAPHS | OF_GRAPH_DATA
