"""Which layers may lose channels, and that losing them is what zeroing them would be."""

import contextlib
import itertools

import numpy as np
import pytest
import torch
from fit_cases import cost, graph_of, mlp, option
from fit_cases import row as costs
from torch import nn

from cofit.core import InfeasibleError, numpy_generator
from cofit.fit.planning import LayerPlan, Menu, Plan, choose
from cofit.fit.removal import (
    chosen_removals,
    credited,
    free_layers,
    remove_channels,
    strongest_removals,
)
from cofit.ir import macs, run_float, trace
from cofit.models import load_model
from cofit.structures import parse


class Mobile(nn.Module):
    """Point, depthwise, point, with a flattened end: all but the last layer may lose channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 12, 1)
        self.hidden = nn.Linear(12 * 16, 20)
        self.head = nn.Linear(20, 4)

    def forward(self, x):
        x = torch.relu(self.deep(torch.relu(self.stem(x))))
        x = torch.max_pool2d(torch.relu(self.point(x)), 2)
        return self.head(torch.relu(self.hidden(x.flatten(1))))


MOBILE = graph_of(Mobile(), 3, 8, 8)


def zoo(name, *shape):
    return trace(load_model(name).module.eval(), torch.zeros(1, *shape), name="zoo")


def plan(graph, **structures):
    """A plan by op name."""
    layers = tuple(
        LayerPlan(op.output, "", w.name, w.shape, option(structures.get(op.output), 1.0, 1.0),
                  option(None, 0.0, 1.0), 2, "")
        for op, w in graph.weighted()
    )  # fmt: skip
    return Plan(layers, {}, 0.0, 0.0)


def removals(**structures):
    return {f"{name}.weight": parse(text) for name, text in structures.items()}


def run(graph, x):
    with torch.no_grad():
        return run_float(graph, {graph.inputs[0]: x}, torch.float64)[graph.outputs[0]]


def zeroed(graph, weights):
    """The same graph with the least channels of some weights (and their biases) at zero."""
    changed = {}
    for name, text in weights.items():
        weight = graph.tensors[name]
        projected = parse(text).project(torch.from_numpy(weight.data)).numpy()
        kept = np.abs(projected).reshape(len(projected), -1).sum(axis=1) > 0
        bias = graph.tensors[name.replace("weight", "bias")]
        changed[name] = type(weight)(name, weight.shape, data=projected)
        changed[bias.name] = type(bias)(bias.name, bias.shape, data=bias.data * kept)
    # a depthwise bias would still speak for a silent channel
    for op, weight in graph.weighted():
        source = graph.producer.get(op.inputs[0])
        if getattr(op.attributes, "groups", 1) > 1 and source.inputs[1] in changed:
            kept = np.abs(changed[source.inputs[1]].data).reshape(weight.shape[0], -1).sum(1) > 0
            bias = graph.tensors[op.inputs[2]]
            changed[bias.name] = type(bias)(bias.name, bias.shape, data=bias.data * kept)
    return graph.with_tensors(changed)


def test_free_layers_of_a_mobile_network():
    assert free_layers(MOBILE) == {"stem", "point", "hidden"}


def test_free_layers_of_resnet20_are_the_first_of_each_block():
    graph = zoo("resnet20", 3, 32, 32)
    expected = {f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(3)}
    assert free_layers(graph) == expected


def test_free_layers_of_the_digits_network():
    graph = zoo("digits_resnet", 1, 8, 8)
    assert free_layers(graph) == {f"layer{stage}.0.conv1" for stage in (1, 2, 3)}


@pytest.mark.parametrize(
    ("structures", "widths"),
    [
        ({"stem": "channel@2"}, {"stem": 4, "deep": 4, "point": 12}),
        ({"point": "channel@3"}, {"stem": 8, "point": 4, "hidden": 20}),
        ({"hidden": "channel@4"}, {"hidden": 5, "head": 4}),
        (
            {"stem": "channel@4", "point": "channel@2", "hidden": "channel@2"},
            {"stem": 2, "deep": 2, "point": 6, "hidden": 10, "head": 4},
        ),
    ],
)
def test_removal_equals_zeroing(structures, widths):
    narrowed, removed = remove_channels(MOBILE, removals(**structures))
    for name, width in widths.items():
        assert narrowed.tensors[f"{name}.weight"].shape[0] == width
    assert removed == {
        f"{name}.weight": MOBILE.tensors[f"{name}.weight"].shape[0] - widths[name]
        for name in structures
    }
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    # a later layer's norms are taken of what earlier removals left of it, so zero in this order
    silent = MOBILE
    for name, text in structures.items():
        silent = without_inputs(silent, f"{name}.weight", text)
    assert torch.allclose(run(narrowed, x), run(silent, x), atol=1e-10)
    assert sum(macs(narrowed, op) for op in narrowed.ops) < sum(
        macs(MOBILE, op) for op in MOBILE.ops
    )


def without_inputs(graph, name, text):
    """`zeroed`, and the next layers forget the silent channels too, as removal makes them."""
    graph = zeroed(graph, {name: text})
    kept = np.abs(graph.tensors[name].data).reshape(graph.tensors[name].shape[0], -1).sum(1) > 0
    reader = {"stem.weight": "point.weight", "point.weight": "hidden.weight"}.get(name)
    if reader is None:
        return graph
    weight = graph.tensors[reader]
    columns = np.repeat(kept, weight.shape[1] // len(kept))
    shape = (1, -1, *[1] * (len(weight.shape) - 2))
    data = weight.data * columns.reshape(shape)
    return graph.with_tensors({reader: type(weight)(reader, weight.shape, data=data)})


def test_the_channels_of_least_norm_go():
    narrowed, _ = remove_channels(MOBILE, removals(point="channel@2"))
    weight = MOBILE.tensors["point.weight"].data
    norms = np.square(weight.astype(np.float64)).reshape(12, -1).sum(axis=1)
    kept = np.sort(np.argsort(-norms, kind="stable")[:6])
    assert np.array_equal(narrowed.tensors["point.weight"].data, weight[kept])
    assert np.array_equal(
        narrowed.tensors["point.bias"].data, MOBILE.tensors["point.bias"].data[kept]
    )


def test_no_removal_changes_nothing():
    narrowed, removed = remove_channels(MOBILE, {})
    assert narrowed is MOBILE and removed == {}


def test_removals_are_told_from_sparse_structures():
    chosen = plan(MOBILE, stem="channel@4", point="block2x4@2", hidden="channel@2")
    assert {name: o.structure for name, o in chosen_removals(chosen).items()} == {
        "stem.weight": "channel@4",
        "hidden.weight": "channel@2",
    }


RATES = (2, 4)


def proportional(draw):
    """A menu for a chain of linear layers whose cost is its kept weights, times an option's share.

    Returns the menu, the dense cost, and the true latency of a pick by op name: removed inputs
    and removed outputs count together, which the menu, of layers alone, cannot know.
    """
    widths = {"0": (8, 16), "2": (16, 12), "4": (12, 4)}
    menu = {}
    for name, (inputs, outputs) in widths.items():
        whole = inputs * outputs * 1e-3
        row = [option(None, 0.0, whole, inputs * outputs)]
        for text, share in (("block2x4@2", 0.6), ("block2x4@4", 0.35)):
            row.append(option(text, float(draw.uniform(0.5, 4)), share * whole, inputs * outputs))
        if name != "4":
            for rate in RATES:
                loss = float(draw.uniform(0.5, 4)) * rate
                row.append(option(f"channel@{rate}", loss, whole / rate, inputs * outputs))
        menu[name] = tuple(row)
    dense = cost(*(costs(name, row[0].latency_s, 0, 0) for name, row in menu.items()))

    def true(picks):
        total, kept = 0.0, 1.0
        for name in widths:
            removes = (picks[name].structure or "").startswith("channel")
            total += picks[name].latency_s * kept
            kept = 1 / int(picks[name].structure[-1]) if removes else 1.0
        return total

    return Menu(menu, {}), dense, true


CHAIN = mlp(8, 16, 12, 4)


@pytest.mark.parametrize("limit", [0.2, 0.35, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(10))
def test_a_credit_saves_removals_and_promises_nothing_untrue(seed, limit):
    menu, dense, true = proportional(numpy_generator(seed, "credit"))
    limits = {"latency": limit * dense.latency_s}
    plan = choose(CHAIN, credited(CHAIN, menu), dense, limits)
    picks = {layer.op: layer.chosen for layer in plan.layers}
    plain = {
        name: next(o for o in menu.options[name] if o.structure == pick.structure)
        for name, pick in picks.items()
    }
    assert true(plain) <= limits["latency"] * (1 + 1e-9)  # where cost is in proportion
    assert true(plain) <= plan.predicted["latency"] * (1 + 1e-9)
    best = min(  # of all plans that truly are within the limit, by enumeration
        sum(o.loss for o in row)
        for row in itertools.product(*menu.options.values())
        if true(dict(zip(menu.options, row, strict=True))) <= limits["latency"] * (1 + 1e-9)
    )
    assert plan.loss >= best - 1e-9
    with contextlib.suppress(InfeasibleError):
        blind = choose(CHAIN, menu, dense, limits)
        assert plan.loss <= blind.loss + 1e-9


def test_a_credit_spares_the_removal_that_is_not_needed():
    # halving the outputs of the first layer halves the second too, so the second may stay
    dense = [option(None, 0.0, t, 1000) for t in (2.0, 4.0, 1.0)]
    first = option("channel@2", 1.0, 1.0, 1000)
    second = option("channel@2", 1.0, 2.0, 1000)
    rows = zip("024", ((dense[0], first), (dense[1], second), (dense[2],)), strict=True)
    menu = Menu(dict(rows), {})
    whole = cost(*(costs(name, o.latency_s, 0, 0) for name, o in zip("024", dense, strict=True)))
    limits = {"latency": 4.99}
    assert chosen_removals(choose(CHAIN, menu, whole, limits)).keys() == {"0.weight", "2.weight"}
    # truly 1 + 2 + 1 with the first alone; what is sure is half of the second's cheapest, 2 of 4
    limits = {"latency": 5.0}
    assert chosen_removals(choose(CHAIN, credited(CHAIN, menu), whole, limits)).keys() == {
        "0.weight"
    }


def test_credit_counts_depthwise_followers_and_flattened_readers():
    dense = option(None, 0.0, 10.0, 1000, energy_j=1.0)
    cheap = option("block2x4@4", 1.0, 4.0, 1000, energy_j=0.2)
    removal = option("channel@2", 1.0, 5.0, 600, energy_j=0.5)
    options = dict.fromkeys(("deep", "head"), (dense, cheap))
    options |= dict.fromkeys(("stem", "point", "hidden"), (dense, cheap, removal))
    found = credited(MOBILE, Menu(options, {})).options
    assert found["deep"] == options["deep"] and found["stem"][:2] == options["stem"][:2]
    # stem: half of the depthwise layer's cheapest and half of the next one's
    stem = found["stem"][2]
    assert (stem.latency_s, stem.flash_bytes) == (5.0 - 2.0 - 2.0, 600 - 300 - 500 + 0)
    assert stem.energy_j == pytest.approx(0.5 - 0.1 - 0.1)
    # point: each channel is sixteen inputs of the linear layer, still half of them
    assert found["point"][2].latency_s == 5.0 - 2.0
    assert found["hidden"][2].latency_s == 5.0 - 2.0


def test_the_strongest_removal_of_every_layer_that_has_one():
    def options(*texts):
        return tuple(option(text, 1.0, 1.0) for text in (None, *texts))

    menu = Menu(
        {
            "stem": options("channel@2", "block2x4@2", "channel@4", "block2x4@8"),
            "deep": options(),
            "point": options("block2x4@2"),
            "hidden": options("channel@2"),
            "head": options(),
        },
        {},
    )
    found = strongest_removals(MOBILE, menu)
    assert {name: o.structure for name, o in found.items()} == {
        "stem.weight": "channel@4",
        "hidden.weight": "channel@2",
    }
