"""Acceptance of lottery-lr, check by check, at reduced size."""

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import nn

from cofit.core import ConfigError, ModelError, StructureError, UnknownNameError, torch_generator
from cofit.data import Dataset, Split
from cofit.regimes import Masked, Regime, RegimeStack
from cofit.reproductions import reproduce
from cofit.reproductions.harness import Step
from cofit.reproductions.lottery_lr import (
    ARMS,
    Grid,
    Margins,
    TicketReport,
    Trial,
    fingerprint,
    layerwise,
    mask_source,
    overlap,
    pooled,
    ticket_check,
    verdict,
)
from cofit.reproductions.lottery_lr.check import SHARES
from cofit.reproductions.lottery_lr.masks import Iterative, density, masked


def normal(size, seed=0, scale=1.0):
    return scale * torch.randn(size, generator=torch_generator(seed, "w"))


def small():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(64, 4),
    )  # fmt: skip


def shapes(n, seed):
    """Bars (n, 1, 8, 8) in noise: upper, lower, left or right half bright in stripes."""
    generator = torch_generator(seed, "shapes")
    y = torch.arange(n) % 4
    x = torch.randn(n, 1, 8, 8, generator=generator)
    x[y == 0, :, ::2] += 1.2
    x[y == 1, :, :, ::2] += 1.2
    x[y == 2, :, 1::4] += 1.5
    x[y == 3, :, :, 1::4] += 1.5
    return Split(x, y)


DATA = Dataset("shapes", shapes(384, 0), shapes(128, 1), shapes(256, 2), ("a", "b", "c", "d"))


def trial(rate=0.05, epochs=2, seed=0):
    return Trial(small, DATA, rate, epochs, seed, batch=32)


def step_in(folder):
    return Step("test", folder, lambda stage, done, total: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trial, its initial state and its dense phase."""
    run = trial()
    return run, run.initial(), run.dense(step_in(tmp_path_factory.mktemp("dense")))


def test_01_closed_forms_of_the_overlap():
    n, share = 1_000_000, 0.2
    a, b = normal(n, 1), normal(n, 2)
    assert overlap(a, a, share).ratio == 1.0
    found = overlap(a, b, share)
    k = int(share * n)
    null = stats.hypergeom(n, k, k)
    assert found.kept == k
    assert found.expected == pytest.approx(null.mean(), rel=1e-12)
    assert found.variance == pytest.approx(null.var(), rel=1e-9)
    assert abs(found.z) < 4 and found.ratio == pytest.approx(share, abs=4e-3)
    ratios = [overlap(a, a + sigma * b, share).ratio for sigma in (0, 0.1, 0.3, 1, 3, 10, 100)]
    assert all(x > y for x, y in pairwise(ratios))
    assert ratios[0] == 1.0 and ratios[-1] < 0.22


@pytest.mark.parametrize(("n", "share"), [(7, 0.3), (12, 0.5), (50, 0.1)])
def test_01_the_null_is_exact_on_small_weights(n, share):
    a = normal(n, 3)
    k = round(share * n)
    draws = [overlap(a, normal(n, s), share) for s in range(400)]
    null = stats.hypergeom(n, k, k)
    assert draws[0].expected == pytest.approx(null.mean())
    assert draws[0].variance == pytest.approx(null.var())
    mean = sum(d.common for d in draws) / len(draws)
    assert abs(mean - null.mean()) < 4 * math.sqrt(null.var() / len(draws))


def test_01_pooling_layers_of_other_scale_is_high_without_memory():
    def network(seed):
        return {"a": normal(4000, seed, 0.1), "b": normal(1000, seed + 50, 1.0)}

    first, second = network(1), network(2)
    assert pooled(first, second, 0.2).ratio > 0.6
    assert abs(layerwise(first, second, 0.2).z) < 4
    found = layerwise(first, second, 0.2)
    parts = [overlap(first[n], second[n], 0.2) for n in "ab"]
    assert (found.common, found.kept) == (sum(p.common for p in parts), 1000)


def test_02_ticket_starts_at_the_initial_bits_and_the_other_arm_in_no_layer(trained):
    run, initial, dense = trained
    masks = mask_source("global", 0.8).masks(run.weights, initial, dense.state, None)
    assert fingerprint(run.initial()) == fingerprint(initial) != fingerprint(dense.state)
    ticket = run.start("ticket", masks, initial, dense.state)
    again = run.start("again", masks, initial, dense.state)
    assert fingerprint(ticket) == fingerprint(masked(initial, masks))
    for name in run.weights:
        kept = masks[name]
        assert torch.equal(ticket[name][kept], initial[name][kept])
        assert not torch.isclose(ticket[name][kept], again[name][kept]).all()
        # a fake that takes the trained weights for the ticket is seen
        assert not torch.equal(ticket[name][kept], dense.state[name][kept])
    assert fingerprint(run.start("again", masks, initial, dense.state)) == fingerprint(again)
    assert fingerprint(trial(seed=1).initial()) != fingerprint(initial)


class Watch(Regime):
    """Writes down the zeros of weights after every step."""

    def __init__(self, weights):
        self._names, self.seen = weights, []

    def attach(self, model, sample):
        self._model = model
        return super().attach(model, sample)

    def after_step(self):
        state = dict(self._model.named_parameters())
        self.seen.append(fingerprint({n: state[n].detach() != 0 for n in self._names}))


@pytest.mark.parametrize("arm", ARMS)
def test_03_masks_are_one_in_all_arms_and_hold_at_every_step(trained, tmp_path, arm):
    run, initial, dense = trained
    masks = mask_source("global", 0.8).masks(run.weights, initial, dense.state, None)
    total = sum(m.numel() for m in masks.values())
    assert sum(int(m.sum()) for m in masks.values()) == math.ceil(total * 0.2 - 1e-9)
    start = run.start(arm, masks, initial, dense.state)
    watch = Watch(run.weights)
    stack = RegimeStack([Masked(run.weights), watch])
    phase = run.phase(step_in(tmp_path), start, stack, "watched")
    assert set(watch.seen) == {fingerprint(masks)} and len(watch.seen) == phase.steps == 24
    assert fingerprint({n: phase.state[n] != 0 for n in run.weights}) == fingerprint(masks)


def test_05_statistics_and_biases_follow_the_arm(trained):
    run, initial, dense = trained
    masks = mask_source("global", 0.8).masks(run.weights, initial, dense.state, None)
    others = [n for n in initial if n not in masks]
    assert any(n.endswith("running_mean") for n in others)
    ticket, again, tuned = (run.start(a, masks, initial, dense.state) for a in ARMS[:3])
    for name in others:
        assert torch.equal(ticket[name], initial[name])
        assert torch.equal(tuned[name], dense.state[name])
        if not name.endswith("num_batches_tracked"):
            assert not torch.equal(dense.state[name], initial[name])
    assert torch.equal(again["1.running_mean"], torch.zeros(8))
    assert not torch.equal(again["0.bias"], initial["0.bias"])


def test_06_iterative_pruning_takes_a_fifth_per_round_and_masks_are_nested(trained, tmp_path):
    run, initial, dense = trained
    source = Iterative(1 - 0.8**4)
    size = sum(initial[n].numel() for n in run.weights)
    counts = source.counts(size)
    assert len(counts) == 4
    assert all(abs(c - size * 0.8 ** (k + 1)) <= 1 for k, c in enumerate(counts))
    starts = []

    def train(state, regime, name):
        starts.append({n: state[n] != 0 for n in run.weights})
        for n in run.weights:
            assert torch.equal(state[n][starts[-1][n]], initial[n][starts[-1][n]])
        return run.phase(step_in(tmp_path), state, regime, name).state

    final = source.masks(run.weights, initial, dense.state, train)
    chain = [*starts, final]
    assert [sum(int(m.sum()) for m in masks.values()) for masks in chain] == list(counts)
    for early, late in pairwise(chain):
        assert all(bool((late[n] <= early[n]).all()) for n in run.weights)
    assert Iterative(0.9).counts(1000)[-1] == 100


GRID = Grid(rates=(0.005, 0.2), sources=("global",), sparsity=0.9, epochs=3, batch=32)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return ticket_check(small, DATA, tmp_path_factory.mktemp("check"), GRID)


def test_04_all_arms_cost_the_same(report):
    arms = [p for p in report.phases if p.arm != "dense"]
    assert {(p.epochs, p.steps) for p in arms} == {(6, 72)}
    assert {(p.epochs, p.steps) for p in report.phases if p.arm == "dense"} == {(3, 36)}
    assert len(arms) == 2 * 3 * len(ARMS)


def test_07_arms_share_the_mask_and_the_small_rate_remembers(report):
    for rate in GRID.rates:
        for seed in range(3):
            found = [p for p in report.phases if p.rate == rate and p.seed == seed and p.mask]
            assert len({p.mask for p in found}) == 1 and len(found) == len(ARMS)
            assert {round(p.density, 6) for p in found} == {round(found[0].density, 6)}
    small_rate, large = (report.of("dense", rate) for rate in GRID.rates)
    assert all(p.memory.z > 5 and p.memory.ratio > 0.6 for p in small_rate)
    assert all(a.memory.ratio > b.memory.ratio for a, b in zip(small_rate, large, strict=True))
    assert all(a.memory.moved < b.memory.moved for a, b in zip(small_rate, large, strict=True))
    mean = lambda arm: sum(report.accuracies(arm, 0.2, "global")) / 3  # noqa: E731
    assert mean("finetune") >= mean("ticket")


def test_01_curves_over_the_share_are_those_of_the_stored_weights(report):
    assert {(c.rate, c.seed) for c in report.curves} == {
        (r, s) for r in GRID.rates for s in (0, 1, 2)
    }
    for curve in report.curves:
        (dense,) = [p for p in report.of("dense", curve.rate) if p.seed == curve.seed]
        at = SHARES.index(GRID.share)
        assert curve.ratios[at] == dense.memory.ratio and curve.z[at] == dense.memory.z
        over = [ratio / share for ratio, share in zip(curve.ratios, SHARES, strict=True)]
        assert over == sorted(over, reverse=True)  # memory is in the tail of large weights


def test_08_rates_that_do_not_separate_give_no_verdict(report):
    dense = [sum(report.accuracies("dense", rate)) / 3 for rate in GRID.rates]
    assert ("rates not separating" in report.verdicts["global"]) == (dense[0] >= dense[1])
    arms = {"dense": (0.9, 0.91, 0.9), "ticket": (0.9,) * 3, "again": (0.8,) * 3}
    arms["finetune"] = arms["dense"]
    worse = arms | {"dense": (0.85, 0.84, 0.85)}
    assert verdict({0.01: arms, 0.1: worse}).startswith("rates not separating")
    text = verdict({0.01: worse, 0.1: arms | {"ticket": (0.8, 0.81, 0.8)}})
    assert text == (
        "winning tickets at learning rate 0.01 only, where training is too slow: "
        "use prune+fine-tune"
    )


def test_verdict_needs_both_conditions_beyond_the_spread():
    arms = {"dense": (0.90, 0.91, 0.90), "finetune": (0.9, 0.9, 0.9)}
    close = arms | {"ticket": (0.90, 0.91, 0.90), "again": (0.85, 0.86, 0.84)}
    assert verdict({0.1: close}) == "winning tickets at learning rate 0.1: use the ticket"
    far = close | {"dense": (0.95, 0.95, 0.96)}
    assert verdict({0.1: far}).startswith("no winning property")
    alike = close | {"again": (0.90, 0.90, 0.90)}
    assert verdict({0.1: alike}).startswith("no winning property")
    noisy = close | {"again": (0.89, 0.80, 0.91)}
    assert verdict({0.1: noisy}).startswith("no winning property")
    assert verdict({0.1: alike}, Margins(dense=0.5, again=-1.0)).startswith("winning tickets")
    with pytest.raises(ConfigError, match="three or more"):
        verdict({0.1: {name: values[:2] for name, values in close.items()}})


def test_06_sources_take_a_rate_of_their_own(trained):
    run, initial, dense = trained
    for name, sparsity in (("global@11.6", 1 - 1 / 11.6), ("global@2.5", 0.6)):
        source = mask_source(name, 0.9)
        masks = source.masks(run.weights, initial, dense.state, None)
        assert source.name == name
        total = sum(m.numel() for m in masks.values())
        kept = math.ceil(total * (1 - sparsity) - 1e-9)
        assert sum(int(m.sum()) for m in masks.values()) == kept
    assert mask_source("iterative@22.7", 0.5).counts(1000)[-1] == math.ceil(1000 / 22.7)
    assert mask_source("admm:block8x1@4", 0.5).structure.text == "block8x1@4"
    for wrong in ("global@1", "global@x", "block8x1@", "iterative@inf"):
        with pytest.raises(ConfigError, match="is no pruning rate; give a number above 1"):
            mask_source(wrong, 0.9)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("admm:unstructured", 0.1), ("pattern8g1", 0.1), ("block8x1", 0.1), ("nm2:4", 0.5),
     ("admm:block8x1", 0.1)],
)  # fmt: skip
def test_09_any_structure_is_a_source_of_masks(trained, tmp_path, name, kept):
    run, initial, dense = trained
    source = mask_source(name, 0.9)
    assert source.name == name
    masks = run.masks(step_in(tmp_path), source, initial, dense.state)
    assert set(masks) == set(run.weights)
    suited = {n: m for n, m in masks.items() if source.structure.applies(tuple(m.shape)) is None}
    assert suited and density(suited) == pytest.approx(kept, abs=0.06)
    for n, m in suited.items():
        assert source.structure.check(m.float()) is None, n
    phase = run.arm(step_in(tmp_path), "ticket", masks, initial, dense.state)
    assert fingerprint({n: phase.state[n] != 0 for n in run.weights}) == fingerprint(masks)


def test_09_admm_draws_the_weights_before_the_mask_is_taken(trained, tmp_path):
    run, initial, dense = trained
    one_shot = run.masks(step_in(tmp_path), mask_source("unstructured", 0.9), initial, dense.state)
    source = mask_source("admm:unstructured", 0.9)
    drawn = run.masks(step_in(tmp_path), source, initial, dense.state)
    assert fingerprint(one_shot) != fingerprint(drawn)


def test_10_bad_input_says_what_is_allowed(trained):
    run, _, dense = trained
    w = normal(10)
    for share in (0, 1, -0.1, 1.5):
        with pytest.raises(ConfigError, match=r"must be above 0 and below 1"):
            overlap(w, w, share)
    for sparsity in (0.0, 1.0):
        with pytest.raises(ConfigError, match="sparsity"):
            mask_source("global", sparsity)
    with pytest.raises(ConfigError, match="were not stored"):
        run.start("ticket", {}, None, dense.state)
    with pytest.raises(UnknownNameError, match="unknown structure 'blok'"):
        mask_source("blok", 0.9)
    with pytest.raises(ModelError, match="no common elements"):
        overlap(w, normal(9), 0.2)
    with pytest.raises(StructureError, match=r"applies to no weight.*'0\.weight'"):
        flat = {"0.weight": normal((4, 4))}
        mask_source("pattern8g8", 0.9).masks(("0.weight",), flat, flat, None)


def test_check_resumes_and_refuses_another_grid(tmp_path):
    events = []
    grid = dataclasses.replace(GRID, rates=(0.1,), epochs=1)
    watch = lambda *event: events.append(event)  # noqa: E731
    first = ticket_check(small, DATA, tmp_path, grid, progress=watch)
    assert events and (tmp_path / "tickets.json").exists()
    events.clear()
    assert ticket_check(small, DATA, tmp_path, grid, progress=watch) == first
    assert not events
    stored = TicketReport.model_validate_json((tmp_path / "tickets.json").read_text())
    assert stored == first
    with pytest.raises(ConfigError, match="another check"):
        ticket_check(small, DATA, tmp_path, GRID)
    with pytest.raises(ConfigError, match="share 1"):
        ticket_check(small, DATA, tmp_path / "b", dataclasses.replace(GRID, share=1.0))


def test_smoke_runs_and_resumes(tmp_path):
    events = []
    finding = reproduce("lottery-lr", "smoke", tmp_path, lambda *event: events.append(event))
    assert len(finding.claims) == 8 and events
    (tmp_path / "finding.json").unlink()
    events.clear()
    again = reproduce("lottery-lr", "smoke", tmp_path, lambda *event: events.append(event))
    assert again.claims == finding.claims and not events
