"""Acceptance of ClickTrain, check by check, on small networks and the embedded digits."""

import copy
import itertools
import math
import statistics

import pytest
import torch
import torch.nn.functional as F

from cofit.core import ConfigError, StructureError, read_json, torch_generator
from cofit.data import load
from cofit.fit import silent
from cofit.models.plain import ConvNet
from cofit.regimes import (
    Batches,
    Context,
    GroupLasso,
    PruneInTraining,
    Recipe,
    Regime,
    RegimeStack,
    TaylorImportance,
    Trace,
    fit,
    group_lasso,
    training_macs,
)
from cofit.reproductions import reproduce
from cofit.reproductions.clicktrain.arms import Watch, click_regime, formula_macs, one_shot
from cofit.reproductions.clicktrain.plan import chooser, connectivity, joint, removed_kernels
from cofit.reproductions.clicktrain.settings import Settings
from cofit.reproductions.harness import accuracy, fewer, kernel_weights, seeded
from cofit.structures import CORNERS, Pattern, PatternLibrary, covering_library

NOTHING = torch.zeros(1)
SETTINGS = Settings(
    data="digits", examples=800, widths=(16, 32), lasso_epoch=2, mask_epoch=6, strength=2e-2
)


@pytest.fixture(scope="module")
def digits():
    return fewer(load("digits"), SETTINGS.examples)


def network(seed=0, widths=(16, 32)):
    return seeded(lambda: ConvNet(channels=1, widths=widths), seed)


def batches(data, seed=0):
    return Batches(data.train.inputs, data.train.targets, size=SETTINGS.batch, seed=seed)


def recipe():
    return Recipe(SETTINGS.epochs, SETTINGS.learning_rate)


class Recorder(Regime):
    """Calls a function of (epoch, model) after every optimiser step."""

    def __init__(self, record):
        self.record = record

    def attach(self, model, sample):
        self.model = model
        return super().attach(model, sample)

    def on_epoch(self, epoch):
        self.epoch = epoch

    def after_step(self):
        self.record(self.epoch, self.model)


@pytest.fixture(scope="module")
def trained(digits):
    """Three seeds of dense and of ClickTrain, with what happened on masking."""
    found, part = [], digits.validation

    def whole(model):
        return accuracy(model, part)

    def pruned(model):
        one_shot(SETTINGS, model)
        return accuracy(model, part)

    for seed in range(3):
        watches = [Watch(SETTINGS.mask_epoch, measure) for measure in (whole, pruned, whole, whole)]
        stack = RegimeStack(watches[:2])
        dense, dense_ledger = fit(network(seed), batches(digits, seed), recipe(), stack)
        model = network(seed)
        regime = click_regime(SETTINGS, model)
        stack = RegimeStack([watches[2], regime, watches[3]])
        click, click_ledger = fit(model, batches(digits, seed), recipe(), stack)
        found.append(
            {
                "dense": accuracy(dense, digits.test),
                "click": accuracy(click, digits.test),
                "one-shot drop": watches[0].value - watches[1].value,
                "click drop": watches[2].value - watches[3].value,
                "norms": regime.removed_norm,
                "ledgers": (dense_ledger, click_ledger),
                "model": click,
            }
        )
    return found


@pytest.mark.parametrize("count", [1, 3])
def test_01_masks_are_chosen_once_and_hold(digits, count):
    """Two epochs of each phase of three steps; every choice is seen, and every step checked."""
    data = Batches(digits.train.inputs[:96], digits.train.targets[:96], size=32)
    model = network(widths=(8, 8))
    names = kernel_weights(model)
    percents = dict.fromkeys(names, 60.0)
    choose, seen = chooser(percents, 4), []

    def counted(importance):
        seen.append({name: value.clone() for name, value in importance.items()})
        return choose(importance)

    regime = PruneInTraining(
        names, counted, lasso_epoch=2, mask_epoch=4, strength=1e-3, batches=count
    )
    removed, steps = [], []

    def record(epoch, model):
        steps.append(epoch)
        marks = regime.state_dict()["removed"]
        removed.append({name: [mark.clone() for mark in value] for name, value in marks.items()})
        for name in names if epoch >= 4 else ():
            weight = model.get_parameter(name).detach()
            structures = regime.structures[name]
            assert all(structure.check(weight) is None for structure in structures)
            kernels = ~removed[-1][name][0].flatten(2).any(2)
            assert not weight[~kernels].any() and weight[kernels].any()

    fit(model, data, Recipe(6, 0.1), RegimeStack([regime, Recorder(record)]))
    assert len(seen) == 2  # the trial on attaching, and the choice
    chosen = next(i for i, marks in enumerate(removed) if marks)
    assert (steps[chosen], chosen) == (2, 2 * 3 + count - 1)
    for later in removed[chosen + 1 :]:
        for name, marks in later.items():
            assert all(map(torch.equal, marks, removed[chosen][name]))


@pytest.mark.parametrize("shape", [(8, 8, 3, 3), (64, 37, 3, 3), (10, 30, 1, 1), (25, 12, 3, 3)])
@pytest.mark.parametrize("percent", [0.0, 7.0, 29.0, 55.0, 57.3, 72.0, 99.0])
def test_02_number_of_removed_kernels_is_exact(shape, percent):
    kernels = shape[0] * shape[1]
    tenths = round(10 * percent)
    removed = -(-tenths * kernels // 1000)  # integers only; 0.29 * 100 is not 29 in floats
    if removed == kernels:
        with pytest.raises(StructureError, match="all of them"):
            removed_kernels(percent, kernels)
        return
    assert removed_kernels(percent, kernels) == removed
    for weight in (torch.ones(shape), torch.randn(shape, generator=torch_generator(2))):
        left = connectivity(percent, shape).project(weight)
        assert int((left.flatten(2) == 0).all(2).sum()) == removed
        if shape[2:] == (3, 3):
            structure = joint(percent, shape, CORNERS)
            assert structure.kept(shape) == kernels - removed
            assert structure.check(structure.project(weight)) is None


def test_03_importance_is_taylor_and_the_choice_is_that_of_brute_force(digits):
    model = network(widths=(8, 32))
    names = [name for name in kernel_weights(model) if model.get_parameter(name).shape[1] == 32]
    (name,) = names  # 1024 kernels
    weight = model.get_parameter(name)
    importance = TaylorImportance({name: weight})
    expected = 0.0
    for i in range(3):
        rows = slice(64 * i, 64 * (i + 1))
        x, y = digits.train.inputs[rows], digits.train.targets[rows]
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), weight)
        expected = expected + (weight.detach() * gradient).double().square() / 3
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        importance.add()
    found = importance.mean()[name]
    assert (found.double().sqrt() - expected.sqrt()).abs().max() < 1e-7
    assert found.max() > 0 and importance.batches == 3

    model.zero_grad()
    regime = PruneInTraining(
        names, chooser({name: 40.0}, CORNERS), lasso_epoch=0, mask_epoch=1, batches=1
    )
    regime.attach(model, NOTHING)
    F.cross_entropy(model(x), y).backward()
    regime.after_backward()
    kernels, outside = (mark.flatten(2) for mark in regime.state_dict()["removed"][name])
    exact = (weight.detach() * weight.grad).double().square().reshape(-1, 9)
    patterns = [[i for i in range(9) if mask >> i & 1] for mask in CORNERS.masks]
    for row, gone in zip(exact, outside.reshape(-1, 9), strict=True):
        best = max(patterns, key=lambda kept, row=row: float(row[kept].sum()))
        assert (~gone).nonzero().flatten().tolist() == best
    least = sorted(range(1024), key=lambda i: float(exact[i].sum()))[: math.ceil(0.4 * 1024)]
    assert set(kernels.all(2).flatten().nonzero().flatten().tolist()) == set(least)
    assert kernels.any(2).sum() == len(least)


def test_04_group_lasso_gradient_has_its_closed_form():
    generator = torch_generator(4)
    weight = torch.randn(6, 5, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    patterns = Pattern(CORNERS, 1, 2.25).mask(weight.detach())
    marked = torch.rand(6, 5, generator=generator) < 0.4
    kernels = marked[:, :, None, None].expand(6, 5, 3, 3)
    regime = GroupLasso({"weight": (~patterns, kernels)}, 0.3)
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(weight.detach().clone())
    regime.attach(module, NOTHING)
    value = regime.loss(Context(0, NOTHING, NOTHING, NOTHING))["lasso"]
    value.backward()

    total, expected = 0.0, torch.zeros_like(weight)
    for k, c in itertools.product(range(6), range(5)):
        kernel, kept = weight.detach()[k, c], patterns[k, c]
        outside = torch.where(kept, 0.0, kernel)
        norm = math.sqrt(float(outside.square().sum()) + 1e-8)
        total += norm
        expected[k, c] += 0.3 * outside / norm
        whole = math.sqrt(float(kernel.square().sum()) + 1e-8)
        total += whole if marked[k, c] else 1e-4  # a kernel that is not marked adds a constant
        expected[k, c] += 0.3 * kernel / whole * marked[k, c]  # and one that is is pulled twice
    assert value.item() == pytest.approx(0.3 * total, rel=1e-12)
    assert torch.allclose(module.weight.grad, expected, rtol=1e-12, atol=0)
    free = patterns & ~kernels
    assert free.any() and not module.weight.grad[free].any()
    assert torch.autograd.gradcheck(lambda w: group_lasso(w, ~patterns), weight)
    zero = torch.zeros(2, 3, requires_grad=True)  # single weights of a linear layer
    group_lasso(zero, torch.ones(2, 3, dtype=torch.bool)).backward()
    assert not zero.grad.any()


def test_05_what_is_removed_shrinks_and_masking_costs_less_than_one_shot(trained, digits):
    for found in trained:
        chosen, masked = found["norms"]
        assert chosen >= 3 * masked
    better = statistics.mean(found["one-shot drop"] - found["click drop"] for found in trained)
    assert better > 0.1
    # without the regulariser neither is so
    model = network()
    regime = click_regime(SETTINGS, model)
    regime = PruneInTraining(
        kernel_weights(model), regime._choose, lasso_epoch=2, mask_epoch=6, strength=0.0
    )
    part = digits.validation
    before, after = (Watch(6, lambda m: accuracy(m, part)) for _ in range(2))
    fit(model, batches(digits), Recipe(7, 0.1), RegimeStack([before, regime, after]))
    chosen, masked = regime.removed_norm
    assert chosen < 3 * masked
    assert before.value - after.value > trained[0]["click drop"]


def test_06_greedy_library_covers_what_its_bound_promises():
    generator = torch_generator(6)
    candidates = torch.randperm(126, generator=generator)[:10].tolist()
    shapes = list(itertools.combinations(range(9), 4))
    library = PatternLibrary.of(shapes[i] for i in candidates)
    for trial in range(20):
        importance = torch.rand(12, 5, 3, 3, generator=generator) ** (1 + trial % 4)
        rows = importance.double().reshape(-1, 9)

        def retained(patterns, rows=rows):
            return float((rows @ patterns.bits().double().T).amax(1).sum())

        for size in (1, 2, 4):
            best = max(
                retained(PatternLibrary(chosen))
                for chosen in itertools.combinations(library.masks, size)
            )
            greedy = covering_library([importance[:7], importance[7:]], size, library)
            assert len(greedy.masks) == size and set(greedy.masks) <= set(library.masks)
            assert (1 - 1 / math.e) * best <= retained(greedy) <= best * (1 + 1e-12)
            if size == 1:
                assert retained(greedy) == pytest.approx(best)
    ordinary = covering_library([importance], 4)
    assert ordinary.entries == 4
    assert covering_library([torch.zeros(2, 2, 3, 3)], 3) == PatternLibrary.of(shapes[:3])


def test_07_epochs_are_those_of_dense_and_costs_are_those_that_ran(trained, digits):
    dense, click = trained[0]["ledgers"]
    assert len(dense.rows) == len(click.rows) == SETTINGS.epochs
    assert dense.macs == click.macs == dense.kept_macs
    assert [row.kept_macs == row.macs for row in click.rows] == [True] * 6 + [False] * 4

    # every product of a whole small run, counted by the tracer with the weights that were used
    data = Batches(digits.train.inputs[:64], digits.train.targets[:64], size=32)
    model = network(widths=(8, 16))
    settings = Settings(examples=64, epochs=4, lasso_epoch=1, mask_epoch=2, percent=60.0, batches=2)
    with Trace(model) as trace:
        _, ledger = fit(model, data, Recipe(4, 0.05), click_regime(settings, model))
    once = training_macs(model, data.inputs[:1])  # `fit` traces one example when it starts
    layers = [layer for layer in trace.layers if layer.kind != "matmul"]  # choosing has some
    assert ledger.macs == sum(layer.total for layer in layers) - once
    kept = sum(layer.total * layer.weight.density for layer in layers) - once
    assert ledger.kept_macs == pytest.approx(kept, rel=0.01)
    weights = [model.get_parameter(n) for n in kernel_weights(model)]
    rate = sum(w.numel() for w in weights) / sum(int(w.count_nonzero()) for w in weights)
    assert rate == pytest.approx(9 / 4 / 0.4, rel=0.02)
    formula = formula_macs(settings, model, data.inputs[:1], rate)
    first = training_macs(model.features[0], data.inputs[:1])
    late = 64 * 2 * first * (1 - 1 / rate)  # the first layer stays dense
    assert ledger.kept_macs == pytest.approx(formula + late, rel=0.01)
    assert 0.5 < ledger.kept_macs / ledger.macs < 0.65


def test_08_accuracy_is_close_to_dense_at_8x(trained):
    for found in trained:
        weights = [found["model"].get_parameter(n) for n in kernel_weights(found["model"])]
        left = sum(int(w.count_nonzero()) for w in weights)
        assert sum(w.numel() for w in weights) >= 8 * left > 0
    lost = statistics.mean(found["dense"] - found["click"] for found in trained)
    assert statistics.mean(found["dense"] for found in trained) > 0.97
    assert lost <= 0.03  # the standard scale holds it against 0.015 on real data


def test_09_bad_input_is_refused():
    model = network(widths=(8, 8))
    names = kernel_weights(model)
    percents = dict.fromkeys(names, 50.0)

    def regime(choose=None, **changed):
        given = {"lasso_epoch": 2, "mask_epoch": 4, **changed}
        return PruneInTraining(names, choose or chooser(percents, CORNERS), **given)

    for early, late in ((4, 4), (5, 4), (-1, 2)):
        with pytest.raises(ConfigError, match=f"lasso_epoch={early}, mask_epoch={late}"):
            regime(lasso_epoch=early, mask_epoch=late)
    with pytest.raises(ConfigError, match="batches=0"):
        regime(batches=0)
    for percent in (100.0, 140.0, -1.0):
        wrong = chooser({**percents, names[1]: percent}, CORNERS)
        with pytest.raises(ValueError, match=f"'{names[1]}'.*{percent} % of the kernels"):
            regime(wrong).attach(model, NOTHING)
    large = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 5))
    five = PruneInTraining(
        ["0.weight"],
        lambda importance: {"0.weight": (Pattern(CORNERS, 1, 2.25),)},
        lasso_epoch=0,
        mask_epoch=1,
    )
    with pytest.raises(ValueError, match=r"'0\.weight'.*5x5"):
        five.attach(large, NOTHING)
    with pytest.raises(StructureError, match="patterns are 3x3"):
        covering_library([torch.ones(4, 4, 5, 5)], 4)
    with pytest.raises(StructureError, match="127 patterns"):
        covering_library([torch.ones(4, 4, 3, 3)], 127)
    wide = GroupLasso({names[0]: (torch.ones(1, 1, 3, 3, dtype=torch.bool),)}, 1.0)
    with pytest.raises(StructureError, match=names[0]):
        wide.attach(model, NOTHING)
    short = regime(lasso_epoch=5, mask_epoch=6)
    short.attach(model, NOTHING)
    with pytest.raises(ConfigError, match="ended before epoch 5"):
        short.finalize(copy.deepcopy(model))


def test_smoke_runs_and_resumes(tmp_path):
    first = reproduce("clicktrain", "smoke", tmp_path, silent)
    assert len(first.claims) == 13
    held = {claim.claim: claim.holds for claim in first.claims}
    assert held["epochs of dense training + ADMM + retraining, over those of ClickTrain"]
    steps = {p.name: read_json(p)["seconds"] for p in (tmp_path / "steps").glob("*.json")}
    assert set(steps) == {"seed_0.json", "step_times.json", "latency.json"}
    (tmp_path / "finding.json").unlink()
    again = reproduce("clicktrain", "smoke", tmp_path, silent)
    assert (again.claims, again.seconds) == (first.claims, first.seconds)
