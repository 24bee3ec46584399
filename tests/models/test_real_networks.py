"""Trained networks on real images, and the small ones trained here."""

import pytest
import torch
from torch.nn import functional as F

from cofit.core import torch_generator
from cofit.data import Split, load
from cofit.models import load_model


@pytest.fixture(scope="module")
def cifar(data_dir):
    return load("cifar10").test


@torch.no_grad()
def correct(loaded, inputs, targets):
    pairs = zip(inputs.split(200), targets.split(200), strict=True)
    return sum(int((loaded.module(loaded.preprocess(x)).argmax(1) == t).sum()) for x, t in pairs)


def test_resnet20_on_the_first_thousand_test_images(cifar, models_dir):
    loaded = load_model("resnet20", models_dir / "resnet20_cifar10.safetensors")
    assert correct(loaded, cifar.inputs[:1000], cifar.targets[:1000]) == 918


@pytest.mark.slow
def test_resnet20_on_all_test_images(cifar, models_dir):
    loaded = load_model("resnet20", models_dir / "resnet20_cifar10.safetensors")
    assert correct(loaded, cifar.inputs, cifar.targets) == 4581  # 91.62 %


@pytest.mark.slow
def test_resnet56_on_all_test_images(cifar, models_dir):
    loaded = load_model("resnet56", models_dir / "resnet56_cifar10.safetensors")
    assert correct(loaded, cifar.inputs, cifar.targets) == 4647  # 92.94 %


def test_resnet8_on_the_first_300_test_images(cifar, models_dir):
    loaded = load_model("mlperf_tiny/resnet8", models_dir / "mlperf_tiny" / "resnet8.safetensors")
    assert correct(loaded, cifar.inputs[:300], cifar.targets[:300]) == 263  # 87.7 %


def train(loaded, split, epochs, batch):
    """A plain loop, one-cycle schedule; nothing of cofit's training."""
    module = loaded.module.train()
    inputs, targets = loaded.preprocess(split.inputs), split.targets
    generator = torch_generator(0, "order")
    steps = epochs * -(-len(split) // batch)
    optimiser = torch.optim.SGD(module.parameters(), 0.1, 0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(split), generator=generator).split(batch):
            loss = F.cross_entropy(module(inputs[rows]), targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    module.eval()


def test_digits_network_learns_the_digits():
    dataset, loaded = load("digits"), load_model("digits_resnet")
    untrained = correct(loaded, dataset.test.inputs, dataset.test.targets) / len(dataset.test)
    train(loaded, dataset.train, epochs=5, batch=64)
    trained = correct(loaded, dataset.test.inputs, dataset.test.targets) / len(dataset.test)
    assert untrained < 0.4
    assert trained > 0.95


def test_keyword_network_learns_the_spoken_digits(data_dir):
    dataset, loaded = load("spoken_digits"), load_model("ds_cnn")
    third = Split(dataset.train.inputs[::3], dataset.train.targets[::3])
    train(loaded, third, epochs=3, batch=16)
    found = correct(loaded, dataset.test.inputs, dataset.test.targets) / len(dataset.test)
    assert found > 0.9
