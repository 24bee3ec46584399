"""Pattern-based sparsity: 3x3 kernels of a few library shapes, compiled into speed."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from cofit.core import Basis, derive_seed, torch_generator
from cofit.data import Dataset
from cofit.reproductions.harness import (
    Claim,
    Measured,
    Outcome,
    Reproduction,
    Study,
    Table,
    above_spread,
    at_least,
    at_most,
    axes,
    bars,
    figure,
    kernel_weights,
    latencies,
    measured,
    structured_graph,
)
from cofit.reproductions.pattern_sparsity.arms import (
    Settings,
    compare,
    dataset,
    joint,
    network,
)
from cofit.structures import VGG8, parse

PEER = "onnxruntime fp32"
NAMES = {
    "dense": "dense", "admm": "patterns, ADMM", "one-shot": "patterns, one shot",
    "random": "random patterns", "unstructured": "unstructured", "filters": "filters",
}  # fmt: skip

Found = dict[str, Any]


def run(study: Study[Settings]) -> Outcome:
    """Train every arm for every seed, time the network and one layer, state what came out."""
    settings = study.settings
    data = dataset(settings)
    found = [
        study.step(f"seed {seed}", partial(compare, settings=settings, data=data, seed=seed))
        for seed in study.seeds
    ]
    deployed = study.step(
        "network", lambda step: _network(settings, data, study.seeds[0], found[0])
    )
    layer = study.step("layer", lambda step: _layer(settings))
    claims = [
        *_accuracies(settings, found),
        *_training(found),
        _bytes(settings, deployed),
        *_latencies(settings, deployed, layer),
    ]
    return Outcome(claims, _tables(found, deployed, layer), _figure(settings, found, deployed))


def _network(settings: Settings, data: Dataset, seed: int, found: Found) -> dict[str, float]:
    """Latencies of the trained network, and bytes of its pruned layers."""
    model = network(settings, data, seed)
    model.load_state_dict({key: found[f"weight {key}"] for key in model.state_dict()})
    structure = parse(found["structure"])
    names = kernel_weights(model.eval())
    sample = data.test.inputs
    dense = structured_graph(model, sample, {}, "dense")
    sparse = structured_graph(model, sample, dict.fromkeys(names, structure), "patterns")
    weights = [sparse.tensors[name].data for name in names]
    stored = sum(structure.encode(weight).nbytes for weight in weights if weight is not None)
    return {
        **latencies(dense, sparse, settings.peers),
        "dense bytes": float(sum(weight.nbytes for weight in weights if weight is not None)),
        "sparse bytes": float(stored),
    }


def _layer(settings: Settings) -> dict[str, float]:
    """Latencies of one 3x3 convolution with random weights, which time does not depend on."""
    channels, side = settings.layer
    structure = joint(settings, VGG8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "layer"))
        layer = nn.Conv2d(channels, channels, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(structure.project(layer.weight))
    sample = torch.randn(1, channels, side, side, generator=torch_generator(0, "layer"))
    dense = structured_graph(layer, sample, {}, "dense")
    sparse = structured_graph(layer, sample, {"weight": structure}, "pattern")
    return latencies(dense, sparse, settings.peers)


def _points(found: list[Found], better: str, worse: str, what: str = "accuracy") -> Measured:
    return measured([100 * (f[f"{better} {what}"] - f[f"{worse} {what}"]) for f in found], "points")


def _accuracies(settings: Settings, found: list[Found]) -> list[Claim]:
    rate = f"{settings.rate:.3g}x"
    errors = [(1 - f["filters accuracy"]) / (1 - f["admm accuracy"]) for f in found]
    same = "equal weights left, epochs and dense start; test part"
    means = [
        statistics.fmean(100 * f[f"{arm} accuracy"] for f in found)
        for arm in ("admm", "one-shot", "random", "unstructured", "filters")
    ]
    level = (
        f"after {settings.retrain_epochs} epochs with masks all arms end within "
        f"{max(means) - min(means):.1f} points of each other: on this task retraining undoes what "
        "the choice of weights did"
    )
    own_loss = _points(found, "dense", "unstructured")
    return [
        Claim(
            claim=f"accuracy that patterns at {rate} lose against dense training of equal length",
            published="8x without loss (VGG-16, ImageNet, top 5)",
            measured=_points(found, "dense", "admm"),
            limit="0, where the task needs every weight",
            basis=Basis.MEASURED,
            rule=at_most(1.0),
            note=same,
            reason=f"leaving out as many weights without any structure loses {own_loss.text} too: "
            "a network this narrow has less to spare",
        ),
        Claim(
            claim="accuracy of unstructured magnitude pruning minus that of patterns",
            published="not published",
            measured=_points(found, "unstructured", "admm"),
            limit="none; patterns are a part of what unstructured pruning may choose",
            basis=Basis.MEASURED,
            rule=at_most(1.0),
            note=same,
        ),
        Claim(
            claim="error of filter pruning over that of patterns",
            published="not published as a ratio; accuracy above filter pruning's (PCONV, PatDNN)",
            measured=measured(errors, "x"),
            limit="none",
            basis=Basis.MEASURED,
            rule=above_spread(1.0),
            note=f"{same}; filters take the kernels that read them along",
            reason=level,
        ),
        Claim(
            claim="accuracy of ADMM minus that of random patterns",
            published="not published",
            measured=_points(found, "admm", "random"),
            limit="none",
            basis=Basis.MEASURED,
            rule=above_spread(0.0),
            note=same,
            reason=level,
        ),
        Claim(
            claim="accuracy of ADMM minus that of one-shot projection, both retrained",
            published="not published",
            measured=_points(found, "admm", "one-shot"),
            limit="none",
            basis=Basis.MEASURED,
            rule=above_spread(0.0),
            note=same,
            reason=level,
        ),
    ]


def _training(found: list[Found]) -> list[Claim]:
    return [
        Claim(
            claim="distance of weights to their structures before they are hardened, relative",
            published="not published",
            measured=measured([f["gap"] for f in found], "of the norm"),
            limit="0",
            basis=Basis.MEASURED,
            rule=at_most(0.05),
            note="library shrunk from 56 patterns in the same training",
        ),
        Claim(
            claim="accuracy just after hardening: ADMM minus one-shot projection of the dense net",
            published="not published",
            measured=_points(found, "admm", "one-shot", "hardened"),
            limit="the accuracy of the network less chance",
            basis=Basis.MEASURED,
            rule=above_spread(0.0),
            note="validation part",
        ),
    ]


def _bytes(settings: Settings, deployed: Found) -> Claim:
    return Claim(
        claim="bytes of the pruned layers, dense over stored with indices, fp32",
        published="index bytes fall from 8 to 2 a kernel (PatDNN, FKW)",
        measured=measured(deployed["dense bytes"] / deployed["sparse bytes"], "x"),
        limit=f"{36 / (18 / settings.connectivity):.3g}x at 2 index bytes a kernel",
        basis=Basis.MEASURED,
        rule=at_least(5.0),
        note="terms linear in the filters are large for layers this narrow",
    )


def _latencies(settings: Settings, deployed: Found, layer: Found) -> list[Claim]:
    channels, side = settings.layer
    other = PEER if PEER in layer else "dense"
    name = "ONNX Runtime" if other == PEER else "our own program"
    phones = (
        "up to 44.5x, 11.4x, 7.1x over TFLite, TVM, MNN (PatDNN), 39.2x, 11.4x, 6.3x (PCONV), "
        "on phones"
    )
    limit = f"{settings.rate:.3g}x, the rate, times the efficiency of sparse over dense kernels"
    timed = "batch 1, one thread, fp32, timed in turn"
    return [
        Claim(
            claim=f"latency of a dense {channels}x{side}x{side} layer in {name} over patterns in C",
            published=phones,
            measured=measured(layer[other] / layer["sparse"], "x"),
            limit=limit,
            basis=Basis.MEASURED,
            rule=at_least(2.0),
            note=timed,
        ),
        Claim(
            claim=f"latency of the dense network in {name} over patterns in C",
            published=phones,
            measured=measured(deployed[other] / deployed["sparse"], "x"),
            limit=f"{limit}, less the dense first layer",
            basis=Basis.MEASURED,
            rule=at_least(2.0),
            note=timed,
        ),
        Claim(
            claim="latency of the layer by the same generator, zeros multiplied over skipped",
            published="not published",
            measured=measured(layer["dense"] / layer["sparse"], "x"),
            limit=limit,
            basis=Basis.MEASURED,
            rule=at_least(1.0),
            note="the same weights; without their structure the generator runs them densely",
        ),
    ]


def _tables(found: list[Found], deployed: Found, layer: Found) -> list[Table]:
    rows = []
    for arm in NAMES:
        test = measured([100 * f[f"{arm} accuracy"] for f in found], "%")
        hardened = measured([100 * f[f"{arm} hardened"] for f in found], "%")
        rows.append((NAMES[arm], f"{found[0][f'{arm} rate']:.3g}", hardened.text, test.text))
    programs = [name for name in layer if not name.endswith("bytes")]
    return [
        Table(
            title="Networks",
            columns=("arm", "rate", "validation accuracy when pruned", "test accuracy"),
            rows=tuple(rows),
        ),
        Table(
            title="Latency at batch 1",
            columns=("program", "network, us", "layer, us"),
            rows=tuple(
                (name, f"{1e6 * deployed[name]:.4g}", f"{1e6 * layer[name]:.4g}")
                for name in programs
            ),
        ),
    ]


def _figure(settings: Settings, found: list[Found], deployed: Found) -> Figure:
    drawn = figure(2)
    accuracies = {
        name: measured([100 * f[f"{arm} accuracy"] for f in found], "%")
        for arm, name in NAMES.items()
    }
    panel = axes(drawn, f"{settings.data} at {settings.rate:.3g}x", "", "accuracy, %", (1, 2, 1))
    bars(panel, {n: m.mean for n, m in accuracies.items()}, [m.spread for m in accuracies.values()])
    panel.set_ylim(bottom=max(0.0, min(m.mean for m in accuracies.values()) - 3))
    times = {n: 1e6 * v for n, v in deployed.items() if not n.endswith("bytes")}
    bars(axes(drawn, "Network at batch 1, one thread", "", "latency, us", (1, 2, 2)), times)
    return drawn


REPRODUCTION = Reproduction(
    name="pattern-sparsity",
    title="3x3 kernels keep a few library shapes, compiled into speed",
    source="X. Ma et al., ECCV 2020, arXiv 2001.07710; PCONV, AAAI 2020; PatDNN, ASPLOS 2020",
    scales={
        "smoke": Settings(
            data="digits", entry="digits_resnet", examples=480, widths=(8, 16),
            dense_epochs=3, retrain_epochs=2, connectivity=1.6, rho=0.05, layer=(16, 14),
            peers=False,
        ),
        "standard": Settings(),
        "full": Settings(
            data="cifar10", entry="convnet_cifar", examples=20000, widths=(32, 64, 128),
            dense_epochs=20, stage_epochs=4, retrain_epochs=16, learning_rate=0.1, fine_rate=0.05,
        ),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)  # fmt: skip
