"""Reconstruction solves what is kept by least squares, and touches nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cofit.fit.progress import silent
from cofit.fit.reconstruct import reconstruct
from cofit.fit.removal import remove_channels
from cofit.ir import run_float, trace
from cofit.structures import parse


class Net(nn.Module):
    """Channels 0..3 of the first layer are repeated as 4..7, so half of them can be made up for."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.one = nn.Conv2d(3, 8, 3, padding=1)
            self.two = nn.Conv2d(8, 8, 3, stride=2, padding=1)
            self.head = nn.Linear(8, 4)
        with torch.no_grad():
            self.one.weight[4:] = self.one.weight[:4]
            self.one.bias[4:] = self.one.bias[:4]

    def forward(self, x):
        return self.head(torch.relu(self.two(torch.relu(self.one(x)))).mean((2, 3)))


def traced():
    return trace(Net().eval(), torch.zeros(1, 3, 10, 10), name="case")


def inputs(count=48):
    return torch.randn(count, 3, 10, 10, generator=torch.Generator().manual_seed(6))


def outputs(graph, x, name=None):
    with torch.no_grad():
        return run_float(graph, {graph.inputs[0]: x}, keep=True)[name or graph.outputs[0]]


def projected(graph, structures):
    return graph.with_tensors({
        name: replace(graph.tensors[name],
                      data=s.project(torch.from_numpy(graph.tensors[name].data)).numpy())
        for name, s in structures.items()
    })  # fmt: skip


def halved(graph):
    """The second layer without the inputs that repeat others."""
    weight = graph.tensors["two.weight"].data.copy()
    weight[:, 4:] = 0
    return graph.with_tensors({"two.weight": replace(graph.tensors["two.weight"], data=weight)})


def test_what_other_inputs_know_is_made_up_for_entirely():
    graph = traced()
    pruned = halved(graph)
    structures = {"two.weight": parse("block8x1@2")}
    found = reconstruct(pruned, graph, inputs(), structures, silent)
    fresh = torch.randn(16, 3, 10, 10, generator=torch.Generator().manual_seed(7))
    wanted, lost, kept = (outputs(g, fresh) for g in (graph, pruned, found))
    assert (wanted - lost).abs().max() > 0.05
    assert (wanted - kept).abs().max() < 1e-4


def test_removed_channels_are_made_up_for_where_they_were_read():
    graph = traced()
    narrow, removed = remove_channels(graph, {"one.weight": parse("channel@2")})
    assert removed == {"one.weight": 4}
    found = reconstruct(narrow, graph, inputs(), {}, silent)
    fresh = torch.randn(16, 3, 10, 10, generator=torch.Generator().manual_seed(8))
    wanted, lost, kept = (outputs(g, fresh) for g in (graph, narrow, found))
    assert (wanted - kept).abs().mean() < 0.5 * (wanted - lost).abs().mean()


def test_it_is_the_least_squares_solution_on_the_support():
    """Against numpy's solver on the unfolded inputs, without a ridge to speak of."""
    graph = traced()
    structures = {"two.weight": parse("block8x1@3")}
    pruned = projected(graph, structures)
    x = inputs(64)  # few enough that all their windows are equations
    found = reconstruct(pruned, graph, x, structures, silent)
    op = next(op for op, w in graph.weighted() if w.name == "two.weight")
    columns = torch.nn.functional.unfold(outputs(graph, x, op.inputs[0]), 3, padding=1, stride=2)
    columns = columns.transpose(0, 1).flatten(1).double().numpy()
    dense = torch.nn.functional.conv2d(
        outputs(graph, x, op.inputs[0]).double(),
        torch.from_numpy(graph.tensors["two.weight"].data).double(),
        torch.from_numpy(graph.tensors[op.inputs[2]].data).double(), stride=2, padding=1,
    ).transpose(0, 1).flatten(1).numpy()  # fmt: skip
    flat = pruned.tensors["two.weight"].data.reshape(8, -1)
    got = found.tensors["two.weight"].data.reshape(8, -1)
    for row in range(8):
        kept = np.flatnonzero(flat[row])
        system = np.concatenate([columns[kept], np.ones((1, columns.shape[1]))]).T
        best, *_ = np.linalg.lstsq(system, dense[row], rcond=None)
        bias = found.tensors[op.inputs[2]].data[row]
        ours = np.sum((system @ np.append(got[row, kept], bias) - dense[row]) ** 2)
        least = np.sum((system @ best - dense[row]) ** 2)
        assert ours <= least * 1.01 + 1e-9
        assert np.flatnonzero(got[row]).tolist() == kept.tolist()


@pytest.mark.parametrize("text", ["block8x1@2", "channel@2", "unstructured@4", "pattern8g1@2.25"])
def test_structures_hold_and_other_layers_are_left_alone(text):
    graph = traced()
    structures = {"two.weight": parse(text)}
    found = reconstruct(projected(graph, structures), graph, inputs(), structures, silent)
    assert (
        structures["two.weight"].check(torch.from_numpy(found.tensors["two.weight"].data)) is None
    )
    for name in ("one.weight", "head.weight"):
        assert np.array_equal(found.tensors[name].data, graph.tensors[name].data)


def test_nothing_pruned_is_nothing_solved():
    graph = traced()
    assert reconstruct(graph, graph, inputs(), {}, silent) is graph
