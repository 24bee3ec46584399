"""Pose pruning: network, targets, grouping in Python and C, OKS-AP, plan."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cofit.codegen import compile
from cofit.core import ConfigError, DataError, ModelError
from cofit.ir import kept_macs, macs
from cofit.regimes import Masked
from cofit.reproductions.harness import seeded
from cofit.reproductions.pose_pruning import REPRODUCTION
from cofit.reproductions.pose_pruning.claims import branch_losses, claims
from cofit.reproductions.pose_pruning.coco import read_coco
from cofit.reproductions.pose_pruning.compiled import CompiledGrouping
from cofit.reproductions.pose_pruning.figures import make_scenes
from cofit.reproductions.pose_pruning.grouping import group
from cofit.reproductions.pose_pruning.network import REFERENCE, PoseNet, map_loss
from cofit.reproductions.pose_pruning.oks import Person, average_precision, oks
from cofit.reproductions.pose_pruning.pruning import (
    FAMILY,
    plan,
    projected,
    prunable,
    sensitivities,
    structures_of,
)
from cofit.reproductions.pose_pruning.skeleton import COCO18, STICK, Skeleton
from cofit.reproductions.pose_pruning.study import at_depth, graph_of, knee, replaced
from cofit.reproductions.pose_pruning.targets import target_maps
from cofit.structures import family

SIZE = (96, 96)
STRIDE = 4
SMOKE = REPRODUCTION.scales["smoke"]


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(200, 0, "check", apart_px=12.0)


@pytest.fixture(scope="module")
def maps(scenes):
    return scenes.targets(STRIDE)


@pytest.fixture(scope="module")
def network():
    shape = replace(SMOKE.shape, width=24, stem=8)
    return seeded(lambda: PoseNet(shape), 3).eval()


def figure_at(x, y, scale=1.0):
    """A stick figure whose neck is at (x, y)."""
    steps = [(0, -8), (0, 0), (-10, 8), (10, 8), (0, 16), (-6, 32), (6, 32)]
    return np.array([(x + scale * u, y + scale * v) for u, v in steps])


def test_01_parameters_and_output_shapes_of_the_published_network():
    bn, k, limbs = 2, 18, 19
    backbone = 3 * 32 * 9 + bn * 32
    ends = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512)
    for c_in, c_out in itertools.pairwise(ends):
        backbone += 9 * c_in + bn * c_in + c_in * c_out + bn * c_out
    cpm = 512 * 128 + 128 + 3 * (9 * 128 + 128 * 128) + 9 * 128 * 128 + 128
    initial = 3 * (9 * 128 * 128 + 128)
    initial += 2 * (128 * 512 + 512) + 512 * (k + 1) + (k + 1) + 512 * 2 * limbs + 2 * limbs
    block = 2 * (9 * 128 * 128 + 128 + bn * 128)
    refinement = (185 * 128 + 128 + block) + 4 * (128 * 128 + 128 + block)
    refinement += 2 * (128 * 128 + 128) + 128 * (k + 1) + (k + 1) + 128 * 2 * limbs + 2 * limbs
    model = PoseNet(REFERENCE)
    count = sum(p.numel() for p in model.parameters())
    assert count == backbone + cpm + initial + refinement == 4_091_698
    x = torch.zeros(1, 3, 64, 96)
    assert model.eval()(x).shape == (1, 19 + 38, 8, 12)
    assert model.train()(x).shape == (1, 2 * (19 + 38), 8, 12)


def test_02_target_maps_of_a_hand_case():
    line = Skeleton(("a", "b"), ((0, 1),), (0.1, 0.1))
    # cell centres are at 3.5, 11.5, ... pixels at stride 8
    people = np.array([[(11.5, 35.5), (51.5, 35.5)]])
    found = target_maps(people, line, (96, 96), 8)
    assert found.shape == (3 + 2, 12, 12)
    assert found[0, 4, 1] == 1.0 and found[1, 4, 6] == 1.0
    assert found[0, 4, 2] == pytest.approx(np.exp(-1 / (2 * 0.875**2)), rel=1e-6)
    assert np.allclose(found[2], 1 - found[:2].max(0))
    length = np.hypot(found[3], found[4])
    assert set(np.unique(length)) == {0.0, 1.0}
    on = {(y, x) for y, x in zip(*np.nonzero(length), strict=True)}
    assert on == {(y, x) for y in (3, 4, 5) for x in range(8)}  # one cell to every side
    assert found[3, 4, 3] == 1.0 and found[4, 4, 3] == 0.0
    # a second limb crosses at a right angle: their fields are averaged where both lie
    crossing = np.array([[(35.5, 11.5), (35.5, 59.5)]])
    both = target_maps(np.concatenate([people, crossing]), line, (96, 96), 8)
    assert both[3, 4, 4] == 0.5 and both[4, 4, 4] == 0.5
    assert both[3, 4, 1] == 1.0 and both[4, 2, 4] == 1.0


def test_02_loss_leaves_unknown_targets_free():
    targets = torch.zeros(2, 3, 4, 4)
    targets[1] = torch.nan
    outputs = torch.ones(2, 6, 4, 4, requires_grad=True)
    loss = map_loss(outputs, targets)
    loss.backward()
    assert loss.item() == 2 * 3 * 16 / 2
    assert (outputs.grad[1] == 0).all() and (outputs.grad[0] != 0).all()


def test_03_grouping_finds_the_planted_people(scenes, maps):
    exact = 0
    for people, each in zip(scenes.people, maps, strict=True):
        found = group(each, STICK, STRIDE)
        errors = [min(np.abs(p.points - q).max() for q in people) for p in found if len(people)]
        exact += len(found) == len(people) and all(e <= STRIDE / 2 for e in errors)
    assert exact >= 198
    assert {len(people) for people in scenes.people} >= {1, 2, 3}


def test_04_compiled_grouping_equals_the_reference(maps):
    find = CompiledGrouping(STICK, STRIDE)
    rng = np.random.default_rng(0)
    cases = [*maps[:60]]
    cases += [m + rng.normal(0, 0.15, m.shape).astype(np.float32) for m in maps[60:80]]
    cases.append(rng.uniform(-1, 1, maps[0].shape).astype(np.float32))
    cases += [m[:, 3:-2, 1:-4] for m in maps[:5]]
    people = 0
    for each in cases:
        expected, found = group(each, STICK, STRIDE), find(each)
        assert len(found) == len(expected)
        for a, b in zip(expected, found, strict=True):
            assert np.allclose(a.points, b.points, atol=1e-4, rtol=0, equal_nan=True)
            assert b.score == pytest.approx(a.score, abs=1e-6)
        people += len(found)
    assert people > 100


def test_04_on_real_people(data_dir):
    pictures = read_coco(data_dir / "coco_keypoints" / "test_coco.json")
    assert [len(picture.people) for picture in pictures] and len(pictures) == 4
    find = CompiledGrouping(COCO18, 8)
    found, truths = [], []
    for picture in pictures:
        size = tuple(-(-side // 8) * 8 for side in picture.size)
        points = np.array([person.points for person in picture.people]).reshape(-1, 18, 2)
        each = target_maps(points, COCO18, size, 8)
        found.append(find(each))
        truths.append(picture.people)
        for a, b in zip(group(each, COCO18, 8), found[-1], strict=True):
            assert np.allclose(a.points, b.points, atol=1e-4, rtol=0, equal_nan=True)
    assert sum(map(len, truths)) == 12
    assert average_precision(truths, truths, COCO18.kappas) == 1.0
    assert 0.3 < average_precision(truths, found, COCO18.kappas) < 1.0


def test_05_masks_of_ones_change_nothing_and_block_counts_are_exact(network):
    names = prunable(network)
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = network(x)
        handle = Masked(names).attach(network, x)
        assert torch.equal(network(x), before)
    handle.remove()
    graph = graph_of(network)
    assert np.array_equal(projected(graph, {}).tensors[names[0]].data, graph.tensors[names[0]].data)
    rates = dict.fromkeys(names, 4.0) | {names[0]: 1.0}
    pruned = projected(graph, structures_of(rates))
    for name in names:
        weight = pruned.tensors[name]
        k, c, r, s = weight.shape
        blocks = -(-k // 8) * -(-c // 4) * r * s
        full = np.pad(weight.data, ((0, -k % 8), (0, -c % 4), (0, 0), (0, 0)))
        kept = np.abs(full).reshape(-(-k // 8), 8, -(-c // 4), 4, r * s).max(axis=(1, 3)) > 0
        assert int(kept.sum()) == (blocks if name == names[0] else -(-blocks // 4))
    dense = {w.name for _, w in graph.weighted()} - set(names)
    assert "backbone.0.weight" in dense
    assert sum(name.endswith(("heatmaps.2.weight", "pafs.2.weight")) for name in dense) == 4
    for name in dense:
        assert pruned.tensors[name].structure is None
        assert np.array_equal(pruned.tensors[name].data, graph.tensors[name].data)


def test_06_plan_equals_brute_force():
    rng = np.random.default_rng(0)
    rates = (2.0, 4.0, 8.0)
    for _ in range(20):
        losses = {f"w{i}": np.sort(rng.uniform(0, 5, 3)).tolist() for i in range(5)}
        times = {f"w{i}": np.sort(rng.uniform(1, 10, 4))[::-1].tolist() for i in range(5)}
        limit = 0.5 * sum(row[0] for row in times.values()) + 0.5 * sum(map(min, times.values()))
        chosen, found = plan(losses, times, rates, limit)
        best = min(
            sum((0.0, *losses[f"w{i}"])[pick] for i, pick in enumerate(picks))
            for picks in itertools.product(range(4), repeat=5)
            if sum(times[f"w{i}"][pick] for i, pick in enumerate(picks)) <= limit
        )
        assert found.loss == pytest.approx(best, abs=1e-9)
        every = (1.0, *rates)
        spent = sum(times[name][every.index(rate)] for name, rate in chosen.items())
        assert spent <= limit * (1 + 1e-9)


def test_07_plan_follows_what_was_measured_whichever_branch_is_sensitive():
    rates = (2.0, 4.0)
    backbone, limbs = "backbone.3.3.weight", "stages.1.heads.pafs.0.weight"
    times = {backbone: [10.0, 6.0, 4.0], limbs: [10.0, 6.0, 4.0]}
    for fragile, robust in ((limbs, backbone), (backbone, limbs)):
        losses = {robust: [0.1, 0.2], fragile: [3.0, 9.0]}
        chosen, _ = plan(losses, times, rates, 14.0)
        assert chosen == {robust: 4.0, fragile: 1.0}
        settings = replace(SMOKE, rates=rates)
        in_limbs, in_backbone = branch_losses(settings, {"losses": losses})
        assert (in_limbs > in_backbone) == (fragile == limbs)


def test_07_sensitivities_are_measured_and_leave_the_network(network):
    names = prunable(network)[:3]
    before = {name: p.clone() for name, p in network.state_dict().items()}
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(x)

    def quality():
        with torch.no_grad():
            return -float((network(x) - expected).square().sum())

    found = sensitivities(network, names, (2.0, 8.0), quality, lambda *_: None)
    assert all(0 < found[name][0] <= found[name][1] for name in names)
    assert all(torch.equal(p, before[name]) for name, p in network.state_dict().items())


@pytest.mark.device
def test_08_emitted_c_and_grouping_in_c_find_what_torch_and_python_find(network, scenes):
    names = prunable(network)
    graph = projected(graph_of(network), structures_of(dict.fromkeys(names, 4.0)))
    with torch.no_grad():
        for name in names:
            weight = network.get_parameter(name)
            weight.copy_(family(FAMILY)(4.0).project(weight))
        slow = network(torch.from_numpy(scenes.images[:4])).numpy()
    fast = compile(graph).run(scenes.images[:4])
    assert np.abs(fast - slow).max() < 1e-4 * max(1.0, np.abs(slow).max())
    find = CompiledGrouping(STICK, STRIDE)
    for a, b in zip(fast, slow, strict=True):
        assert len(find(a)) == len(group(b, STICK, STRIDE))
    dense = sum(macs(graph, op) for op in graph.ops)
    assert 1.5 < dense / sum(kept_macs(graph, op) for op in graph.ops) < 4


def test_08_claims_need_speed_and_precision_together():
    losses = {"backbone.3.3.weight": [1.0], "x.pafs.0.weight": [2.0]}
    plans = [{"losses": losses, "rates": dict.fromkeys(losses, 2.0)}] * 3

    def run(peer_s, pruned_ap):
        return {
            "peer": "peer", "peer_s": peer_s, "pruned_s": 1e-3, "python_s": 4e-3, "c_s": 1e-4,
            "baseline_ap": 80.0, "pruned_ap": pruned_ap, "macs": 8, "kept_macs": 2,
        }  # fmt: skip

    good = claims(SMOKE, plans, [run(4e-3, 79.8)] * 3)
    assert all(claim.holds for claim in good)
    slow = claims(SMOKE, plans, [run(1e-3, 79.8)] * 3)
    assert [claim.holds for claim in slow[:2]] == [False, True]
    wrong = claims(SMOKE, plans, [run(4e-3, 70.0), run(4e-3, 70.0), run(4e-3, 79.8)])
    assert not wrong[1].holds and not wrong[3].holds
    assert wrong[3].measured.mean == pytest.approx(1 / 3)
    dense = [plans[0], {"losses": losses, "rates": dict.fromkeys(losses, 1.0)}, plans[0]]
    assert "prunes nothing" not in good[0].note
    told = claims(SMOKE, dense, [run(4e-3, 79.8)] * 3)
    assert told[0].note.endswith("the plan prunes nothing for 1 of 3 seeds")


def test_09_similarity_and_precision_in_closed_cases():
    truth = Person(figure_at(40, 30), area=1600.0)
    assert oks(truth, truth.points, STICK.kappas) == 1.0
    shift = np.array([0.1 * 40.0, 0.0])  # kappa times s
    assert oks(truth, truth.points + shift, STICK.kappas) == pytest.approx(np.exp(-0.5))
    missing = truth.points.copy()
    missing[2:] = np.nan
    assert oks(truth, missing, STICK.kappas) == pytest.approx(2 / 7)
    other = Person(figure_at(70, 50), area=1600.0)
    exact = [Person(p.points, 1.0) for p in (truth, other)]
    assert average_precision([[truth, other]], [exact], STICK.kappas) == 1.0
    assert average_precision([[truth, other]], [[]], STICK.kappas) == 0.0
    assert np.isnan(average_precision([[]], [exact], STICK.kappas))
    # OKS 0.6065 passes the thresholds 0.50, 0.55 and 0.60
    near = [Person(truth.points + shift, 1.0)]
    assert average_precision([[truth]], [near], STICK.kappas) == pytest.approx(0.3)
    # the better-ranked false positive halves the precision at every recall
    false = Person(other.points + 300, 2.0)
    assert average_precision([[truth]], [[false, exact[0]]], STICK.kappas) == pytest.approx(0.5)
    # one of two people found: precision 1 up to recall 0.5, that is at 51 of 101 recalls
    half = average_precision([[truth, other]], [[exact[0]]], STICK.kappas)
    assert half == pytest.approx(51 / 101)
    twice = [Person(truth.points, 2.0), Person(truth.points, 1.0)]
    assert average_precision([[truth]], [twice], STICK.kappas) == 1.0


def test_10_nobody_borders_and_broken_maps(maps):
    find = CompiledGrouping(STICK, STRIDE)
    nobody = target_maps(np.empty((0, 7, 2)), STICK, SIZE, STRIDE)
    assert group(nobody, STICK, STRIDE) == [] == find(nobody)
    corner = np.clip(figure_at(10, 0), 0, 95)
    corner = target_maps(corner[None], STICK, SIZE, STRIDE)
    (person,), (same,) = group(corner, STICK, STRIDE), find(corner)
    assert np.allclose(person.points, same.points, atol=1e-4, equal_nan=True)
    for broken in (np.nan, np.inf):
        bad = maps[0].copy()
        bad[3, 5, 5] = broken
        for way in (lambda m: group(m, STICK, STRIDE), find):
            with pytest.raises(DataError, match="NaN or infinite"):
                way(bad)
    for way in (lambda m: group(m, STICK, STRIDE), find):
        with pytest.raises(DataError, match=r"\(20, h, w\)"):
            way(maps[0][:5])


def test_10_bad_input_is_refused(tmp_path):
    with pytest.raises(DataError, match="stride"):
        target_maps(np.empty((0, 7, 2)), STICK, (90, 96), 8)
    with pytest.raises(DataError, match=r"\(P, 7, 2\)"):
        target_maps(np.empty((1, 8, 2)), STICK, SIZE, 8)
    with pytest.raises(ConfigError, match="existing keypoints"):
        Skeleton(("a",), ((0, 1),), (0.1,))
    with pytest.raises(ConfigError, match="stride"):
        at_depth(SMOKE.shape, 1)
    with pytest.raises(ModelError, match="no layer"):
        prunable(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)))
    with pytest.raises(DataError, match="cannot read"):
        read_coco(tmp_path / "none.json")
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"images": [{"id": 1}], "annotations": []}))
    with pytest.raises(DataError, match="not a COCO"):
        read_coco(wrong)


def test_depth_and_operators_follow_their_rules():
    sweep = {
        6: {"ap": 80.0, "latency_s": 10.0},
        4: {"ap": 79.5, "latency_s": 8.0},
        2: {"ap": 70.0, "latency_s": 6.0},
    }
    assert knee(sweep) == 4
    assert knee(sweep | {2: {"ap": 78.0, "latency_s": 6.0}}) == 2
    assert knee(sweep | {4: {"ap": 79.5, "latency_s": 11.0}}) == 6
    plain = replaced(REFERENCE)
    assert not plain.dilated and 4 * plain.blocks >= 6 * REFERENCE.blocks
    deeper = at_depth(REFERENCE, 13)
    assert len(deeper.backbone) == 13 and deeper.backbone[-1] == (512, 1, 1)


def test_scenes_are_reproducible_and_parts_differ():
    first, again = make_scenes(3, 0, "a"), make_scenes(3, 0, "a")
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, make_scenes(3, 0, "b").images)
    assert first.images.min() >= 0 and first.images.max() <= 1
    for people in make_scenes(30, 0, "c", apart_px=20.0).people:
        for a, b in itertools.combinations(people, 2):
            assert np.hypot(*(a - b).T).min() >= 20.0
