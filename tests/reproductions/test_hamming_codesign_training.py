"""Hamming-aware training: rounding that prices flips, and what it saves beyond orders."""

import itertools

import numpy as np
import pytest
import torch

from cofit.core import torch_generator
from cofit.data import load
from cofit.fit.precision import accuracy, reference_scores
from cofit.ir import GraphModule, calibrate, quantise, trace
from cofit.regimes import QAT, Batches, Recipe, RegimeStack, fit
from cofit.regimes.testing import CHECKS, Case
from cofit.reproductions.hamming_codesign.flips import ENCODINGS, codes, stream_flips
from cofit.reproductions.hamming_codesign.network import SmallInvertedResidual
from cofit.reproductions.hamming_codesign.streams import count, segmented, streams, total
from cofit.reproductions.hamming_codesign.training import HammingAware
from cofit.reproductions.hamming_codesign.trellis import REACH, round_for_flips
from cofit.reproductions.harness import fewer, seeded


def chain(levels, price, encoding, reach):
    """Least squared distance plus price times flips of one column, by trying everything."""
    near = np.rint(levels).astype(int)
    best = np.inf
    for moves in itertools.product(range(-reach, reach + 1), repeat=len(levels)):
        q = near + np.array(moves)
        if (np.abs(near) == 127).any() and (q != near)[np.abs(near) == 127].any():
            continue
        rows = codes(q[:, None], encoding)
        best = min(best, ((q - levels) ** 2).sum() + price * stream_flips(rows))
    return best


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_07_priced_rounding_is_optimal(encoding):
    levels = np.random.default_rng(3).uniform(-6, 6, (3, 2)).astype(np.float32)
    levels[2, 1] = 127.0
    for price in (0.5, 2.0):
        found = round_for_flips(levels, price, encoding)
        assert found[2, 1] == 127
        for column in range(2):
            q = found[:, column]
            value = ((q - levels[:, column]) ** 2).sum()
            value += price * stream_flips(codes(q[:, None], encoding))
            assert value == pytest.approx(chain(levels[:, column], price, encoding, REACH))
    assert (round_for_flips(levels, 0.0, encoding) == np.rint(levels)).all()


def digits_run(strengths):
    """Int8 networks of digits after equal fine-tuning at each strength; 16 operands a segment."""
    data = fewer(load("digits"), 1200)
    build = lambda: SmallInvertedResidual(1, ((1, 12, 1, 1), (4, 24, 2, 1)), 1, 48)  # noqa: E731
    model, _ = fit(
        seeded(build, 0), Batches(data.train.inputs, data.train.targets, size=64),
        Recipe(6, learning_rate=0.1),
    )  # fmt: skip
    graph = trace(model, data.train.inputs[:1])
    integer = quantise(graph, calibrate(graph, [data.train.inputs[:250]]))
    names = tuple(weight.name for _, weight in graph.weighted())
    for strength in strengths:
        regimes = [QAT(integer)]
        if strength is not None:
            regimes.insert(0, HammingAware(names, "twos_complement", 16, strength))
        module, _ = fit(
            GraphModule(graph), Batches(data.train.inputs, data.train.targets, size=64),
            Recipe(2, 1e-3, "adam", weight_decay=0.0), RegimeStack(regimes),
        )  # fmt: skip
        trained = module.to_graph()
        quantised = quantise(trained, calibrate(trained, [data.train.inputs[:250]]))
        yield trained, quantised, accuracy(reference_scores(quantised), data.test)


def test_07_training_cuts_flips_beyond_orders_and_is_plain_at_strength_zero():
    (plain, base, before), (zero, _, _), (_, aware, after) = digits_run((None, 0.0, 4.0))
    for name, tensor in plain.tensors.items():
        if tensor.data is not None:
            assert np.array_equal(tensor.data, zero.tensors[name].data), name

    def flips(graph):
        return total([
            count(s, 16, segmented(s, 16), True) for s in streams(graph, "twos_complement")
        ]).flips  # fmt: skip

    assert flips(base) / flips(aware) >= 1.3
    assert after >= before - 0.02


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_07_regime_conforms(check):
    inputs = torch.randn(32, 3, 8, 8, generator=torch_generator(0, "inputs"))
    targets = torch.arange(32) % 4

    def make():
        layers = [
            torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 4)
        ]  # fmt: skip
        return torch.nn.Sequential(*layers)

    names = ("0.weight", "3.weight")
    check(
        Case(
            lambda: seeded(make, 0),
            lambda model: HammingAware(names, "sign_magnitude", 4, 1.0),
            inputs,
            targets,
        )
    )
