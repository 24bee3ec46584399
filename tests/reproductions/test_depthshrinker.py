"""The reproduction at reduced size: gains, selectors, trainings, peers, claims, resuming."""

import copy
import itertools

import numpy as np
import pytest
import torch
from depthshrinker_nets import Block, Net, graph_of, seeded, small
from torch import nn

from cofit.codegen import compile as compile_program
from cofit.core import ConfigError, InfeasibleError, numpy_generator, torch_generator
from cofit.data import Dataset, Split
from cofit.ir import GraphModule, macs, merge_blocks, trace, without_activations
from cofit.reproductions import reproduce
from cofit.reproductions.depthshrinker import (
    REPRODUCTION,
    Gain,
    Settings,
    all_merged,
    gains,
    prune_channels,
    refused,
    units,
)
from cofit.reproductions.depthshrinker.claims import (
    PROGRAMMED,
    Row,
    conclude,
    equal_accuracy,
    equal_latency,
)
from cofit.reproductions.depthshrinker.measure import equality, on_board
from cofit.reproductions.depthshrinker.selector import Segment, by_programming, cover, damages_of
from cofit.reproductions.depthshrinker.stages import Stager
from cofit.reproductions.harness import Step


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


MBV2 = (
    (56.97, 41.78), (138.79, 5.45), (82.45, 6.68), (47.03, 3.23), (34.51, 4.12), (34.51, 4.12),
    (21.19, 2.38), (17.91, 2.72), (17.91, 2.72), (17.91, 2.72), (20.75, 3.75), (31.27, 5.04),
    (31.27, 5.04), (16.67, 3.44), (14.21, 2.8), (14.21, 2.8), (18.77, 4.38),
)  # fmt: skip
"""Milliseconds of the 17 inner units of MobileNetV2-1.4 before and after (released table)."""


def test_selector_is_exact_on_chains_of_runs():
    """Against every cover of small chains, runs of several blocks included."""
    rng = numpy_generator(0, "covers")
    for trial in range(40):
        blocks = 2 + trial % 4
        segments = [
            Segment(a, b, float(rng.random()), float(rng.random()))
            for a in range(blocks)
            for b in range(a + 1, blocks + 1)
            for _ in range(2 if b == a + 1 else int(rng.integers(0, 2)))
        ]
        covers = [
            chosen
            for size in range(1, blocks + 1)
            for chosen in itertools.combinations(segments, size)
            if [s for c in sorted(chosen, key=lambda c: c.start) for s in range(c.start, c.stop)]
            == list(range(blocks))
        ]
        times = sorted(sum(s.latency_s for s in chosen) for chosen in covers)
        budget = times[len(times) // 3]
        best = min(
            sum(s.damage for s in chosen)
            for chosen in covers
            if sum(s.latency_s for s in chosen) <= budget
        )
        found = cover(segments, blocks, budget * (1 + 1e-12))
        assert [s for c in found for s in range(c.start, c.stop)] == list(range(blocks))
        assert sum(s.latency_s for s in found) <= budget * (1 + 1e-9)
        assert sum(s.damage for s in found) == pytest.approx(best, rel=1e-9)
        with pytest.raises(InfeasibleError, match="the least is"):
            cover(segments, blocks, 0.9 * times[0])
    with pytest.raises(InfeasibleError, match="no segments cover it"):
        cover([Segment(0, 1, 1.0, 0.0)], 2, 9.0)
    with pytest.raises(ConfigError, match="it must lie inside"):
        cover([Segment(1, 1, 1.0, 0.0)], 2, 9.0)


def test_selector_on_the_published_table():
    found = {f"b{i}": Gain(a, b, 2, 1) for i, (a, b) in enumerate(MBV2)}
    before, after = (sum(times) for times in zip(*MBV2, strict=True))
    assert before == pytest.approx(616.33) and before / after == pytest.approx(5.97, abs=0.01)
    alike = dict.fromkeys(found, 1.0)
    savings = sorted((gain.before_s - gain.after_s for gain in found.values()), reverse=True)
    for count in (1, 4, 9):  # of equal damages the largest savings are enough, and no fewer
        budget = before - sum(savings[:count]) + 1e-9
        chosen = by_programming(found, alike, budget)
        assert len(chosen) == count
        assert {found[b].before_s - found[b].after_s for b in chosen} <= set(savings[:count])
    fatal = alike | {"b1": 100.0}
    assert "b1" not in by_programming(found, fatal, 0.5 * before)
    assert "b1" in by_programming(found, alike, 0.5 * before)
    spared = {block: 1.0 for block in found if block != "b1"}  # refused blocks are never chosen
    assert "b1" not in by_programming(found, spared, 0.5 * before)
    assert by_programming(found, alike, before) == ()
    with pytest.raises(InfeasibleError, match="the least is"):
        by_programming(found, spared, after)


def test_damage_is_the_rise_of_the_loss_without_activations(tmp_path):
    run = stager()
    model = run.dense(step_in(tmp_path))
    state = copy.deepcopy(model.state_dict())
    blocks = tuple(units(model))
    found = damages_of(model, blocks, run.data.validation)
    assert set(found) == set(blocks) and max(map(abs, found.values())) > 0.01
    assert all(torch.equal(state[n], v) for n, v in model.state_dict().items())
    graph = trace(model, run.example)
    x, y = run.data.validation.inputs, run.data.validation.targets
    losses = {}
    for block in (None, *blocks):
        changed = GraphModule(without_activations(graph, block) if block else graph)
        with torch.no_grad():
            losses[block] = float(nn.functional.cross_entropy(changed(x), y))
    for block, damage in found.items():
        assert damage == pytest.approx(losses[block] - losses[None], abs=1e-4)


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


@pytest.mark.parametrize("removal", ["together", "in turn"])
def test_gradual_removal_ends_in_the_same_form(tmp_path, removal):
    run = stager(keep=0.5, removal=removal, explore=1)
    dense = run.dense(step_in(tmp_path / "dense"))
    savings = dict.fromkeys(units(dense), 50.0)
    found, chosen = run.search(step_in(tmp_path / "search"), copy.deepcopy(dense), savings)
    tuned = run.finetune(step_in(tmp_path / "tune"), found, dense, chosen.removed)
    assert not [n for n in units(tuned)[chosen.removed[0]]]
    before = trace(tuned, run.example)
    after = merge_blocks(tuned, before, chosen.removed)
    assert equality(before, after, chosen.removed, run.data.test.inputs).same == 1.0
    assert run.accuracies(tuned)["test"] > 0.4


def test_board_rows_are_those_of_the_integer_programs():
    model = seeded(small)
    graph = graph_of(model, (1, 3, 12, 12))
    merged = all_merged(graph, tuple(units(model)))
    images = torch.randn(64, 3, 12, 12, generator=torch_generator(0, "board"))
    found = on_board({"dense": graph, "merged": merged}, Split(images, torch.zeros(64).long()))
    for name, each in (("dense", graph), ("merged", merged)):
        assert found[name]["macs"] == sum(macs(each, op) for op in each.ops)
        assert 1e-5 < found[name]["latency_s"] < 1
    # the expanded maps, six times as wide, are gone
    assert found["merged"]["ram_bytes"] < 0.6 * found["dense"]["ram_bytes"]
    assert found["merged"]["macs"] < found["dense"]["macs"]
    both = [found_row(found), found_row(found)]
    claims = {c.claim: c for c in conclude(EMPTY, {"b": Gain(2e-6, 1e-6, 2, 1)}, {}, both).claims}
    (speed,) = [c for name, c in claims.items() if "speed over the dense network on a" in name]
    (ram,) = [c for name, c in claims.items() if name.startswith("RAM of the dense network")]
    ratio = found["dense"]["latency_s"] / found["merged"]["latency_s"]
    assert speed.measured.values == pytest.approx((ratio, ratio))
    assert speed.basis == ram.basis == "emulated" and ram.measured.mean > 1.6


EMPTY = Settings("digits", 1, (), 1, 1, widths=(0.8,))


def found_row(board):
    names = ("dense", "merged", PROGRAMMED, "width 0.8", "keep 1")
    times = dict.fromkeys(names, 1e-4)
    measured = {
        "latency_s": times, "images_per_s": times, "board": board, "border": 0.0, "depthwise": 0,
        "equal": {"pixels": 0.0, "logits": 0.0, "same": 1.0},
    }  # fmt: skip
    accuracies = {n: {"validation": 0.9, "test": 0.9} for n in names}
    return Row(0, accuracies, ("b",), (), measured)


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
    return [Row(0, accuracies, (), (), {"latency_s": latency})]


def test_peers_are_chosen_by_validation_accuracy_and_by_latency():
    settings = Settings("digits", 1, (), 1, 1, widths=(0.8, 0.5))
    names = {"dense": (0.9, 100), "width 0.8": (0.8, 80), "width 0.5": (0.6, 40)}
    keyed = lambda merged: rows(**names, merged=merged)  # noqa: E731
    assert equal_accuracy(settings, keyed((0.7, 50))) == "width 0.8"
    assert equal_accuracy(settings, keyed((0.95, 50))) == "dense"
    assert equal_latency(settings, keyed((0.7, 50))) == "width 0.8"
    assert equal_latency(settings, keyed((0.7, 30))) == "width 0.5"


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
