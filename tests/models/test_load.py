"""Weights and users' factories: what fits is loaded whole, everything else is one clear line."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from cofit.core import FileError, ModelError
from cofit.models import Normalise, load_model, load_weights


@pytest.fixture
def weights(tmp_path):
    """Save the (changed) state of a small network and return the path."""

    def save(change=None):
        state = dict(load_model("digits_resnet", seed=1).module.state_dict())
        if change is not None:
            change(state)
        save_file(state, tmp_path / "w.safetensors")
        return tmp_path / "w.safetensors"

    return save


def test_weights_fill_the_network(weights):
    expected = load_model("digits_resnet", seed=1).module.state_dict()
    found = load_model("digits_resnet", weights()).module.state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_step_counters_may_be_absent(weights):
    def drop(state):
        for key in [key for key in state if key.endswith("num_batches_tracked")]:
            del state[key]

    load_model("digits_resnet", weights(drop))


def drop_conv(state):
    del state["conv1.weight"]


def drop_many(state):
    for key in [key for key in state if key.startswith("layer2")]:
        del state[key]


def add_key(state):
    state["extra.weight"] = torch.zeros(1)


def reshape_linear(state):
    state["linear.weight"] = torch.zeros(9, 32)


def integer_linear(state):
    state["linear.weight"] = torch.zeros(10, 32, dtype=torch.int8)


def nan_linear(state):
    state["linear.weight"][3, 4] = float("nan")


def infinite_variance(state):
    state["layer1.0.bn1.running_var"][0] = float("inf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_conv, r"missing conv1\.weight; give"),
        (drop_many, r"missing layer2\.0\.conv1\.weight, .* and \d+ more"),
        (add_key, r"unexpected extra\.weight"),
        (reshape_linear, r"linear\.weight float \(9, 32\) instead of float \(10, 32\)"),
        (integer_linear, r"linear\.weight integer \(10, 32\) instead of float"),
        (nan_linear, r"linear\.weight contains NaN or infinity"),
        (infinite_variance, r"layer1\.0\.bn1\.running_var contains NaN or infinity"),
    ],
)
def test_unfit_weights_are_refused_and_nothing_changes(weights, change, message):
    module = load_model("digits_resnet").module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(module, weights(change))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_pickled_weights_are_refused_unread(tmp_path):
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"x": Bomb()}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(FileError, match="could run code"):
            load_model("digits_resnet", tmp_path / name)


def test_weights_of_another_network_are_refused(models_dir):
    with pytest.raises(ModelError, match=r"missing layer1\.3\.conv1\.weight.* and \d+ more"):
        load_model("resnet56", models_dir / "resnet20_cifar10.safetensors")


USER = """
import torch
from cofit.models import Normalise


def plain():
    return torch.nn.Linear(4, 2)


def trained():
    net = torch.nn.Linear(4, 2)
    torch.nn.init.constant_(net.weight, 0.5)
    torch.nn.init.constant_(net.bias, 0.25)
    return net


class Net(torch.nn.Module):
    input_shape = (3, 8, 8)
    preprocess = Normalise((0.5,), (0.25,))

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)


def no_module():
    return 7


def broken():
    raise RuntimeError("first line\\nsecond line")


def needs(argument):
    return argument


def bad_shape():
    net = Net()
    net.input_shape = (3, -1)
    return net


def bad_preprocess():
    net = Net()
    net.preprocess = 255
    return net


def diverged():
    net = plain()
    net.bias.data[0] = float("nan")
    return net


number = 3
"""


@pytest.fixture
def user(tmp_path, monkeypatch):
    """The name of a fresh module in the current folder."""
    name = f"user_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(USER)
    (tmp_path / f"{name}_syntax.py").write_text("def (")
    monkeypatch.chdir(tmp_path)
    return name


def test_factories_give_networks(user):
    plain = load_model(f"{user}:plain")
    assert isinstance(plain.module, torch.nn.Linear)
    assert plain.input_shape is None and plain.preprocess == Normalise()
    net = load_model(f"{user}:Net", seed=2)
    assert net.input_shape == (3, 8, 8) and net.preprocess == Normalise((0.5,), (0.25,))
    assert not net.module.training
    assert torch.equal(net.module.conv.weight, load_model(f"{user}:Net", seed=2).module.conv.weight)


def test_random_weights_are_told_from_given_ones(user, weights):
    assert load_model("digits_resnet").fresh
    assert not load_model("digits_resnet", weights()).fresh
    before = torch.random.get_rng_state()
    assert load_model(f"{user}:plain").fresh
    assert not load_model(f"{user}:trained").fresh
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_module", "gave a int; it must give a torch.nn.Module"),
        ("broken", "RuntimeError: first line; it must work without arguments"),
        ("needs", "TypeError: .*must work without arguments"),
        ("absent", "has no 'absent'"),
        ("number", "is a int; give a function or class"),
        ("bad_shape", r"input_shape is \(3, -1\)"),
        ("bad_preprocess", "preprocess must be a cofit.models.Normalise"),
        ("diverged", "bias contains NaN"),
    ],
)
def test_bad_factories_are_refused(user, name, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_model(f"{user}:{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["nowhere.at.all:net", "_syntax:net", ":net", "..x:net"])
def test_modules_that_cannot_be_imported_are_refused(user, spec):
    spec = user + spec if spec.startswith("_") else spec
    with pytest.raises(ModelError, match=r"cannot import .* start from the folder") as caught:
        load_model(spec)
    assert "\n" not in str(caught.value)


def test_the_import_path_is_left_as_it_was(user):
    import sys

    before = list(sys.path)
    load_model(f"{user}:plain")
    assert sys.path == before
