"""The comparison of structures: arms that keep equal weights, and a run that resumes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cofit.core import FileError
from cofit.fit.precision import Lowering
from cofit.models import find_weights
from cofit.reproductions import reproduce, reproduction
from cofit.reproductions.equal_rate.arms import (
    ONE_SHOT,
    PATTERN,
    RANDOM,
    Arm,
    arms_of,
    begun,
    kernels,
    restored,
    subject_of,
    traced,
    trained,
)
from cofit.reproductions.equal_rate.deployed import footprint, on_board
from cofit.reproductions.harness import Step
from cofit.structures import parse

SMOKE = reproduction("equal-rate").scales["smoke"]


@pytest.fixture(scope="module")
def subject():
    return subject_of(SMOKE)


def test_every_arm_begins_with_the_weights_that_the_rate_leaves(subject):
    dense = traced(subject)
    names = kernels(dense)
    total = sum(dense.tensors[name].data.size for name in names)
    for arm in (ONE_SHOT, RANDOM):
        structure, graph = begun(SMOKE, arm, dense, names, 0)
        kept = 0
        for name in names:
            weight = torch.from_numpy(graph.tensors[name].data)
            assert structure.check(weight) is None
            kept += int(weight.count_nonzero())
        assert kept == pytest.approx(total / SMOKE.rate, rel=0.02)
    drawn = {begun(SMOKE, RANDOM, dense, names, seed)[0].text for seed in range(3)}
    assert len(drawn) == 3
    own = {begun(SMOKE, arm, dense, names, seed)[0].text for arm in (PATTERN, ONE_SHOT)
           for seed in range(3)}  # fmt: skip
    assert len(own) == 1 and not own & drawn
    assert torch.equal(
        torch.from_numpy(begun(SMOKE, PATTERN, dense, names, 0)[1].tensors[names[0]].data),
        torch.from_numpy(dense.tensors[names[0]].data),
    )


def test_trained_weights_are_members_and_come_back_as_a_program_takes_them(subject, tmp_path):
    arm = Arm("polarised", "rows8@{rate}+polarised8")
    step = Step("polarised", tmp_path, lambda *_: None)
    found = trained(step, SMOKE, subject, arm, 0)
    graph = restored(subject, found)
    assert found["structure"] == "rows8@4+polarised8"
    for name in kernels(graph):
        assert graph.tensors[name].structure == found["structure"]
        assert parse(found["structure"]).check(torch.from_numpy(graph.tensors[name].data)) is None
        assert not np.array_equal(graph.tensors[name].data, traced(subject).tensors[name].data)
    sizes, dense = footprint(graph), footprint(traced(subject))
    assert sizes["bytes"] < dense["bytes"] / 3.5
    assert sizes["crossbars"] < dense["crossbars"]


def test_the_smoke_scale_runs_and_resumes(tmp_path):
    finding = reproduce("equal-rate", "smoke", tmp_path, lambda *_: None)
    assert [claim.measured.unit for claim in finding.claims] == ["points", "points"]
    accuracies = {row[0]: float(row[3].split()[0]) for row in finding.tables[0].rows}
    assert set(accuracies) == {arm.name for arm in arms_of(SMOKE)}
    assert finding.claims[0].measured.mean == pytest.approx(
        accuracies[PATTERN.name] - accuracies[ONE_SHOT.name], abs=0.2
    )
    costs = {row[0]: float(row[1]) for row in finding.tables[1].rows}
    assert costs["block 2x4"] < costs["dense"] / 3.5  # bytes
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "steps").iterdir()}
    (tmp_path / "finding.json").unlink()
    assert reproduce("equal-rate", "smoke", tmp_path, lambda *_: None).tables == finding.tables
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "steps").iterdir()}


def test_blocks_take_fewer_instructions_than_the_dense_network(subject):
    low = Lowering("int8", subject.calibration)
    dense = traced(subject)
    structure, graph = begun(SMOKE, replace(ONE_SHOT, form="block2x4@{rate}"), dense,
                              kernels(dense), 0)  # fmt: skip
    names = kernels(graph)
    marked = graph.with_tensors(
        {name: replace(graph.tensors[name], structure=structure.text) for name in names}
    )
    costs = [on_board(each, low, SMOKE.board) for each in (dense, marked)]
    assert costs[1]["instructions"] < costs[0]["instructions"]
    assert costs[1]["flash"] < costs[0]["flash"]


def test_absent_weights_say_where_they_were_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("COFIT_MODELS", str(tmp_path))
    with pytest.raises(FileError, match=rf"nowhere\.safetensors .* {tmp_path}.*COFIT_MODELS"):
        find_weights("nowhere")
