"""Which options a layer gets, why it gets none, and what each is said to cost and lose."""

from dataclasses import replace

import pytest
import torch
from fit_cases import cost, graph_of, product_of, row
from torch import nn

from cofit.core import UnknownNameError
from cofit.fit.candidates import layer_structures, make_menu, measure_slopes
from cofit.fit.devices import device
from cofit.fit.progress import silent
from cofit.fit.sensitivity import Probe
from cofit.structures import FixedPoint, parse


class Net(nn.Module):
    """A first layer of one channel, a wide layer, a depthwise layer, and a shared one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.wide = nn.Conv2d(8, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.twice = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = torch.relu(self.deep(torch.relu(self.wide(torch.relu(self.first(x))))))
        x = torch.relu(self.twice(torch.relu(self.twice(x))))
        return self.head(x.mean((2, 3)))


GRAPH = graph_of(Net(), 1, 8, 8)
SAMPLE = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
PROBE = Probe.run(GRAPH, SAMPLE)
DENSE = cost(*(row(op.output, 4e-3, 900, 100) for op in GRAPH.ops))


class Prices:
    """A target on which a layer costs what its text says: 1 / rate, a quarter at 4 bits."""

    def __init__(self):
        self.asked = []

    def __call__(self, asked):
        self.asked += [(product.name, structure, bits) for product, structure, bits in asked]
        return [
            row("alone", 2e-3 / (parse(s).rate if s else 1.0), 800 * bits // 8, 50)
            for _, s, bits in asked
        ]


def menu(families=("block2x4", "channel"), rates=(2.0, 4.0), bits=(8,), free=("wide",)):
    prices = Prices()
    steepness = measure_slopes(PROBE, lambda _: families, rates, bits, silent)
    made = make_menu(GRAPH, PROBE, DENSE, lambda _: families, rates, bits, free, prices, steepness)
    return made, prices


def texts(found, name):
    return [(option.structure, option.bits) for option in found.options[name]]


def test_the_dense_option_stands_first_and_costs_nothing():
    found, _ = menu()
    for options in found.options.values():
        dense = options[0]
        assert (dense.structure, dense.bits, dense.loss) == (None, 8, 0.0)
        assert (dense.latency_s, dense.flash_bytes, dense.ram_bytes) == (4e-3, 900, 100)


def test_every_layer_gets_each_structure_it_can_carry_mildest_first():
    found, _ = menu()
    sparse = [("block2x4@2", 8), ("block2x4@4", 8)]
    assert texts(found, "head") == [(None, 8), *sparse]
    assert texts(found, "wide") == [
        (None, 8), ("block2x4@2", 8), ("channel@2", 8), ("block2x4@4", 8), ("channel@4", 8),
    ]  # fmt: skip


def test_refusals_are_recorded_as_reasons():
    found, _ = menu()
    assert texts(found, "first") == [(None, 8)]
    assert found.reasons["first"] == "block2x4: a block has 4 input channels, the weight 1"
    assert found.reasons["deep"].startswith("block2x4: ")
    assert set(found.reasons) == {"first", "deep", "twice", "twice_1"}


def test_channels_are_offered_only_where_they_can_go_alone():
    found, _ = menu(families=("channel",), free=("wide",))
    assert [name for name, options in found.options.items() if len(options) > 1] == ["wide"]
    assert found.reasons["head"] == "no structure family was offered"


def test_a_weight_that_several_layers_share_stays_dense():
    found, _ = menu(bits=(8, 4), free=("twice", "twice_1"))
    for name in ("twice", "twice_1"):
        assert texts(found, name) == [(None, 8)]
        assert found.reasons[name] == "2 layers share its weight"


def test_families_of_one_rate_offer_it_once_and_others_from_their_least():
    structures, _ = layer_structures((8, 8, 3, 3), ("nm2:4", "pattern8g1"), (1.5, 2.0, 3.0, 6.0))
    assert [s.text for s in structures] == ["nm2:4", "pattern8g1@3", "pattern8g1@6"]
    none, reason = layer_structures((8, 8, 3, 3), ("pattern8g1",), (1.5, 2.0))
    assert none == [] and reason == "pattern8g1: its least rate is 2.25"


def test_unknown_families_are_refused():
    with pytest.raises(UnknownNameError, match="blok"):
        layer_structures((8, 8, 3, 3), ("blok2x4",), (2.0,))


def test_fewer_bits_are_offered_on_dense_weights():
    found, _ = menu(bits=(8, 4))
    assert texts(found, "first") == [(None, 8), (None, 4)]
    assert texts(found, "head")[-1] == (None, 4)
    dense, *_, narrow = found.options["head"]
    assert narrow.flash_bytes == 500  # 900 in the network, less 400 of 800 alone
    assert narrow.loss > dense.loss == 0


def test_int4_is_for_cortex_m_only():
    assert device("cortex-m4").weight_bits("int8") == (8, 4)
    assert device("host").weight_bits("int8") == (8,)
    assert device("host").weight_bits("fp32") == (32,)


def test_each_option_is_priced_once_and_scaled_into_the_network():
    found, prices = menu(bits=(8, 4))
    offered = [(n, o.structure, o.bits) for n in found.options for o in found.options[n]]
    assert prices.asked == offered
    half = next(o for o in found.options["head"] if o.structure == "block2x4@2")
    assert half.latency_s == pytest.approx(2e-3)


def test_losses_are_slope_times_noise():
    found, _ = menu(bits=(8, 4))
    product = product_of(GRAPH, "wide")
    weight = torch.from_numpy(GRAPH.tensors["wide.weight"].data)

    def recovered(text):
        return PROBE.recovered("wide.weight", parse(text).project(weight))

    mild = [recovered(t) for t in ("block2x4@2", "channel@2")]
    mild.append(FixedPoint(4).project(weight))
    slope = max(PROBE.divergence(product, m) / PROBE.noise("wide.weight", m) for m in mild)
    for option in found.options["wide"][1:]:
        changed = (
            FixedPoint(4).project(weight)
            if option.structure is None
            else recovered(option.structure)
        )
        noise = PROBE.noise("wide.weight", changed)
        assert option.loss == pytest.approx(slope * noise, rel=1e-9)
    by_rate = {o.structure: o.loss for o in found.options["wide"]}
    assert by_rate["block2x4@2"] < by_rate["block2x4@4"]


def test_rows_go_to_their_own_layers():
    """Prices that differ by layer must not be mixed up."""

    def price(asked):
        return [row("alone", 1e-3, len(product.name), 0) for product, _, _ in asked]

    dense = cost(*(replace(r, flash_bytes=1000 + len(r.op)) for r in DENSE.rows))
    steepness = dict.fromkeys((w.name for _, w in GRAPH.weighted()), 1.0)
    found = make_menu(
        GRAPH, PROBE, dense, lambda _: ("block2x4",), (2.0,), (8,), (), price, steepness
    )
    for name, options in found.options.items():
        assert {o.flash_bytes for o in options} == {1000 + len(name)}
