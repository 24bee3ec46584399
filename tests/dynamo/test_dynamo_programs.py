"""What is compiled computes what eager PyTorch computes, with kernels that suit the zeros."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from compiled import Compiled, SmallResidual, assert_close, eager, images
from torch import nn

import cofit
from cofit.dynamo import torch_backend
from cofit.models import load_model
from cofit.structures import parse

pytestmark = pytest.mark.device


def prune_(layer: nn.Module, structure: str) -> None:
    with torch.no_grad():
        layer.weight.copy_(parse(structure).project(layer.weight.detach()))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_network_is_one_program_that_equals_eager(batch: int) -> None:
    compiled = Compiled(SmallResidual().eval())
    x = images(batch)
    assert_close(compiled(x), eager(compiled.module, x))
    assert_close(compiled(images(batch, 2)), eager(compiled.module, images(batch, 2)))
    (graph,) = compiled.graphs
    (program,) = graph.programs
    assert program.verified
    assert set(compiled.kernels()) >= {"stem", "conv1", "conv2", "head"}


def test_resnet20_equals_eager() -> None:
    compiled = Compiled(load_model("resnet20", None, 0).module.eval())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    for name in ("layer2.0.conv2", "layer3.1.conv1"):
        prune_(compiled.module.get_submodule(name), "block16x1@8")
    assert_close(compiled(x), eager(compiled.module, x))
    found = compiled.kernels()
    sparse = {name for name, kernel in found.items() if kernel == "f32-block"}
    assert sparse == {"layer2.0.conv2", "layer3.1.conv1"}
    assert sum(kernel == "f32-dense" for kernel in found.values()) == 20 - 2


@pytest.mark.parametrize(
    ("structure", "kernel"),
    [
        ("block16x1@4", "f32-block"),
        ("pattern4g8@2.25", "f32-planes"),
        ("channel@2", "f32-channel"),
        ("unstructured@4", "f32-planes"),
    ],
)
def test_zeros_choose_the_kernel(structure: str, kernel: str) -> None:
    compiled = Compiled(SmallResidual().eval())
    prune_(compiled.module.conv1, structure)
    x = images(2)
    assert_close(compiled(x), eager(compiled.module, x))
    found = compiled.kernels()
    assert (found["conv1"], found["conv2"]) == (kernel, "f32-dense")


def change_in_place(module: SmallResidual) -> None:
    prune_(module.conv2, "block16x1@4")


def change_by_load(module: SmallResidual) -> None:
    state = {name: value.clone() for name, value in module.state_dict().items()}
    state["conv2.weight"] = parse("block16x1@4").project(state["conv2.weight"])
    module.load_state_dict(state)


def change_data(module: SmallResidual) -> None:
    layer = module.conv2
    layer.weight.data = parse("block16x1@4").project(layer.weight.data)


def change_parameter(module: SmallResidual) -> None:
    layer = module.conv2
    layer.weight = nn.Parameter(parse("block16x1@4").project(layer.weight.detach()))


@pytest.mark.parametrize("change", [change_in_place, change_by_load, change_data, change_parameter])
def test_changed_weights_are_compiled_again(change) -> None:
    compiled = Compiled(SmallResidual().eval())
    x = images(2)
    before = compiled(x)
    assert compiled.kernels()["conv2"] == "f32-dense"
    old = compiled.graphs[-1].programs
    assert compiled.graphs[-1].programs == old
    change(compiled.module)
    after = compiled(x)
    assert_close(after, eager(compiled.module, x))
    assert not torch.allclose(before, after)
    assert compiled.kernels()["conv2"] == "f32-block"


def test_changed_statistics_are_compiled_again() -> None:
    compiled = Compiled(SmallResidual().eval())
    x = images(1)
    compiled(x)
    compiled.module.norm.running_mean.add_(1)
    assert_close(compiled(x), eager(compiled.module, x))


def test_equal_weights_are_compiled_once() -> None:
    compiled = Compiled(SmallResidual().eval())
    compiled(images(2))
    (program,) = compiled.graphs[0].programs
    compiled(images(2, 5))
    assert compiled.graphs[0].programs == (program,)


def test_networks_of_one_class_that_take_turns_keep_their_programs() -> None:
    """Dynamo gives all of them to one graph, since their weights are arguments of it."""
    networks = [SmallResidual().eval(), SmallResidual().eval()]
    prune_(networks[1].conv2, "block16x1@4")
    graphs = []

    def backend(graph_module, example_inputs):
        graphs.append(torch_backend(graph_module, example_inputs))
        return graphs[-1]

    calls = [torch.compile(network, backend=backend) for network in networks]
    x, found = images(2), []
    for _ in range(3):
        for network, call in zip(networks, calls, strict=True):
            with torch.no_grad():
                assert_close(call(x), eager(network, x))
            found.append([program for graph in graphs for program in graph.programs])
    assert len(graphs) == 1 and len({id(programs[0]) for programs in found}) == 2
    change_in_place(networks[0])
    with torch.no_grad():
        assert_close(calls[0](x), eager(networks[0], x))
        calls[1](x)
    assert graphs[0].programs == tuple(found[1])  # the other one's is kept


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.reshape((x.shape[0], 256)),
        lambda x: torch.reshape(x, (len(x), -1)),
        lambda x: x.view(-1, 256),
    ],
)
def test_written_batch_sizes_and_changing_batches(flatten) -> None:
    compiled = Compiled(SmallResidual(flatten).eval())
    for batch in (3, 5, 1, 2, 7):
        x = images(batch)
        assert_close(compiled(x), eager(compiled.module, x))
        assert len(compiled.graphs[-1].programs) == 1
    # one for 3, one for 5, 2 and 7, one for 1
    assert len(compiled.graphs) == 3


def test_a_size_that_happens_to_equal_the_batch() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x.view(len(x), 5, 6)) + torch.ones(len(x), 5, 5)

    compiled = Compiled(Doubled().eval())
    for batch in (2, 5, 3):
        x = torch.randn(batch, 30)
        assert_close(compiled(x), eager(compiled.module, x))
        assert len(compiled.graphs[-1].programs) == 1


def test_height_may_change() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    compiled = Compiled(network)
    for height in (8, 9, 12, 9):
        x = torch.randn(2, 3, height, 8)
        assert_close(compiled(x), eager(network, x))
        assert len(compiled.graphs[-1].programs) == 1


def test_other_memory_orders() -> None:
    compiled = Compiled(SmallResidual().eval())
    x = images(2)
    turned = x.to(memory_format=torch.channels_last)
    strided = torch.randn(2, 3, 16, 16)[:, :, ::2, ::2]
    for each in (turned, strided):
        assert_close(compiled(each), eager(compiled.module, each))
        assert len(compiled.graphs[-1].programs) == 1


def test_results_have_the_memory_order_of_eager() -> None:
    network = nn.Conv2d(3, 8, 3).eval()
    compiled = Compiled(network)
    x = images(2).to(memory_format=torch.channels_last)
    wanted = eager(network, x)
    assert not wanted.is_contiguous()
    assert_close(compiled(x), wanted)


def test_inference_mode() -> None:
    module = SmallResidual().eval()
    compiled = Compiled(module)
    with torch.inference_mode():
        x = images(2)
        assert_close(compiled.compiled(x), module(x))
    assert len(compiled.graphs[-1].programs) == 1


def test_weights_of_one_value_in_two_layers() -> None:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    network = nn.Sequential(first, nn.ReLU(), second).eval()
    compiled = Compiled(network)
    x = torch.randn(3, 8)
    assert_close(compiled(x), eager(network, x))


def test_by_name_in_a_fresh_process(tmp_path: Path) -> None:
    """The entry point as pyproject.toml declares it, found by torch, with nothing imported."""
    root = Path(cofit.__file__).parents[2]
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"{name} = {value}" for name, value in declared["torch_dynamo_backends"].items()]
    info = tmp_path / "declared-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: declared\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[torch_dynamo_backends]\n" + "\n".join(lines))
    script = """
import gc, sys, torch
assert "cofit" not in sys.modules
net = torch.nn.Linear(8, 3).eval()
x = torch.randn(2, 8)
with torch.no_grad():
    y = torch.compile(net, backend="cofit")(x)
    assert (y - net(x)).abs().max() < 1e-5
graphs = [o for o in gc.get_objects() if type(o).__name__ == "CompiledGraph"]
print(*(len(graph.programs) for graph in graphs))
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{root / 'src'}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout.strip()) == (0, "1"), ran.stderr


def test_the_backend_is_public() -> None:
    network = nn.Linear(8, 3).eval()
    x = torch.randn(2, 8)
    with torch.no_grad():
        assert_close(torch.compile(network, backend=cofit.torch_backend)(x), network(x))


@pytest.mark.parametrize(("name", "batch"), [("vit_tiny", 3), ("gru_speech", 4)])
def test_sequence_networks(name: str, batch: int) -> None:
    """As docs/torch-compile.md says: attention in parts, recurrent layers allowed to dynamo."""
    loaded = load_model(name, None, 0)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch._dynamo.config.patch(allow_rnn=True):
            compiled = Compiled(loaded.module.eval())
            x = torch.randn(batch, *loaded.input_shape, generator=torch.Generator().manual_seed(1))
            assert_close(compiled(x), eager(compiled.module, x))
            assert [len(graph.programs) for graph in compiled.graphs] == [1]
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
