"""A limit of RAM that whole layers exceed: the first layers run in stripes, nothing is removed."""

import pytest
import torch
from fit_cases import tiny
from torch import nn

from cofit.codegen import load_program
from cofit.data import load
from cofit.fit import make_subject, run_fit
from cofit.fit.devices import device
from cofit.fit.precision import Lowering
from cofit.ir import trace
from cofit.models import Normalise

pytestmark = pytest.mark.device


class Wide(nn.Module):
    """Many channels at full size, then few."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.narrow = nn.Conv2d(32, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.narrow(torch.relu(self.first(x))))
        return self.head(x.mean((2, 3)))


def wide() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Wide().eval()


def test_a_fit_under_a_limit_of_ram_keeps_its_channels_and_runs_in_stripes(tmp_path):
    module = wide()
    lowered = Lowering("int8", torch.rand(8, 1, 8, 8)).lower(trace(module, torch.zeros(1, 1, 8, 8)))
    whole = device("cortex-m4")
    dense = whole.cost(lowered)
    limit = dense.ram_bytes - 700
    striped = whole.within(limit, lowered, dense).cost(lowered)
    assert striped.ram_bytes <= limit and striped.flash_bytes < 1.2 * dense.flash_bytes
    assert striped.macs > dense.macs
    subject = make_subject("wide", module, load("digits"), Normalise(), untrained=True)
    config = tiny(
        tmp_path / "out", budget=f"ram<={limit}B", structures=["block2x4"], rounds=1, epochs=1,
        pretrain_epochs=1,
    )  # fmt: skip
    result = run_fit(config, subject=subject)
    assert result.summary.met and result.summary.fitted.ram_bytes <= limit
    assert result.summary.dense.ram_bytes > limit
    assert result.program.source.schedule.stripes > 1
    assert result.summary.verification.bit_exact
    loaded = load_program(result.folder / "deploy")
    assert loaded.source.source == result.program.source.source


def test_a_limit_that_whole_layers_meet_changes_nothing():
    lowered = Lowering("int8", torch.rand(8, 1, 8, 8)).lower(trace(wide(), torch.zeros(1, 1, 8, 8)))
    whole = device("cortex-m4")
    dense = whole.cost(lowered)
    assert whole.within(dense.ram_bytes, lowered, dense).cost(lowered) == dense
