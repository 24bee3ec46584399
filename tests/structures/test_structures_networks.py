"""Real trained weights: every convolution of a ResNet-20 keeps its promises in every form."""

import pytest
import torch

from cofit.core import read_tensors
from cofit.structures import Pattern, detect, extract_library, parse

FORMS = (
    "unstructured channel connectivity block16x1 block16x4 block2x2 pattern8g1 pattern8g4".split()
)


@pytest.fixture(scope="module")
def weights(models_dir):
    tensors = read_tensors(models_dir / "resnet20_cifar10.safetensors")
    return {n: t for n, t in tensors.items() if t.ndim == 4 and tuple(t.shape[2:]) == (3, 3)}


def kept_energy(text, weights):
    structure = parse(text)
    fits = [w for w in weights.values() if structure.applies(tuple(w.shape)) is None]
    assert len(fits) >= 18
    kept = sum(float(structure.project(w).square().sum()) for w in fits)
    return kept / sum(float(w.square().sum()) for w in fits)


@pytest.mark.parametrize("form", FORMS)
def test_trained_weights_survive_storage_and_detection(weights, form):
    for rate in (4, 8):
        structure = parse(f"{form}@{rate}")
        for name, weight in weights.items():
            if structure.applies(tuple(weight.shape)) is not None:
                continue
            pruned = structure.project(weight)
            encoding = structure.encode(pruned.numpy())
            assert encoding.decode().tobytes() == pruned.numpy().tobytes(), name
            assert encoding.nbytes == structure.nbytes(tuple(weight.shape), 4), name
            found = detect(pruned)
            assert found is not None and found.check(pruned) is None, name


def test_freedom_orders_the_energy_kept_at_equal_rate(weights):
    free, pattern, shared, block, channel = (
        kept_energy(f"{form}@4", weights)
        for form in ("unstructured", "pattern8g1", "pattern8g4", "block8x1", "channel")
    )
    assert free > pattern > shared > channel
    assert free > block > channel


def test_an_extracted_library_keeps_more_than_a_rare_one(weights):
    common = extract_library(weights.values(), 8)
    ranked = extract_library(weights.values(), 56)
    assert ranked.masks[:8] == common.masks
    rare = type(ranked)(ranked.masks[-8:])
    every = torch.stack([w.flatten(0, 1).square().sum((1, 2)).sum() for w in weights.values()])
    kept = [
        sum(float(Pattern(library, 1, 2.25).project(w).square().sum()) for w in weights.values())
        for library in (common, rare)
    ]
    assert kept[1] < kept[0] < float(every.sum())
