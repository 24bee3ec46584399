"""Acceptance of depthshrinker, check by check, on small networks."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cofit.codegen import compile as compile_program
from cofit.core import ConfigError, ModelError, UnknownNameError, torch_generator
from cofit.data import Dataset, Split
from cofit.ir import (
    Graph,
    GraphModule,
    compare,
    compose,
    macs,
    merge,
    merge_blocks,
    probes,
    randomise_statistics_,
    run_float,
    trace,
    without_activations,
)
from cofit.models.depthwise import SmallMobileNetV2
from cofit.regimes import ActivationGates, Context, Regime, RegimeStack, Trace, testing
from cofit.reproductions import reproduce
from cofit.reproductions.depthshrinker import (
    REPRODUCTION,
    Gain,
    Settings,
    all_linear,
    all_merged,
    gains,
    prune_channels,
    refused,
    to_merge,
    units,
)
from cofit.reproductions.depthshrinker.claims import Row, equal_accuracy, equal_latency
from cofit.reproductions.depthshrinker.measure import equality
from cofit.reproductions.depthshrinker.stages import Stager
from cofit.reproductions.harness import Step


class Block(nn.Module):
    """An inverted residual of any kernel, written without the library."""

    def __init__(self, c_in, c_out, expansion=6, kernel=3, stride=1, act=nn.Identity, first=False):
        super().__init__()
        hidden, half = c_in * expansion, kernel // 2
        outer, inner = (half, 0) if first else (0, half)
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, padding=outer, bias=False), nn.BatchNorm2d(hidden), act(),
            nn.Conv2d(hidden, hidden, kernel, stride, inner, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden), act(),
            nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out),
        )  # fmt: skip
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


class Net(nn.Module):
    def __init__(self, block, channels=3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.block = block

    def forward(self, x):
        return self.block(self.stem(x))


def seeded(build, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().eval()
    randomise_statistics_(model, torch_generator(seed, "statistics"))
    return model


def graph_of(model, shape=(1, 3, 9, 9)):
    return trace(model, torch.zeros(shape))


KINDS = [
    (kernel, stride, c_out, first)
    for kernel in (3, 5)
    for stride in (1, 2)
    for c_out in (8, 10)
    for first in (False, True)
]


@pytest.mark.parametrize(("kernel", "stride", "c_out", "first"), KINDS)
def test_01_merge_is_exact_on_all_pixels(kernel, stride, c_out, first):
    model = seeded(lambda: Net(Block(8, c_out, 6, kernel, stride, first=first)))
    graph = graph_of(model)
    assert np.abs(graph.tensors["block.conv.0.bias"].data).max() > 0.1
    merged = merge(graph, "block")
    inputs = torch.randn(4, 3, 9, 9, generator=torch_generator(1, "x"))
    y, z = (run_float(g, {"x": inputs}, keep=True) for g in (graph, merged))
    name = graph.outputs[0]
    assert float((y[name] - z[name]).abs().max()) <= 1e-4 * float(y[name].abs().max())
    # in float64, against torch's own convolutions one after the other
    composite = compose(graph, "block")
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64, generator=torch_generator(2, "x"))
    wanted = x
    for op in graph.ops:
        if op.kind == "conv2d" and op.output.startswith("block."):
            weight, bias = (torch.tensor(graph.tensors[n].data).double() for n in op.inputs[1:])
            c = op.attributes
            wanted = F.conv2d(
                wanted, weight, bias, c.stride, (c.padding[0], c.padding[2]), groups=c.groups
            )
    wanted = wanted + x if stride == 1 and c_out == 8 else wanted
    assert float((composite(x) - wanted).abs().max()) <= 1e-12 * float(wanted.abs().max())
    # padding in front needs one vector, padding inside a map: a zero-border merge would be wrong
    assert (composite.border is None) == first
    assert composite.weight.shape == (c_out, 8, kernel, kernel)
    if not first:
        bare = composite(x) - composite.border
        ring, inside = (bare - wanted).abs(), slice(kernel // 2, -(kernel // 2))
        assert float(ring[..., inside, inside].max()) <= 1e-9 < 1e-2 < float(ring.max())


@pytest.mark.parametrize(
    ("first", "second"), [((3, 2), (3, 1)), ((5, 1), (3, 2)), ((3, 2), (5, 2))]
)
def test_01_general_convolutions_merge_to_the_stated_kernel_and_stride(first, second):
    (d1, s1), (d2, s2) = first, second
    build = lambda: nn.Sequential(nn.Sequential(  # noqa: E731
        nn.Conv2d(3, 4, d1, s1, padding=2), nn.Conv2d(4, 5, d2, s2)))  # fmt: skip
    graph = graph_of(seeded(build), (1, 3, 17, 19))
    merged = merge(graph, "0")
    (op,) = merged.ops
    assert op.attributes.stride == (s1 * s2, s1 * s2)
    assert merged.tensors["0.weight"].shape[2:] == (d1 + (d2 - 1) * s1,) * 2
    found = compare(graph, merged, probes((torch.zeros(1, 3, 17, 19),), torch_generator(0, "p")))
    assert found.max_rel_error < 1e-6


def small(**options):
    stages = ((4, 8, 2, 1), (4, 12, 2, 2))
    return SmallMobileNetV2(channels=3, stages=stages, head=16, **options)


def test_02_merged_network_decides_as_the_fine_tuned_one():
    model = seeded(small)
    removed = ("features.3", "features.5", "features.6")
    to_merge(model, removed)
    before = graph_of(model, (1, 3, 12, 12))
    after = merge_blocks(model, before, removed)
    images = torch.randn(1000, 3, 12, 12, generator=torch_generator(0, "images"))
    with torch.no_grad():
        wanted = model(images)
        found = GraphModule(after)(images)
    assert float((wanted - found).abs().max()) <= 1e-3
    assert torch.equal(wanted.argmax(1), found.argmax(1))
    report = equality(before, after, removed, images)
    assert report.same == 1.0 and 0 < report.pixels <= 1e-4
    program = compile_program(after, "host")
    assert program.verified
    steps = {step.name: step.kernel for step in program.source.steps}
    for block in removed:
        (name,) = [n for n in steps if n.startswith(f"{block}.")]
        assert "depthwise" not in steps[name]
        conv = after.producer[name].attributes
        assert conv.groups == 1 and conv.fused == "relu6"  # the free activation is there
    kept = [n for n in steps if n.startswith("features.4.")]
    assert any("depthwise" in steps[n] for n in kept)
    np.testing.assert_allclose(program.run(images[:8].numpy()), wanted[:8], atol=1e-3)


def test_02_equality_sees_a_wrong_border():
    graph = graph_of(seeded(lambda: Net(Block(8, 8))))
    merged = merge(graph, "block")
    border = merged.tensors["block.border"]
    wrong = merged.with_tensors({border.name: replace(border, data=np.zeros_like(border.data))})
    images = torch.randn(8, 3, 9, 9, generator=torch_generator(0, "images"))
    assert equality(graph, merged, ("block",), images).pixels <= 1e-4
    assert equality(graph, wrong, ("block",), images).pixels > 1e-2


@pytest.mark.parametrize(
    ("expansion", "kernel", "c_in", "c_out", "ratio"),
    [(6, 3, 16, 16, 1.708), (6, 3, 32, 32, 1.521), (6, 3, 64, 64, 1.427), (6, 3, 96, 96, 1.396),
     (6, 5, 32, 32, 0.667), (1, 3, 32, 16, 0.396)],
)  # fmt: skip
def test_03_mac_ratios(expansion, kernel, c_in, c_out, ratio):
    model = seeded(lambda: nn.Sequential(Block(c_in, c_out, expansion, kernel)))
    graph = graph_of(model, (1, c_in, 8, 8))
    merged = merge(graph, "0")
    counts = [sum(macs(g, op) for op in g.ops) for g in (graph, merged)]
    x = torch.randn(1, c_in, 8, 8)
    traced = []
    for g in (graph, merged):
        module = GraphModule(g)
        with Trace(module) as seen:
            module(x)
        traced.append(sum(layer.macs for layer in seen.layers))
    assert traced == counts
    assert traced[0] / traced[1] == pytest.approx(ratio, abs=6e-4)


class Activations(nn.Module):
    """Five units of one activation each, in a chain."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(5))
        self.acts = nn.ModuleList(nn.ReLU6() for _ in range(5))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = x.flatten(1)[:, :6]
        for layer, act in zip(self.layers, self.acts, strict=True):
            x = act(layer(x))
        return self.head(x)


UNITS = {f"u{i}": (f"acts.{i}",) for i in range(5)}


def gates(keep, **options):
    return ActivationGates(UNITS, keep, **options)


def make_activations():
    return seeded(Activations).train()


@pytest.mark.parametrize(("keep", "kept"), [(0.0, 0), (0.4, 2), (0.5, 2), (0.7, 3), (1.0, 5)])
def test_04_exactly_k_units_stay_at_every_step(keep, kept):
    model, regime = make_activations(), gates(keep)
    x = torch.randn(32, 6, generator=torch_generator(0, "x"))
    y = torch.randint(4, (32,), generator=torch_generator(0, "y"))
    regime.attach(model, x)
    optimiser = torch.optim.SGD([{"params": list(model.parameters())}, *regime.param_groups()], 0.3)
    seen = []
    with torch.no_grad():
        regime.slopes.uniform_(-0.2, 1.2, generator=torch_generator(0, "slopes"))
    for step in range(6):
        regime.before_step(step, 6)
        # the smallest slopes stay
        order = regime.slopes.detach().argsort()
        assert set(regime.removed) == {f"u{i}" for i in order[kept:].tolist()}
        values = {}
        hooks = [
            act.register_forward_hook(
                lambda m, a, out, i=i, values=values: values.update({i: (a[0], out)})
            )
            for i, act in enumerate(model.acts)
        ]
        loss = F.cross_entropy(model(x), y)
        for hook in hooks:
            hook.remove()
        active = [i for i, (a, b) in values.items() if torch.equal(b, F.relu6(a))]
        through = [i for i, (a, b) in values.items() if torch.allclose(a, b, atol=1e-6)]
        assert len(active) >= kept and len(through) >= 5 - kept
        assert {f"u{i}" for i in through} >= set(regime.removed)
        seen.append(regime.removed)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(len(removed) == 5 - kept for removed in seen)


def test_04_gradient_is_that_of_the_relaxed_form_inside_and_zero_outside():
    model, regime = make_activations().double(), gates(0.4)
    x = torch.randn(16, 6, generator=torch_generator(0, "x"), dtype=torch.float64) * 3
    regime.attach(model, x)
    slopes = [-0.1, 0.0, 0.5, 1.0, 1.1]
    with torch.no_grad():
        regime.slopes.copy_(torch.tensor(slopes))
    regime.before_step(0, 1)
    caught = {}
    for i, act in enumerate(model.acts):
        act.register_forward_hook(lambda m, a, out, i=i: caught.update({i: (a[0], out)}))
    out = model(x)
    for _, value in caught.values():
        value.retain_grad()
    (out**2).sum().backward()
    for i, slope in enumerate(slopes):
        inner, outer = caught[i]
        through = (outer.grad * (inner - F.relu6(inner))).sum().detach()
        wanted = float(through) if 0 <= slope <= 1 else 0.0
        assert float(regime.slopes.grad[i]) == pytest.approx(wanted, rel=1e-5)
        if i in (1, 2, 3):
            assert abs(wanted) > 1e-6
    # finite differences of y = act(x) + (x - act(x)) q in q, at the decision taken
    q = [float(d) for d in regime._decisions]

    def relaxed(number, value):
        h = x
        for i, layer in enumerate(model.layers):
            h = layer(h)
            share = value if i == number else q[i]
            h = F.relu6(h) + (h - F.relu6(h)) * share
        return float((model.head(h) ** 2).sum().detach())

    step = 1e-6
    slope = (relaxed(2, q[2] + step) - relaxed(2, q[2] - step)) / (2 * step)
    assert float(regime.slopes.grad[2]) == pytest.approx(slope, rel=1e-4)


def test_05_the_largest_saving_goes_first():
    savings = {"u0": 1.0, "u1": 5.0, "u2": 20.0, "u3": 2.0, "u4": 0.5}
    for keep, removed in ((0.8, {"u2"}), (0.6, {"u1", "u2"})):
        model, regime = make_activations(), gates(keep, savings=savings, strength=1e-2)
        x = torch.randn(8, 6)
        regime.attach(model, x)
        optimiser = torch.optim.SGD(regime.param_groups(), 0.1)
        context = Context(0, x, torch.zeros(8), torch.zeros(8))
        for step in range(2):
            regime.before_step(step, 2)
            optimiser.zero_grad()
            sum(regime.loss(context).values()).backward()
            optimiser.step()
        assert set(regime.removed) == removed


def test_06_without_activations_a_block_is_affine():
    model = seeded(small)
    block = "features.4"
    sample = torch.zeros(1, 3, 8, 8)
    regime = ActivationGates({block: units(model)[block]}, 0.0)
    handle = regime.attach(model, sample)
    inside = model.get_submodule(block)
    x, y = torch.randn(2, 1, 8, 8, 8, generator=torch_generator(0, "x")).unbind()

    def bend():
        with torch.no_grad():
            mixed = inside(0.3 * x + 0.7 * y)
            return float((mixed - 0.3 * inside(x) - 0.7 * inside(y)).abs().max())

    assert bend() <= 1e-5
    regime.finalize(model)
    assert bend() <= 1e-5
    handle.remove()
    assert bend() <= 1e-5, "removing the handle must not undo what was hardened"
    assert bend_of_fresh() > 1e-2


def bend_of_fresh():
    inside = seeded(small).get_submodule("features.4")
    x, y = torch.randn(2, 1, 8, 8, 8, generator=torch_generator(0, "x")).unbind()
    with torch.no_grad():
        mixed = inside(0.3 * x + 0.7 * y)
        return float((mixed - 0.3 * inside(x) - 0.7 * inside(y)).abs().max())


def test_07_blocks_that_only_lose_are_refused():
    found = {
        "wide": Gain(10e-6, 15e-6, 667, 1000),
        "thin": Gain(10e-6, 5e-6, 396, 1000),
        "usual": Gain(10e-6, 6e-6, 1708, 1000),
    }
    reasons = refused(found)
    assert set(reasons) == {"wide"}
    assert "'wide'" in reasons["wide"] and "1.50" in reasons["wide"]
    model = seeded(lambda: Net(Block(8, 8, 6, 5)))
    measured = gains(graph_of(model), ("block",))["block"]
    assert measured.before_macs / measured.after_macs == pytest.approx(
        (12 * 8 + 150) / 200, abs=0.01
    )
    assert measured.before_s > 0 and measured.after_s > 0
    assert measured.worthwhile == (
        measured.after_macs < measured.before_macs or measured.after_s < measured.before_s
    )


def pictures(n=512):
    generator = torch_generator(0, "pictures")
    y = torch.arange(n) % 4
    x = torch.randn(n, 3, 8, 8, generator=generator) * 0.3
    x[torch.arange(n), y % 3] += (1 + y // 3)[:, None, None].float()
    part = Split(x, y)
    return Dataset("pictures", part, part, part, ("a", "b", "c", "d"))


def stager(**options):
    settings = Settings(
        "digits", 512, ((4, 8, 2, 1),), 1, 16, epochs=(5, 2, 3), learning_rate=0.1, **options
    )
    return Stager(settings, pictures(), 0)


def step_in(folder):
    return Step("test", folder, lambda stage, done, total: None)


def test_08_search_then_merge_keeps_what_was_learnt_and_nothing_merged_is_the_same_program(
    tmp_path,
):
    run = stager(keep=0.5)
    dense = run.dense(step_in(tmp_path / "dense"))
    savings = dict.fromkeys(units(dense), 50.0)
    found, chosen = run.search(step_in(tmp_path / "search"), copy.deepcopy(dense), savings)
    assert len(chosen.removed) == 1
    assert sum(isinstance(m, nn.Identity) for m in found.get_submodule(chosen.removed[0]).conv) == 2
    tuned = run.finetune(step_in(tmp_path / "tune"), found, dense, chosen.removed)
    before = trace(tuned, run.example)
    after = merge_blocks(tuned, before, chosen.removed)
    assert equality(before, after, chosen.removed, run.data.test.inputs).same == 1.0
    assert run.accuracies(GraphModule(after))["test"] == run.accuracies(tuned)["test"] > 0.4
    # with keep = 1 nothing goes, and the program is the dense one to the letter
    whole = stager(keep=1.0)
    same, none = whole.search(step_in(tmp_path / "whole"), copy.deepcopy(dense), savings)
    assert none.removed == ()
    sources = [
        compile_program(merge_blocks(m, trace(m, run.example), ()), "host", verify=False).source
        for m in (dense, same)
    ]
    assert [[s.name, s.kernel, s.code.body] for s in sources[0].steps] == [
        [s.name, s.kernel, s.code.body] for s in sources[1].steps
    ]


class Squeezed(Block):
    def forward(self, x):
        y = self.conv[:6](x)
        return self.conv[6:](y * torch.sigmoid(y.mean((2, 3), keepdim=True)))


def dilated():
    block = Block(8, 8)
    block.conv[3].dilation, block.conv[3].padding = (2, 2), (2, 2)
    return block


def grouped():
    block = Block(8, 8)
    block.conv[6] = nn.Conv2d(48, 8, 1, groups=2, bias=False)
    return block


def gathered():
    block = Block(8, 8)
    block.conv[0] = nn.Conv2d(8, 48, 3, padding=1, bias=False)
    return block


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: Squeezed(8, 8), "globalmean"),
        (lambda: Block(8, 8, act=nn.GELU), "activation"),
        (lambda: Block(8, 8, act=nn.SiLU), "activation"),
        (lambda: Block(8, 8, act=nn.ReLU6), "relu6 is kept"),
        (dilated, "dilation is \\(2, 2\\)"),
        (grouped, "2 groups over 48 channels"),
        (gathered, "in front of the first convolution"),
    ],
)
def test_09_blocks_that_cannot_be_merged_are_named(build, reason):
    graph = graph_of(seeded(lambda: Net(build())))
    with pytest.raises(ModelError, match=rf"block 'block' cannot be merged at 'block.*{reason}"):
        merge(graph, "block")


def test_09_training_mode_unknown_blocks_and_integers_are_refused():
    model = seeded(lambda: Net(Block(8, 8)))
    graph = graph_of(model)
    model.block.conv[4].train()
    with pytest.raises(ModelError, match=r"'block'.*'block\.conv\.4'.*eval\(\)"):
        merge_blocks(model, graph, ["block"])
    with pytest.raises(UnknownNameError, match=r"'blok'.*did you mean 'block"):
        merge(graph, "blok")
    outside = Graph.build(
        graph.name, graph.inputs, ("block.conv.0", *graph.outputs), graph.ops, graph.tensors
    )
    with pytest.raises(ModelError, match="read elsewhere"):
        merge(outside, "block")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"units": {}}, "one or more units"),
        ({"units": {"a": ("acts.0",), "b": ("acts.0",)}}, "in no other"),
        ({"keep": 1.5}, "keep=1.5"),
        ({"savings": {"u9": 1.0}}, "unknown unit 'u9'"),
    ],
)
def test_09_gates_refuse_bad_input(options, reason):
    with pytest.raises(ConfigError, match=reason):
        ActivationGates(**{"units": UNITS, "keep": 0.4, **options})


def test_gates_name_an_absent_activation():
    with pytest.raises(UnknownNameError, match=r"unit 'a'.*'acts\.9'"):
        ActivationGates({"a": ("acts.9",)}, 0.5).attach(make_activations(), torch.zeros(1, 6))


def conformance(keep):
    x = torch.randn(16, 3, 2, 2, generator=torch_generator(0, "x"))
    y = torch.randint(4, (16,), generator=torch_generator(0, "y"))
    make = lambda model: gates(keep, savings={"u1": 3.0}, strength=0.1)  # noqa: E731
    return testing.Case(make_activations, make, x, y)


@pytest.mark.parametrize("check", testing.CHECKS)
def test_gates_conform(check):
    # with all activations kept, finalize gives the plain network back
    check(conformance(1.0))
    if check is not testing.check_finalize_is_plain:
        check(conformance(0.4))


def test_gates_conflict_with_each_other_only():
    with pytest.raises(ConfigError, match="both activation_gate"):
        RegimeStack([gates(0.5), gates(0.5)])
    RegimeStack([gates(0.5), Regime()])


def test_channel_pruned_peer_computes_what_the_silenced_network_does():
    model = seeded(small)
    graph = graph_of(model, (1, 3, 12, 12))
    narrow = prune_channels(copy.deepcopy(model), graph, 0.5)
    after = graph_of(narrow, (1, 3, 12, 12))
    assert {n: t.shape for n, t in after.tensors.items()}["features.4.conv.3.weight"][0] == 16
    assert after.tensors["features.0.weight"].shape == (8, 3, 3, 3)
    counts = [sum(macs(g, op) for op in g.ops) for g in (graph, after)]
    assert 0.2 < counts[1] / counts[0] < 0.4
    # what stays is what was largest, and untouched
    for name in ("features.3.conv.0.weight", "linear.weight"):
        left = after.tensors[name].data.reshape(-1)
        assert np.isin(np.round(left, 5), np.round(graph.tensors[name].data, 5)).all()


def rows(**places):
    """A row whose networks have (validation accuracy, latency in us)."""
    accuracies = {n: {"validation": a, "test": a} for n, (a, _) in places.items()}
    latency = {n: t * 1e-6 for n, (_, t) in places.items()}
    return [Row(0, accuracies, (), {}, {"latency_s": latency})]


def test_peers_are_chosen_by_validation_accuracy_and_by_latency():
    settings = Settings("digits", 1, (), 1, 1, widths=(0.8, 0.5))
    names = {"dense": (0.9, 100), "width 0.8": (0.8, 80), "width 0.5": (0.6, 40)}
    keyed = lambda merged: rows(**names, merged=merged)  # noqa: E731
    assert equal_accuracy(settings, keyed((0.7, 50))) == "width 0.8"
    assert equal_accuracy(settings, keyed((0.95, 50))) == "dense"
    assert equal_latency(settings, keyed((0.7, 50))) == "width 0.8"
    assert equal_latency(settings, keyed((0.7, 30))) == "width 0.5"


def test_linear_and_merged_networks_are_one_function_with_borders():
    graph = graph_of(seeded(small), (1, 3, 12, 12))
    blocks = tuple(units(seeded(small)))
    linear, merged = all_linear(graph, blocks), all_merged(graph, blocks)
    images = torch.randn(8, 3, 12, 12, generator=torch_generator(0, "images"))
    assert equality(linear, merged, blocks, images).pixels <= 1e-4
    assert (
        without_activations(graph, blocks[0]).producer["features.3.conv.0"].attributes.fused
        == "none"
    )


def test_smoke_runs_and_resumes(tmp_path):
    events = []
    finding = reproduce("depthshrinker", "smoke", tmp_path, lambda *event: events.append(event))
    assert {c.claim for c in finding.claims} and finding.seeds == REPRODUCTION.seeds["smoke"]
    exact = finding.claims[:4]
    assert all(claim.holds for claim in exact)
    assert events
    (tmp_path / "finding.json").unlink()
    events.clear()
    again = reproduce("depthshrinker", "smoke", tmp_path, lambda *event: events.append(event))
    assert again.claims == finding.claims and not events
