"""Pose pruning as a run: training of whatever was planned, and the smoke scale."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cofit.ir import kept_macs, macs
from cofit.regimes import fit
from cofit.reproductions import reproduce
from cofit.reproductions.harness import Study, seeded
from cofit.reproductions.pose_pruning import REPRODUCTION
from cofit.reproductions.pose_pruning.network import PoseNet
from cofit.reproductions.pose_pruning.pruning import prunable
from cofit.reproductions.pose_pruning.study import make_data, pruned

SMOKE = REPRODUCTION.scales["smoke"]


def test_07_a_plan_that_prunes_nothing_trains_as_long_as_one_that_does(tmp_path, monkeypatch):
    """It is what comes out where no layer is faster for being pruned."""
    settings = replace(SMOKE, scenes=8, validation=1, test=1)
    data, epochs = make_data(settings), {}
    for rate in (1.0, 2.0):
        model = seeded(lambda: PoseNet(SMOKE.shape), 0)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        rates = dict.fromkeys(prunable(model), rate)

        def counted(model, batches, recipe, *rest, rate=rate, **options):
            epochs.setdefault(rate, []).append(recipe.epochs)
            return fit(model, batches, recipe, *rest, **options)

        monkeypatch.setattr("cofit.reproductions.pose_pruning.study.fit", counted)
        study = Study("smoke", settings, (0,), tmp_path / str(rate), lambda *_: None)
        graph = pruned(study, model, rates, data, 0)
        assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())
        whole, kept = (sum(count(graph, op) for op in graph.ops) for count in (macs, kept_macs))
        assert kept == whole if rate == 1 else kept < 0.8 * whole
        assert all((graph.tensors[name].structure is None) == (rate == 1) for name in rates)
    assert epochs[1.0] == epochs[2.0] == [SMOKE.admm_epochs, SMOKE.retrain_epochs]


@pytest.mark.device
def test_smoke_runs_and_its_steps_resume(tmp_path, monkeypatch):
    finding = reproduce("pose-pruning", "smoke", tmp_path, lambda *_: None)
    assert len(finding.claims) == 6
    assert all(np.isfinite(claim.measured.mean) for claim in finding.claims)
    (tmp_path / "finding.json").unlink()

    def forbidden(*_, **__):
        raise AssertionError("a finished step was computed again")

    monkeypatch.setattr("cofit.reproductions.pose_pruning.study.fit", forbidden)
    monkeypatch.setattr("cofit.reproductions.pose_pruning.study.race", forbidden)
    again = reproduce("pose-pruning", "smoke", tmp_path, lambda *_: None)
    assert again.claims == finding.claims
