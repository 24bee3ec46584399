"""Work of recurrent layers: what structures leave out is not counted as executed or moved."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cofit.codegen import emit, machine
from cofit.ir import calibrate, quantise, trace
from cofit.structures import parse
from cofit.targets.work import work_of


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.gru = nn.GRU(32, 64, batch_first=True)

    def forward(self, x):
        return self.gru(x)[0]


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("target", ["host", "cortex-m4"])
def test_work_of_a_pruned_gru(integer, target):
    if target == "cortex-m4" and not integer:
        pytest.skip("float gates need libm")
    module, x, structure = Last(), torch.randn(1, 5, 32), parse("bsp16x32@4")
    names = [f"gru.weight_{side}_l0" for side in ("ih", "hh")]
    for name in names:
        parameter = module.get_parameter(name)
        parameter.data = structure.project(parameter.detach())
    graph = trace(module, x, "gru")
    lowered = quantise(graph, calibrate(graph, [x.numpy()])) if integer else graph
    tensors = {n: replace(lowered.tensors[n], structure=structure.text) for n in names}
    found = []
    for each in (lowered, lowered.with_tensors(tensors)):
        source = emit(each, machine(target))
        (step,) = (step for step in source.steps if step.kind == "gru")
        found.append(work_of(source, step))
    dense, pruned = found
    weights = 192 * (32 + 64)
    assert dense.macs_dense == pruned.macs_dense == dense.macs_executed == 5 * weights
    if not integer:  # int8 levels may be zero by rounding
        assert dense.macs_kept == pruned.macs_kept == 5 * weights // 4
    assert pruned.macs_executed == 5 * weights // 4
    assert pruned.weight_bytes == dense.weight_bytes // 4 == weights // 4 * (1 if integer else 4)
    assert 0 < pruned.index_bytes < pruned.weight_bytes
