"""Structures at one rate on one network: arms, costs, table."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from cofit.core import DataError, read_json, read_tensors
from cofit.fit import silent
from cofit.models import model as known_model
from cofit.reproductions import reproduce
from cofit.reproductions.equal_rate import REPRODUCTION, arms
from cofit.reproductions.equal_rate.arms import (
    DENSE,
    ONE_SHOT,
    RANDOM,
    Settings,
    structures_of,
)
from cofit.reproductions.equal_rate.deployed import costs
from cofit.reproductions.harness import Step, kernel_weights, seeded
from cofit.structures import Pattern
from cofit.structures.text import parse

SMOKE = REPRODUCTION.scales["smoke"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("equal-rate")
    return reproduce("equal-rate", "smoke", folder, silent), folder


def states(folder):
    found = {}
    for path in sorted((folder / "steps").glob("*_0.tensors")):
        arm = path.name.removesuffix("_0.tensors").replace("_", " ")
        state = read_tensors(path)
        found[arm] = {n.removeprefix("state "): v for n, v in state.items()}
    return found


def test_every_arm_ends_in_its_structures_at_the_rate(run):
    finding, folder = run
    found = states(folder)
    names = kernel_weights(known_model(SMOKE.entry).build())
    assert set(found) == {a.replace(",", "") for a in (DENSE, *SMOKE.forms, ONE_SHOT, RANDOM)}
    for arm, state in found.items():
        weights = [state[name] for name in names]
        density = sum(int((w != 0).sum()) for w in weights) / sum(w.numel() for w in weights)
        sets = structures_of(SMOKE, arm) if arm in SMOKE.forms else ()
        for structure in sets:
            assert all(structure.check(w) is None for w in weights), (arm, structure.text)
        if arm == DENSE:
            assert density > 0.99
        else:  # signs that are held make more zeros
            least = 0.75 if arm == "polarised" else 0.97
            assert least / SMOKE.rate <= density <= 1.06 / SMOKE.rate, arm
    joint = structures_of(SMOKE, "pattern")[0]
    assert isinstance(joint, Pattern)
    assert all(joint.check(found["pattern one shot"][n]) is None for n in names)
    assert any(joint.check(found["random patterns"][n]) is not None for n in names)
    assert {row[0] for row in finding.tables[0].rows} == {DENSE, *SMOKE.forms, ONE_SHOT, RANDOM}


def test_costs_are_those_of_the_closed_forms(run):
    _, folder = run
    deployed = read_json(folder / "steps" / "deployed.json")["values"]
    shapes = [
        tuple(p.shape)
        for n, p in known_model(SMOKE.entry).build().named_parameters()
        if n in kernel_weights(known_model(SMOKE.entry).build())
    ]
    assert deployed[DENSE]["bytes"] == sum(math.prod(shape) for shape in shapes)
    for arm in ("pattern", "block"):
        (structure,) = structures_of(SMOKE, arm)
        assert deployed[arm]["bytes"] == sum(structure.nbytes(shape, 1) for shape in shapes)
        assert deployed[arm]["bytes"] < 0.6 * deployed[DENSE]["bytes"]
    assert deployed["polarised"]["crossbars"] <= deployed["block"]["crossbars"]
    assert deployed["polarised"]["crossbars"] < deployed[DENSE]["crossbars"]
    assert all(0 < cost["latency_s"] < 1 for cost in deployed.values())


def test_instructions_are_counted_where_there_is_a_board(run):
    _, folder = run
    settings = replace(SMOKE, board="cortex-m4:stm32f446")
    found = states(folder)
    both = costs(settings, arms.dataset(SMOKE), {arm: found[arm] for arm in (DENSE, "block")})
    assert both["block"]["instructions"] < 0.9 * both[DENSE]["instructions"]


def test_random_patterns_depend_on_the_seed_and_keep_the_rate():
    model = seeded(known_model(SMOKE.entry).build, 0)
    names = kernel_weights(model)
    kept = []
    for seed in (0, 0, 1):
        changed = copy.deepcopy(model)
        arms._randomise(changed, names, 4.5, seed)
        weight = changed.get_parameter(names[0]).detach()
        kept.append(weight != 0)
        kernels = weight.flatten(2).count_nonzero(2)
        assert set(kernels.unique().tolist()) == {0, 4}
        assert int((kernels > 0).sum()) == math.ceil(kernels.numel() / 2)
        used = {tuple(k.nonzero().flatten().tolist()) for k in kept[-1].flatten(0, 1).flatten(1)}
        assert 3 <= len(used - {()}) <= 8
    assert torch.equal(kept[0], kept[1]) and not torch.equal(kept[0], kept[2])


def test_trained_weights_that_are_absent_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("COFIT_MODELS", str(tmp_path))
    with pytest.raises(DataError, match=r"'resnet20_cifar10\.safetensors'.*COFIT_MODELS"):
        arms._file(Settings().weights)


@pytest.mark.parametrize("arm", ["stripe", "unified", "complementary"])
def test_other_forms_train_into_their_structure(arm, tmp_path):
    data = arms.dataset(SMOKE)
    model = seeded(known_model(SMOKE.entry).build, 0)
    settings = replace(SMOKE, forms=arms.FORMS)
    step = Step("test", tmp_path, silent)
    found = arms.trained(step, settings, data, model, arm, 0)
    (structure,) = structures_of(settings, arm)
    for name in kernel_weights(model):
        assert structure.check(found[f"state {name}"]) is None
    assert found["rate"] == pytest.approx(1 if arm == "complementary" else 4, rel=0.05)


def test_the_standard_scale_is_at_eight_on_a_trained_network():
    standard = REPRODUCTION.scales["standard"]
    assert standard.rate == 8.0 and standard.weights and standard.entry == "resnet20"
    assert len(REPRODUCTION.seeds["standard"]) == 3
    assert parse("rows8@8").text in {s.text for s in structures_of(standard, "polarised")}


def test_smoke_resumes(run):
    finding, folder = run
    (folder / "finding.json").unlink()
    again = reproduce("equal-rate", "smoke", folder, silent)
    assert (again.claims, again.seconds) == (finding.claims, finding.seconds)
    assert len(finding.claims) == 5
