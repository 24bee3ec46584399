"""Channel groups against a brute-force oracle: run the graph before and after.

Weights are small integers and sizes are powers of two, so that float64 sums are exact in any order
and equality means equality.
"""

from dataclasses import replace

import networks
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError, ModelError, numpy_generator, torch_generator
from cofit.ir import (
    ChannelGroup,
    Graph,
    channel_groups,
    keep_map,
    permute,
    remove,
    run_float,
    trace,
)


class Pixels(nn.Module):
    """Flattening before a linear, a per-channel constant, and a depthwise multiplier of two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.wide = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.fc1 = nn.Linear(8 * 16, 6)
        self.fc2 = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(F.relu(self.wide(self.conv(x)))) * self.scale
        return self.fc2(F.relu(self.fc1(torch.flatten(F.relu(x), 1))))


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "resnet": (networks.ResNet(1, 4, 3), (1, 3, 16, 16)),
    "mobilenet": (networks.MobileNet(), (1, 3, 16, 16)),
    "branches": (networks.Branches(), (1, 3, 16, 16)),
    "excitation": (networks.Excitation("relu6"), (1, 3, 8, 8)),
}


def integers(graph: Graph, low: int = -1, high: int = 2) -> Graph:
    """The graph with small integers for constants."""
    generator = numpy_generator(3, graph.name)
    return graph.with_tensors(
        {
            name: replace(t, data=generator.integers(low, high, t.shape).astype(np.float32))
            for name, t in graph.tensors.items()
            if t.data is not None
        }
    )


def run(graph: Graph, shape: tuple[int, ...]) -> torch.Tensor:
    x = torch.randint(-2, 3, (3, *shape[1:]), generator=torch_generator(5))
    values = run_float(graph, {graph.inputs[0]: x}, torch.float64, keep=True)
    assert max(float(v.abs().max()) for v in values.values()) < 2**53
    return values[graph.outputs[0]]


def silenced(graph: Graph, group: ChannelGroup, indices: list[int]) -> Graph:
    """The oracle of removal: all that makes the channels is zero, nothing changes its shape."""
    reads = {op.inputs[1] for op in graph.ops if op.kind in ("conv2d", "linear")}
    changed = dict(graph.tensors)
    for member in group.constants:
        if member.tensor in reads and member.axis == 1:
            continue
        data = changed[member.tensor].data.copy()
        places = [place for i in indices for place in member.indices[i]]
        data[(slice(None),) * member.axis + (places,)] = 0
        changed[member.tensor] = replace(changed[member.tensor], data=data)
    return graph.with_tensors(changed)


@pytest.fixture(scope="module", params=NETWORKS)
def traced(request: pytest.FixtureRequest) -> tuple[Graph, tuple[int, ...]]:
    module, shape = NETWORKS[request.param]
    graph = trace(module, torch.randn(shape, generator=torch_generator(1)), request.param)
    return integers(graph), shape


def test_permuting_changes_weights_and_not_the_function(
    traced: tuple[Graph, tuple[int, ...]],
) -> None:
    graph, shape = traced
    expected = run(graph, shape)
    assert expected.abs().max() > 0
    generator = numpy_generator(7)
    everything = graph
    for group in channel_groups(graph):
        for order in (generator.permutation(group.size).tolist(), list(range(group.size))[::-1]):
            moved = permute(graph, group, order)
            assert torch.equal(run(moved, shape), expected)
            everything = permute(everything, group, order)
    assert torch.equal(run(everything, shape), expected)
    names = [n for n, t in graph.tensors.items() if t.data is not None and t.data.ndim > 1]
    same = [np.array_equal(graph.tensors[n].data, everything.tensors[n].data) for n in names]
    assert not any(same)


def test_permuting_all_but_one_member_is_noticed(traced: tuple[Graph, tuple[int, ...]]) -> None:
    graph, shape = traced
    expected = run(graph, shape)
    noticed = 0
    for group in channel_groups(graph):
        for i in range(len(group.constants)):
            broken = replace(group, constants=group.constants[:i] + group.constants[i + 1 :])
            moved = permute(graph, broken, list(range(group.size))[::-1])
            noticed += not torch.equal(run(moved, shape), expected)
    assert noticed > len(channel_groups(graph))


def test_removal_equals_silence(traced: tuple[Graph, tuple[int, ...]]) -> None:
    graph, shape = traced
    generator = numpy_generator(9)
    for group in channel_groups(graph):
        assert group.removable
        chosen = [[i] for i in range(group.size)] if group.size > 1 else []
        if group.size > 2:
            chosen.append(generator.choice(group.size, group.size // 2, replace=False).tolist())
        for indices in chosen:
            smaller = remove(graph, group, indices)
            assert torch.equal(run(smaller, shape), run(silenced(graph, group, indices), shape))
            for member in group.activations:
                before, after = (g.tensors[member.tensor].size for g in (graph, smaller))
                assert after < before


def test_groups_can_be_removed_one_after_the_other() -> None:
    module, shape = NETWORKS["resnet"]
    graph = integers(trace(module, torch.zeros(shape)))
    reference = graph
    for k in range(len(channel_groups(graph))):
        reference = silenced(reference, channel_groups(reference)[k], [0])
        graph = remove(graph, channel_groups(graph)[k], [0])
    assert torch.equal(run(graph, shape), run(reference, shape))


def test_groups_of_a_resnet_are_those_one_finds_by_hand() -> None:
    graph = trace(networks.ResNet(1, 4, 3), torch.zeros(1, 3, 16, 16))
    found = [
        (group.size, {(m.tensor.removesuffix(".weight"), m.axis) for m in group.constants
                      if m.tensor.endswith("weight")})
        for group in channel_groups(graph)
    ]  # fmt: skip
    late = {("layer3.0.conv1", 1), ("layer3.0.conv2", 0), ("linear", 1)}
    middle = {("layer2.0.conv1", 1), ("layer2.0.conv2", 0), *late}
    middle_read = middle - {("layer2.0.conv1", 1)}
    assert (4, {("conv1", 0), ("layer1.0.conv1", 1), ("layer1.0.conv2", 0)} | middle) in found
    assert (4, {("layer1.0.conv1", 0), ("layer1.0.conv2", 1)}) in found
    assert (4, middle_read) in found  # the zero channels of the first shortcut
    assert (8, late - {("layer3.0.conv1", 1)}) in found  # and of the second
    assert sum(size for size, _ in found) == 4 + 4 + 8 + 16 + 4 + 8


def test_flattening_multiplier_and_constants_follow() -> None:
    graph = integers(trace(Pixels(), torch.zeros(1, 2, 8, 8)))
    groups = channel_groups(graph)
    assert [group.size for group in groups] == [4, 6]
    held = {(m.tensor, m.axis): len(m.indices[0]) for m in groups[0].constants}
    assert held == {
        ("conv.weight", 0): 1, ("conv.bias", 0): 1, ("wide.weight", 0): 2, ("wide.bias", 0): 2,
        ("scale", 1): 2, ("fc1.weight", 1): 32,
    }  # fmt: skip
    x = {"x": torch.randint(-2, 3, (2, 2, 8, 8), generator=torch_generator(5))}
    expected = run_float(graph, x, torch.float64)[graph.outputs[0]]
    changed = 0
    for group in groups:
        moved = permute(graph, group, list(range(group.size))[::-1])
        result = run_float(moved, x, torch.float64)[graph.outputs[0]]
        assert torch.allclose(result, expected, rtol=1e-12)
        smaller = run_float(remove(graph, group, [1, 2]), x, torch.float64)[graph.outputs[0]]
        still = run_float(silenced(graph, group, [1, 2]), x, torch.float64)[graph.outputs[0]]
        assert torch.allclose(smaller, still, rtol=1e-12)
        changed += not torch.allclose(smaller, expected, rtol=1e-3)
    assert changed


def test_a_gate_that_does_not_close_couples_and_still_removes() -> None:
    """sigmoid(0) = 1/2 multiplies a channel that is zero, so nothing remains of it."""
    graph = trace(networks.Excitation(), torch.zeros(1, 3, 8, 8))
    group = next(g for g in channel_groups(graph) if g.size == 8)
    assert group.removable
    assert {m.tensor for m in group.constants} == {
        "stem.weight", "stem.bias", "squeeze.weight", "excite.weight", "excite.bias",
        "head.weight",
    }  # fmt: skip
    x = {"x": torch.randn(2, 3, 8, 8, generator=torch_generator(2))}
    smaller = run_float(remove(graph, group, [0, 5]), x, torch.float64)
    still = run_float(silenced(graph, group, [0, 5]), x, torch.float64)
    for name in graph.outputs:
        assert torch.allclose(smaller[name], still[name], rtol=1e-12)


def test_a_channel_that_speaks_when_silent_is_only_permuted() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 2))
    graph = trace(model, torch.zeros(1, 4))
    (group,) = channel_groups(graph)
    assert not group.removable
    with pytest.raises(ModelError, match="sigmoid"):
        remove(graph, group, [0])
    x = {"input": torch.randn(3, 4, generator=torch_generator(2))}
    moved = run_float(permute(graph, group, [5, 4, 3, 2, 1, 0]), x, torch.float64)
    assert torch.allclose(moved["2"], run_float(graph, x, torch.float64)["2"], rtol=1e-12)


def test_grouped_convolutions_are_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 2, 1))
    assert channel_groups(trace(model, torch.zeros(1, 3, 4, 4))) == ()


def test_what_is_kept_and_what_is_refused() -> None:
    graph = trace(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)), torch.zeros(1, 4))
    (group,) = channel_groups(graph)
    kept = keep_map(graph, group, [0, 4])
    assert {name: list(axes) for name, axes in kept.items()} == {
        "0.weight": [0], "0.bias": [0], "1.weight": [1],
    }  # fmt: skip
    assert kept["1.weight"][1].tolist() == [1, 2, 3, 5]
    with pytest.raises(ConfigError):
        permute(graph, group, [0, 0, 1, 2, 3, 4])
    with pytest.raises(ConfigError):
        remove(graph, group, [6])
    with pytest.raises(ModelError, match="leave none"):
        remove(graph, group, range(6))
