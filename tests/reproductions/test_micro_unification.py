"""The reproduction at reduced size: ADMM, storage, counts, the contenders, and resuming."""

import copy
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import torch_generator
from cofit.data import Dataset, Split
from cofit.regimes import Batches, Recipe, fit
from cofit.reproductions.harness import reproduce, seeded
from cofit.reproductions.micro_unification import REPRODUCTION
from cofit.reproductions.micro_unification.claims import same_support
from cofit.reproductions.micro_unification.contenders import (
    Epochs,
    contenders,
    holding,
    progressive,
    trained,
)
from cofit.reproductions.micro_unification.storage import operations, rate_for, stored
from cofit.structures import Unify, family, parse


def images(count, seed):
    """8x8 images of 8 channels; the class is the pair of channels that agree."""
    generator = torch_generator(seed, "pairs")
    x = torch.randn(count, 8, 6, 6, generator=generator)
    y = torch.randint(4, (count,), generator=generator)
    for i, c in enumerate(y.tolist()):
        x[i, 2 * c + 1] = x[i, 2 * c] + 0.5 * torch.randn(6, 6, generator=generator)
    return Split(x, y)


DATA = Dataset("pairs", images(512, 0), images(64, 1), images(512, 2), tuple("abcd"))
STRUCTURES = {"2.weight": Unify(1, 8, 3), "5.weight": Unify(1, 8, 3)}


def network():
    return nn.Sequential(
        nn.Conv2d(8, 32, 1, bias=False), nn.Sequential(nn.BatchNorm2d(32), nn.ReLU()),
        nn.Conv2d(32, 32, 1, bias=False), nn.Sequential(nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(32, 4),
    )  # fmt: skip


class NoStep:
    """A step that keeps nothing."""

    def checkpoint(self, name="training", every=200):
        return None

    def progress(self, stage, done, total):
        return None


@pytest.fixture(scope="module")
def dense():
    batches = Batches(DATA.train.inputs, DATA.train.targets, size=32)
    model, _ = fit(seeded(network, 0), batches, Recipe(8, 0.1))
    return model


def loss_of(model):
    with torch.no_grad():
        return float(F.cross_entropy(model.eval()(DATA.test.inputs), DATA.test.targets))


def fine_tuned(dense, seed, epochs):
    """One-shot projection and the retraining that follows ADMM, without ADMM's epochs."""
    model = copy.deepcopy(dense)
    with torch.no_grad():
        for name, structure in STRUCTURES.items():
            weight = model.get_parameter(name)
            weight.copy_(structure.project(weight))
    batches = Batches(DATA.train.inputs, DATA.train.targets, size=16, seed=seed)
    recipe = Recipe(epochs.retrain, epochs.retrain_rate)
    return fit(model, batches, recipe, holding(STRUCTURES))[0]


def test_07_admm_draws_weights_in_and_beats_one_shot_projection(dense):
    """With the same fine-tuning, as the check says.

    Given ADMM's epochs too, one-shot projection is ahead on this task: ADMM ends with the very
    blocks that projection takes at once, so its epochs only delay training within the structure.
    The claim of the reproduction is about that harder comparison, and gives this share as reason.
    """
    epochs = Epochs(5, 2, 2e-2, 2e-2)
    gains, shrinks = [], []
    for seed in range(3):
        model, gaps = trained(NoStep(), dense, DATA, seed, STRUCTURES, epochs, batch=16)
        for name, structure in STRUCTURES.items():
            assert structure.check(model.get_parameter(name).detach()) is None
        shrinks.append(gaps[0] / gaps[-1])
        tuned = fine_tuned(dense, seed, epochs)
        gains.append(loss_of(tuned) - loss_of(model))
        states = [[dict(network.state_dict())] for network in (model, tuned)]
        assert same_support(*states) > 0.99
        none = [{n: 0 * w for n, w in states[1][0].items()}]
        assert same_support(states[0], none) == pytest.approx(2 / 3, abs=0.01)
    assert min(shrinks) >= 10
    assert sum(gains) / 3 > 0


def test_07_progressive_unification_keeps_what_it_has_unified(dense, monkeypatch):
    """Shares of a quarter, half, three quarters, all; nothing leaves its class again."""
    stages, seen = [], []
    model = fitted(dense)

    def recorded(structures):
        stages.append(structures)
        weights = {name: model.get_parameter(name).detach() for name in structures}
        seen.append({n: s.members(weights[n]) for n, s in structures.items()})
        return holding(structures)

    monkeypatch.setattr("cofit.reproductions.micro_unification.contenders.holding", recorded)
    epochs = Epochs(4, 3, 2e-2, 2e-2)
    model = progressive(NoStep(), model, DATA, 0, STRUCTURES, epochs, batch=16)
    assert [s["2.weight"].share for s in stages] == [0.25, 0.5, 0.75, 1.0]
    assert loss_of(model) < 1.0
    for name, structure in STRUCTURES.items():
        assert structure.check(model.get_parameter(name).detach()) is None
        pruned = [stage[name][0] for stage in seen]
        unified = [stage[name][1] for stage in seen]
        assert all(torch.equal(p, pruned[0]) for p in pruned)
        assert all(bool((a <= b).all()) for a, b in pairwise(unified))
        counts = [int(u.sum()) for u in unified]
        shape = tuple(model.get_parameter(name).shape)
        assert counts == [stage[name].counts(shape).unified for stage in stages]
        assert counts == pytest.approx([counts[-1] * s for s in (0.25, 0.5, 0.75, 1)], abs=1)


def fitted(model):
    copied = network()
    copied.load_state_dict(model.state_dict())
    return copied


def test_every_contender_ends_in_its_structure_at_the_same_coded_bytes(dense):
    names = list(STRUCTURES)
    budget = stored(dense, {}).coded // 3
    epochs = Epochs(1, 1, 1e-2, 1e-2)
    for contender in contenders("1x8", "1x16"):
        if contender.name == "unify":
            continue
        rate = rate_for(budget, dense, names, family(contender.form))
        structures = dict.fromkeys(names, family(contender.form)(rate))
        model, _ = trained(NoStep(), dense, DATA, 0, structures, epochs, batch=64)
        size = stored(model, structures)  # raises where a weight left its structure
        assert abs(size.coded - budget) < 0.3 * budget  # of 144 blocks each is much
        assert size.raw >= sum(
            s.nbytes(tuple(model.get_parameter(n).shape), 4) for n, s in structures.items()
        )


def test_stored_bytes_count_what_is_not_compressed(dense):
    model = copy.deepcopy(dense)
    with torch.no_grad():
        for name, structure in STRUCTURES.items():
            weight = model.get_parameter(name)
            weight.copy_(structure.project(weight))
    size = stored(model, STRUCTURES)
    inside = sum(s.nbytes(tuple(dense.get_parameter(n).shape), 4) for n, s in STRUCTURES.items())
    assert size.raw == inside + 4 * 8 * 32
    with pytest.raises(ValueError, match="project it before encoding"):
        stored(dense, STRUCTURES)


def test_operations_are_those_of_the_weights():
    model = nn.Sequential(nn.Conv2d(8, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 4 * 4, 2))
    structure = Unify(1, 8, 2)
    with torch.no_grad():
        weight = model[0].weight
        weight.copy_(structure.project(weight))
    found = operations(model, {"0.weight": structure}, torch.randn(1, 8, 6, 6))
    blocks = structure.counts((4, 8, 3, 3)).unified
    assert found.multiplies == 16 * blocks + 4 * 4 * 4 * 2
    assert found.additions == 16 * blocks * 8 + 4 * 4 * 4 * 2
    dense = operations(model, {}, torch.randn(1, 8, 6, 6))
    assert dense.multiplies == dense.additions == found.additions
    assert found.energy_j == pytest.approx(found.multiplies * 3.7e-12 + found.additions * 0.9e-12)


def test_energy_limits_are_the_published_ones():
    for n, gain in ((8, 3.4), (10**6, 5.1)):
        assert 4.6 * n / (0.9 * n + 3.7) == pytest.approx(gain, rel=0.01)


def test_holding_chooses_by_what_a_structure_ties():
    assert type(holding({"a": Unify(1, 8, 1)})).__name__ == "Unified"
    names = [type(r).__name__ for r in holding({"a": parse("block1x8@2+int8")})._regimes.values()]
    assert names == ["Masked", "OnGrid"]


def test_smoke_gives_finite_claims_and_resumes(tmp_path, monkeypatch):
    small = replace(REPRODUCTION.scales["smoke"], train=96, test=64, batch=32)
    monkeypatch.setitem(REPRODUCTION.scales, "smoke", small)
    monkeypatch.setattr("cofit.reproductions.harness.runner.THREADS", 1)
    first = reproduce("micro-unification", "smoke", tmp_path, lambda *step: None)
    assert len(first.claims) >= 8
    assert all(math.isfinite(v) for claim in first.claims for v in claim.measured.values)
    assert len({row[0] for row in first.tables[0].rows}) == 8
    (tmp_path / "finding.json").unlink()
    seen = []
    again = reproduce("micro-unification", "smoke", tmp_path, lambda *step: seen.append(step))
    assert not seen and again.claims == first.claims
