"""What cofit cannot compile runs in eager PyTorch, and says so once."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from compiled import Compiled, SmallResidual, assert_close, eager, images
from torch import nn

from cofit.dynamo import EagerWarning

pytestmark = pytest.mark.device


class Net(nn.Module):
    """Two convolutions with something in between."""

    def __init__(self, between) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.between(torch.relu(self.a(x))))


def test_an_unknown_operator_is_named_and_the_rest_compiled() -> None:
    compiled = Compiled(Net(lambda x: torch.sin(x) * 2).eval())
    x = images(3)
    with pytest.warns(EagerWarning, match=r"runs sin.*'sin', which cofit cannot") as caught:
        y = compiled(x)
    assert len(caught) == 1
    assert_close(y, eager(compiled.module, x))
    assert len(compiled.graphs[0].programs) == 2
    assert set(compiled.kernels()) >= {"a", "b"}
    assert_close(compiled(images(3, 2)), eager(compiled.module, images(3, 2)))  # no second warning


def test_it_warns_again_for_changed_weights_only_if_the_reason_is_new() -> None:
    compiled = Compiled(Net(torch.sin).eval())
    x = images(2)
    with pytest.warns(EagerWarning):
        compiled(x)
    with torch.no_grad():
        compiled.module.a.weight.mul_(2)
    assert_close(compiled(x), eager(compiled.module, x))


def test_eager_pieces_with_changing_batches() -> None:
    compiled = Compiled(Net(lambda x: torch.sin(x).view(x.size(0), 8, 8, 8)).eval())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EagerWarning)
        for batch in (3, 5, 2, 7):
            x = images(batch)
            assert_close(compiled(x), eager(compiled.module, x))
            assert len(compiled.graphs[-1].programs) == 2


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x - x.mean(0, keepdim=True),
        lambda x: x.flip(0),
        lambda x: torch.softmax(x.flatten(1), 0).view(x.shape),
        lambda x: x + x[:1],
        lambda x: x.reshape(1, -1, *x.shape[1:]).squeeze(0) + x.mean(),
    ],
)
def test_mixed_samples_are_right(mix) -> None:
    compiled = Compiled(Net(mix).eval())
    x = images(4)
    with pytest.warns(EagerWarning):
        y = compiled(x)
    assert_close(y, eager(compiled.module, x))


def test_identical_samples_do_not_hide_that_they_are_mixed() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x)
            return y * torch.relu(y).sum(dim=0, keepdim=True)

    compiled = Compiled(Mixed().eval())
    with pytest.warns(EagerWarning):
        compiled(torch.ones(4, 8))
    x = torch.randn(4, 8)
    assert_close(compiled(x), eager(compiled.module, x))


def test_gradients() -> None:
    module = SmallResidual().eval()
    compiled = Compiled(module)
    x = images(2)
    with pytest.warns(EagerWarning, match="gradients are recorded") as caught:
        loss = compiled.compiled(x).square().sum()
        loss.backward()
        compiled.compiled(x)
    assert len(caught) == 1
    wanted = torch.autograd.grad(module(x).square().sum(), module.conv1.weight)[0]
    assert torch.allclose(module.conv1.weight.grad, wanted)
    assert_close(compiled(x), eager(module, x))
    assert len(compiled.graphs[-1].programs) == 1


def test_batch_norm_in_training_changes_its_statistics() -> None:
    module, twin = SmallResidual().train(), SmallResidual().train()
    compiled = Compiled(module)
    x = images(4)
    with pytest.warns(EagerWarning, match=r"changes 'norm\.\w+' in place"):
        assert_close(compiled(x), eager(twin, x))
    assert_close(compiled(x), eager(twin, x))
    assert torch.equal(module.norm.running_mean, twin.norm.running_mean)
    assert module.norm.num_batches_tracked == 2
    module.eval()
    assert_close(compiled(x), eager(module, x))
    assert len(compiled.graphs[-1].programs) == 1


def test_dropout_in_training_draws_as_eager_does() -> None:
    compiled = Compiled(Net(nn.Dropout(0.5)).train())
    x = images(2)
    with pytest.warns(EagerWarning, match="dropout"):
        torch.manual_seed(7)
        first = compiled(x)
    torch.manual_seed(7)
    assert_close(first, eager(compiled.module, x))
    assert len(compiled.graphs[-1].programs) == 2


def test_a_changed_input_is_changed() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3)).eval()
    compiled = Compiled(network)
    x, twin = images(2), images(2)
    with pytest.warns(EagerWarning, match="in place"):
        assert_close(compiled(x), eager(network, twin))
    assert torch.equal(x, twin)


def test_an_in_place_operator_inside_is_compiled() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3)).eval()
    compiled = Compiled(network)
    x = images(2)
    assert_close(compiled(x), eager(network, x))
    assert len(compiled.graphs[-1].programs) == 1


class TwoResults(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Conv2d(8, 2, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.a(x))
        return self.b(x), self.c(x)


def test_two_results() -> None:
    compiled = Compiled(TwoResults().eval())
    x = images(2)
    with pytest.warns(EagerWarning, match="2 outputs"):
        found = compiled(x)
    for got, wanted in zip(found, eager(compiled.module, x), strict=True):
        assert_close(got, wanted)
    assert list(compiled.kernels()) == ["(input)", "a", "(output)"]


def test_two_inputs() -> None:
    class Sum(Net):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return super().forward(x + y)

    compiled = Compiled(Sum(torch.relu).eval())
    x, y = images(2), images(2, 5)
    with pytest.warns(EagerWarning, match="reads 2"):
        assert_close(compiled(x, y), eager(compiled.module, x, y))
    assert len(compiled.graphs[-1].programs) == 1


def test_a_graph_break_makes_two_graphs() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x

    compiled = Compiled(Net(broken).eval())
    x = images(2)
    assert_close(compiled(x), eager(compiled.module, x))
    assert len(compiled.graphs) == 2
    for graph in (0, 1):
        assert list(compiled.kernels(graph).values()).count("f32-dense") == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype: torch.dtype) -> None:
    network = nn.Conv2d(3, 4, 3).eval().to(dtype)
    compiled = Compiled(network)
    x = images(1).to(dtype)
    with pytest.warns(EagerWarning, match=str(dtype)):
        assert torch.equal(compiled(x), eager(network, x))


def test_bytes_are_turned_to_floats_by_eager() -> None:
    class Scaled(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.float() / 255)

    compiled = Compiled(Scaled(torch.relu).eval())
    x = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    with pytest.warns(EagerWarning, match="uint8"):
        assert_close(compiled(x), eager(compiled.module, x))
    assert len(compiled.graphs[-1].programs) == 1


def test_autocast() -> None:
    network = nn.Conv2d(3, 4, 3).eval()
    compiled = Compiled(network)
    x = images(1)
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(EagerWarning, match="autocast"):
        assert compiled(x).dtype == torch.bfloat16


def test_nothing_to_compile() -> None:
    compiled = Compiled(torch.sigmoid)
    x = images(1)
    with pytest.warns(EagerWarning, match="no convolution"):
        assert torch.equal(compiled(x), torch.sigmoid(x))


def test_weights_without_a_version() -> None:
    with torch.inference_mode():
        network = nn.Conv2d(3, 4, 3).eval()
        compiled = Compiled(network)
        x = images(1)
        with pytest.warns(EagerWarning, match="inference_mode"):
            assert torch.equal(compiled.compiled(x), network(x))
        network.weight.mul_(2)
        assert torch.equal(compiled.compiled(x), network(x))


def test_tokens() -> None:
    network = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4)).eval()
    compiled = Compiled(network)
    tokens = torch.tensor([[1, 2, 9], [0, 5, 5]])
    assert_close(compiled(tokens), eager(network, tokens))
    assert len(compiled.graphs[-1].programs) == 1
    with pytest.raises(IndexError):
        compiled(tokens + 1)


def test_calls_from_several_threads() -> None:
    compiled = Compiled(SmallResidual().eval())
    compiled(images(2))
    batches = [images(2, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(compiled, batches))
    for x, y in zip(batches, found, strict=True):
        assert_close(y, eager(compiled.module, x))


def test_functional_network_without_modules() -> None:
    weight = torch.randn(4, 3, 3, 3)
    compiled = Compiled(lambda x: F.conv2d(x, weight))
    x = images(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EagerWarning)
        y = compiled(x)
    assert_close(y, F.conv2d(x, weight))
