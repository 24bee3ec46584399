"""Budgets that are out of reach, tight, loose, or about accuracy alone; int4; shared weights."""

import re

import numpy as np
import pytest
import torch
from fit_cases import tiny
from torch import nn

from cofit.core import ConfigError, InfeasibleError
from cofit.data import load
from cofit.fit import make_subject, run_fit
from cofit.ir import load_graph
from cofit.models import Normalise

QUICK = {"rounds": 1, "epochs": 1, "pretrain_epochs": 1}


def reachable(error):
    """The minimum that a message states, in bytes."""
    value, unit = re.search(r"reachable minimum ([0-9.]+) (B|KB)", str(error)).groups()
    return float(value) * {"B": 1, "KB": 1000}[unit]


@pytest.fixture(scope="module", params=[None, ["channel"]], ids=["blocks", "channels"])
def structures(request):
    """What a fit may choose from: with blocks 8 bits take least flash here, without them 4."""
    return request.param


@pytest.fixture(scope="module")
def refused(tmp_path_factory, structures):
    """What a fit into 1 KB of flash says and leaves."""
    folder = tmp_path_factory.mktemp("refused") / "out"
    with pytest.raises(InfeasibleError) as caught:
        run_fit(tiny(folder, budget="flash<=1KB", structures=structures, **QUICK))
    return caught.value, folder


def test_a_budget_out_of_reach_says_what_binds_and_leaves_nothing(refused):
    error, folder = refused
    text = str(error)
    assert "flash binds: limit 1.00 KB, reachable minimum " in text
    assert "raise that limit or allow more structures and higher rates" in text
    assert "\n" not in text
    assert not folder.exists()


def test_the_stated_minimum_can_be_reached(refused, structures, tmp_path):
    minimum = reachable(refused[0])
    limit = int(minimum * 1.03)  # alignment of code, and what compilers merge, is in no price
    config = tiny(
        tmp_path / "out", budget=f"flash<={limit}B", structures=structures, **{**QUICK, "rounds": 3}
    )
    summary = run_fit(config).summary
    assert summary.met and 0.95 * minimum <= summary.fitted.flash_bytes <= limit
    assert summary.fitted.flash_bytes < 0.3 * summary.dense.flash_bytes
    assert any(row.bits == 4 for row in summary.plan) == (structures is not None)
    graph = load_graph(tmp_path / "out" / "deploy")
    for row in summary.plan:
        weight = graph.tensors[graph.producer[row.op].inputs[1]]
        assert weight.quantisation.bits == row.bits
        assert np.abs(weight.data).max() <= 2 ** (row.bits - 1) - 1


def test_ram_out_of_reach_names_the_layer_and_a_minimum_that_can_be_reached(tmp_path):
    with pytest.raises(InfeasibleError) as caught:
        run_fit(tiny(tmp_path / "out", budget="ram<=1KB", **QUICK))
    text = str(caught.value)
    assert "ram binds: limit 1.00 KB" in text
    assert "alive in the arena while 'layer1.0.conv2' runs" in text
    minimum = reachable(caught.value)
    summary = run_fit(
        tiny(tmp_path / "out", budget=f"ram<={int(minimum * 1.01)}B", **QUICK)
    ).summary
    assert summary.met and 0.95 * minimum <= summary.fitted.ram_bytes < summary.dense.ram_bytes


def test_a_loose_budget_changes_nothing_but_trains(tmp_path):
    summary = run_fit(tiny(tmp_path / "out", budget="flash<=1MB", **QUICK)).summary
    assert summary.met
    assert all(row.structure is None and row.bits == 8 for row in summary.plan)
    assert summary.fitted.macs == summary.dense.macs
    assert {row.note for row in summary.plan} <= {
        "the budget is met with less loss elsewhere",
        "nothing tried is faster than dense here",
        "block2x4: a block has 4 input channels, the weight 1",
    }


def test_a_budget_of_accuracy_alone_still_makes_it_faster(tmp_path):
    summary = run_fit(tiny(tmp_path / "out", budget="accuracy_drop<=90%", **QUICK)).summary
    assert summary.met and [row.metric for row in summary.limits] == ["accuracy_drop"]
    assert summary.fitted.latency_s < 0.6 * summary.dense.latency_s


def test_another_fit_in_the_same_folder_is_refused(fitted):
    before = (fitted.folder / "summary.json").read_bytes()
    with pytest.raises(ConfigError, match="holds another fit"):
        run_fit(tiny(fitted.folder, seed=1))
    assert (fitted.folder / "summary.json").read_bytes() == before


class Shared(nn.Module):
    """One convolution used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.hidden = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.last = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.relu(self.twice(torch.relu(self.twice(x))))
        x = torch.relu(self.last(torch.relu(self.hidden(x))))
        return self.head(x.mean((2, 3)))


def test_a_shared_weight_stays_dense_and_the_rest_is_fitted(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Shared()
    subject = make_subject("shared", module, load("digits"), Normalise(), untrained=True)
    summary = run_fit(tiny(tmp_path / "out", budget="latency<=0.8x", **QUICK), subject=subject)
    rows = {row.op: row for row in summary.summary.plan}
    for name in ("twice", "twice_1"):
        assert rows[name].structure is None
        assert rows[name].note == "2 layers share its weight"
    assert any(row.structure for row in rows.values())
    assert summary.summary.verification.bit_exact
