"""The run: streams of Laplace weights, then of trained networks, before and after each measure."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.codegen import compile
from cofit.core import numpy_generator
from cofit.data import Dataset, load
from cofit.fit.precision import BATCH, Scores, accuracy, reference_scores
from cofit.ir import Graph, GraphModule, calibrate, quantise, trace
from cofit.regimes import QAT, Batches, Recipe, RegimeStack, augmentation, fit
from cofit.reproductions.hamming_codesign.flips import codes, stream_flips
from cofit.reproductions.hamming_codesign.network import SmallInvertedResidual
from cofit.reproductions.hamming_codesign.permutations import cluster, reorder
from cofit.reproductions.hamming_codesign.streams import (
    Count,
    Stream,
    count,
    natural,
    segmented,
    streams,
)
from cofit.reproductions.hamming_codesign.training import HammingAware
from cofit.reproductions.harness import Step, Study, fewer, seeded, train

K, C, SCALE = 128, 96, 14
"""Size and scale of the Laplace weights of the published-style table."""

MEASURES = ("natural", "reordered", "segmented", "clustered")
Counts = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        data: name of the data set.
        train, test: examples at most.
        stages, stem_stride, head: see `SmallInvertedResidual`.
        epochs: of training in floats.
        tune_epochs: of int8 fine-tuning, the same for every strength.
        strengths: of Hamming-aware training, 0 first.
        allowed_loss: of validation accuracy, when the strength is chosen.
        heights: of the array.
        identical: inputs on which permuted networks are compared.
        laplace: matrices of Laplace weights, and the heights they are streamed at.
        laplace_heights: see `laplace`.
    """

    data: str
    train: int
    test: int
    stages: tuple[tuple[int, int, int, int], ...]
    stem_stride: int
    head: int
    epochs: int
    tune_epochs: int
    strengths: tuple[float, ...]
    heights: tuple[int, ...]
    identical: int
    laplace: int
    laplace_heights: tuple[int, ...] = (96, 32, 16, 8, 4, 2, 1)
    allowed_loss: float = 0.005
    encoding: str = "twos_complement"
    height: int = 16
    encodings: tuple[str, ...] = ("twos_complement", "sign_magnitude")


def laplace_ratios(settings: Settings, encoding: str, _: Step) -> dict[str, Any]:
    """Natural flips over those of segment orders, and over the spanning trees, by height."""
    found: dict[str, Any] = {"reduction": [], "ceiling": [], "activity": []}
    for seed in range(settings.laplace):
        draw = numpy_generator(seed, "hamming", "laplace").laplace(0, SCALE, (K, C))
        rows = codes(np.clip(np.rint(draw), -127, 127).astype(np.int8), encoding)
        stream = Stream("laplace", rows, C, 1)
        before, after = [], []
        for height in settings.laplace_heights:
            before.append(stream_flips(rows))
            after.append(count(stream, height, segmented(stream, height), True))
        found["reduction"].append([b / a.flips for b, a in zip(before, after, strict=True)])
        found["ceiling"].append([b / a.bound for b, a in zip(before, after, strict=True)])
        found["activity"].append(before[0] / after[0].streamed_bits)
    return {key: np.mean(values, axis=0).tolist() for key, values in found.items()}


def trained(study: Study[Settings], data: Dataset, seed: int) -> Graph:
    """The float graph of a trained network, batch norms folded."""
    settings = study.settings

    def build() -> SmallInvertedResidual:
        return SmallInvertedResidual(
            data.input_shape[0], settings.stages, settings.stem_stride, settings.head
        )

    def compute(step: Step) -> dict[str, Any]:
        model, _ = train(
            step, seeded(build, seed), data, Recipe(settings.epochs, learning_rate=0.1), seed
        )
        return dict(model.state_dict())

    model = build()
    model.load_state_dict(study.step(f"train seed {seed}", compute))
    return trace(model, data.train.inputs[:1])


def tuned(
    study: Study[Settings], data: Dataset, graph: Graph, seed: int, strength: float
) -> dict[str, Any]:
    """The int8 network after Hamming-aware fine-tuning: weights and accuracies."""
    settings = study.settings
    integer = quantise(graph, calibrate(graph, _calibration(data)))

    def compute(step: Step) -> dict[str, Any]:
        names = tuple(weight.name for _, weight in graph.weighted())
        aware = HammingAware(names, settings.encoding, settings.height, strength)
        batches = Batches(
            data.train.inputs, data.train.targets, seed=seed,
            augment=tuple(augmentation(kind) for kind in data.augment),
        )  # fmt: skip
        recipe = Recipe(settings.tune_epochs, 1e-3, "adam", weight_decay=0.0)
        module, _ = fit(
            GraphModule(graph), batches, recipe, RegimeStack([aware, QAT(integer)]),
            checkpoint=step.checkpoint(), progress=step.progress, stage="fine-tune",
        )  # fmt: skip
        found = quantised(module_graph(module), data)
        scores = scores_of(found, len(data.validation) + len(data.test))
        return {
            **dict(module.state_dict()),
            "validation": accuracy(scores, data.validation),
            "test": accuracy(scores, data.test),
        }

    found = study.step(f"tune seed {seed} strength {strength:g}", compute)
    return {**found, "name": f"seed {seed} strength {strength:g}"}


def counted(
    study: Study[Settings], data: Dataset, graph: Graph, found: dict[str, Any]
) -> dict[str, Any]:
    """A fine-tuned network's results with the counts of all measures."""
    integer = quantised(with_weights(graph, found), data)

    def compute(step: Step) -> dict[str, Any]:
        return {"counts": counts_of(integer, study.settings, step)}

    return found | study.step(f"count {found['name']}", compute)


def differing(settings: Settings, graph: Graph, data: Dataset, _: Step) -> dict[str, Any]:
    """Test inputs for which a permuted network gives other output bits than the network itself."""
    permuted = (
        reorder(graph, settings.encoding),
        cluster(graph, settings.encoding, settings.height),
    )
    x = np.ascontiguousarray(data.test.inputs[: settings.identical].numpy())
    expected, *found = (scores_of(each, len(x))(x) for each in (graph, *permuted))
    different = np.logical_or.reduce([(each != expected).any(axis=1) for each in found])
    return {"differing": int(different.sum())}


def counts_of(graph: Graph, settings: Settings, step: Step) -> Counts:
    """Per layer what each measure toggles, by "encoding/height/measure"."""
    found: Counts = {}
    pairs = list(itertools.product(settings.encodings, settings.heights))
    for done, (encoding, height) in enumerate(pairs):
        permuted = (graph, reorder(graph, encoding), graph, cluster(graph, encoding, height))
        for measure, each in zip(MEASURES, permuted, strict=True):
            own = measure in ("segmented", "clustered")
            order = segmented if own else natural
            found[f"{encoding}/{height}/{measure}"] = [
                asdict(count(stream, height, order(stream, height), own))
                for stream in streams(each, encoding)
            ]
        step.progress("streams", done + 1, len(pairs))
    return found


def counts(found: dict[str, Any], encoding: str, height: int, measure: str) -> list[Count]:
    """Per layer, out of a stored step."""
    return [Count(**layer) for layer in found["counts"][f"{encoding}/{height}/{measure}"]]


def with_weights(graph: Graph, found: dict[str, Any]) -> Graph:
    """The float graph with a fine-tuned network's values."""
    module = GraphModule(graph)
    module.load_state_dict({name: found[name] for name in module.state_dict()})
    return module.to_graph()


def module_graph(module: torch.nn.Module) -> Graph:
    """The graph of what `fit` gave back."""
    assert isinstance(module, GraphModule)
    return module.to_graph()


def quantised(graph: Graph, data: Dataset) -> Graph:
    """The int8 graph, calibrated on training images."""
    return quantise(graph, calibrate(graph, _calibration(data)))


def scores_of(graph: Graph, inputs: int) -> Scores:
    """What runs a graph on so many inputs: the reference, or for many its compiled program."""
    return compile(graph).run if inputs > 2 * BATCH else reference_scores(graph)


def images(settings: Settings) -> Dataset:
    """The data of a scale."""
    return fewer(load(settings.data), settings.train, settings.test)


def _calibration(data: Dataset) -> list[NDArray[np.float32]]:
    return [data.train.inputs[:BATCH].numpy()]
