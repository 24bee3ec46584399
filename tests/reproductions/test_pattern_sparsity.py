"""Acceptance of the training half of pattern sparsity; the others stand beside structures,
regimes and codegen (`test_pattern_sparsity_*.py`)."""

import math
import statistics
from itertools import pairwise

import pytest
import torch
from torch import nn

from cofit.core import ConfigError, StructureError, read_json, torch_generator
from cofit.data import load
from cofit.fit import silent
from cofit.models.plain import ConvNet
from cofit.regimes import Batches, PatternADMM, Recipe, RegimeStack, fit
from cofit.regimes.testing import CHECKS, Case
from cofit.reproductions import reproduce
from cofit.reproductions.harness import accuracy, fewer, kernel_weights, seeded
from cofit.reproductions.pattern_sparsity.arms import PRUNINGS, Gap, Settings
from cofit.structures import ALL_CENTRED, Connectivity, Pattern, PatternLibrary

SETS = (Connectivity(2.0), Pattern(ALL_CENTRED, 1, 2.25))
SETTINGS = Settings(data="digits", examples=640, widths=(12, 24), connectivity=2.0)


def network(widths=(12, 24)):
    return seeded(lambda: ConvNet(channels=1, widths=widths), 0)


@pytest.fixture(scope="module")
def digits():
    return fewer(load("digits"), 640)


@pytest.fixture(scope="module")
def dense(digits):
    data = Batches(digits.train.inputs, digits.train.targets, size=32)
    model, _ = fit(network(), data, Recipe(4, 0.1))
    return model


def test_04_the_library_shrinks_to_what_is_planted_while_training():
    generator = torch_generator(4)
    planted = [ALL_CENTRED.masks[i] for i in torch.randperm(56, generator=generator)[:8].tolist()]
    bits = PatternLibrary(tuple(planted)).bits()
    model = nn.Sequential(nn.Conv2d(8, 24, 3), nn.Conv2d(24, 16, 3), nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        for layer in model[:2]:
            k, c = layer.weight.shape[:2]
            which = torch.randint(8, (k, c), generator=generator)
            size = 0.5 + torch.rand(k, c, 9, generator=generator)
            noise = 0.05 * torch.randn(k, c, 9, generator=generator)
            layer.weight.copy_(0.1 * (bits[which] * size + noise).reshape(k, c, 3, 3))
    sets = dict.fromkeys(("0.weight", "1.weight"), SETS)
    admm = PatternADMM(sets, (32, 16, 8), stage_epochs=2)
    seen = []
    original = admm.on_epoch

    def on_epoch(epoch):
        original(epoch)
        seen.append(admm.library)

    admm.on_epoch = on_epoch
    x = torch.randn(16, 8, 5, 5, generator=generator)
    y = torch.randint(2, (16,), generator=generator)
    trained, _ = fit(model, Batches(x, y, size=8), Recipe(8, 1e-3), admm)
    assert [len(library.masks) for library in seen] == [56, 56, 32, 32, 16, 16, 8, 8]
    assert all(set(b.masks) <= set(a.masks) for a, b in pairwise(seen))
    assert set(admm.library.masks) == set(planted)
    final = Pattern(admm.library, 1, 4.5)  # hardened in both sets, with the last library
    assert all(final.check(trained.get_parameter(name).detach()) is None for name in sets)


def test_05_gap_closes_while_the_library_shrinks(dense, digits):
    one_shot = fitted(dense)
    PRUNINGS["one-shot"](one_shot, SETTINGS, 0)
    model = fitted(dense)
    admm = PatternADMM(dict.fromkeys(kernel_weights(model), SETS), rho=5e-2, stage_epochs=2)
    gap = Gap(admm)
    data = Batches(digits.train.inputs, digits.train.targets, size=32)
    model, _ = fit(model, data, Recipe(12, 0.02), RegimeStack([gap, admm]))
    gaps = [row.gap for row in admm.history] + [gap.value]
    smoothed = [statistics.fmean(gaps[i : i + 4]) for i in range(0, 12, 4)]
    assert smoothed == sorted(smoothed, reverse=True) and gaps[-1] < 0.05 < gaps[0]
    assert accuracy(model, digits.validation) > accuracy(one_shot, digits.validation) + 0.05
    for name in kernel_weights(model):
        weight = model.get_parameter(name).detach()
        kept = int(weight.flatten(2).any(2).sum())
        assert kept == math.ceil(weight.shape[0] * weight.shape[1] / 2)


def fitted(model):
    copied = network()
    copied.load_state_dict(model.state_dict())
    return copied


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_shrinking_admm_keeps_the_contract_of_regimes(check, digits):
    """One epoch per stage, so that a resumed training finds the library it had."""

    def regime(model):
        return PatternADMM(dict.fromkeys(kernel_weights(model), SETS), (9, 4), stage_epochs=1)

    x, y = digits.train.inputs[:16], digits.train.targets[:16]
    check(Case(lambda: network((4, 6)), regime, x, y))


def test_arms_have_equal_density(dense):
    for arm in ("one-shot", "random", "unstructured", "filters"):
        model = fitted(dense)
        PRUNINGS[arm](model, SETTINGS, 0)
        weights = [model.get_parameter(name).detach() for name in kernel_weights(model)]
        left = sum(int(weight.count_nonzero()) for weight in weights)
        wanted = sum(4 * math.ceil(w.shape[0] * w.shape[1] / 2.0) for w in weights)
        if arm == "filters":  # whole channels: the nearest density below
            assert 0.75 * wanted < left <= wanted
            read = [weight.flatten(2).any(2) for weight in weights]
            for before, after in pairwise(read):
                assert not after[:, ~before.any(1)].any()
        else:
            assert left == wanted
    first, second = fitted(dense), fitted(dense)
    for model, seed in ((first, 0), (second, 1)):
        PRUNINGS["random"](model, SETTINGS, seed)
    name = kernel_weights(first)[0]
    assert not torch.equal(first.get_parameter(name), second.get_parameter(name))


def test_10_bad_input_is_refused(dense):
    name = kernel_weights(dense)[0]
    with pytest.raises(ConfigError, match="56, 16, 32 patterns"):
        PatternADMM({name: SETS}, (16, 32))
    with pytest.raises(ConfigError, match="at least one"):
        PatternADMM({name: SETS}, (16, 0))
    with pytest.raises(ConfigError, match="0 pattern libraries"):
        PatternADMM({name: SETS[:1]})
    with pytest.raises(StructureError, match=r"'linear\.weight'.*1x1"):
        PatternADMM({name: SETS, "linear.weight": SETS}).attach(dense, torch.zeros(1))
    five = nn.Sequential(nn.Conv2d(4, 4, 5))
    with pytest.raises(ValueError, match=r"'0\.weight'.*5x5"):
        PatternADMM({"0.weight": SETS}).attach(five, torch.zeros(1))


def test_smoke_runs_and_resumes(tmp_path):
    first = reproduce("pattern-sparsity", "smoke", tmp_path, silent)
    assert len(first.claims) == 11
    steps = {p.name: read_json(p)["seconds"] for p in (tmp_path / "steps").glob("*.json")}
    assert set(steps) == {"seed_0.json", "network.json", "layer.json"}
    (tmp_path / "finding.json").unlink()
    again = reproduce("pattern-sparsity", "smoke", tmp_path, silent)
    assert (again.claims, again.seconds) == (first.claims, first.seconds)
    assert statistics.fmean(first.claims[0].measured.values) < 100
