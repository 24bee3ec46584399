"""What is trained and timed, step by step, and the claims that follow."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from cofit.codegen import compile as compile_graph
from cofit.core import Basis, torch_generator
from cofit.data import Dataset, load
from cofit.fit.peers import ROUNDS
from cofit.fit.precision import Lowering
from cofit.ir import trace
from cofit.reproductions.harness import (
    Claim,
    Outcome,
    Step,
    Study,
    Table,
    accuracy,
    at_least,
    at_most,
    axes,
    bars,
    fewer,
    figure,
    measured,
    seeded,
)
from cofit.reproductions.rtmobile.pruning import (
    Epochs,
    SpeechGru,
    fresh,
    prune,
    rate_over_all,
)
from cofit.reproductions.rtmobile.speed import (
    DENSE,
    OURS,
    PRUNED,
    correct,
    race_matvec,
    race_networks,
    speedup,
    structured,
)
from cofit.structures import parse

Results = Mapping[str, Any]
FRAME_S = 0.020  # hop of the features of spoken digits
CALIBRATION = 100  # inputs


@dataclass(frozen=True)
class Settings:
    """Of one scale.

    Attributes:
        data: name of the data set, (1, frames, features) each.
        examples: of the training part that are used, if not all.
        stack: frames of a step.
        hidden: units of a layer of the network that is pruned, compiled and timed.
        structure: that it is pruned to.
        dense_epochs: of the dense network at first.
        admm_epochs: of each of the two steps, and `retrain_epochs` after each.
        small_hidden: units of the network on which forms are compared.
        forms: that are compared, by name, all of one rate.
        extreme: structure of a much higher rate, on the same network.
        batch: examples.
        matrix: rows and columns of the product that is timed.
        matrix_forms: structures of its programs, by name.
        rounds: of a race.
    """

    data: str
    examples: int | None
    stack: int
    hidden: int
    structure: str
    dense_epochs: int
    admm_epochs: int
    retrain_epochs: int
    small_hidden: int
    forms: Mapping[str, str]
    extreme: str
    batch: int
    matrix: tuple[int, int]
    matrix_forms: Mapping[str, str]
    rounds: int = ROUNDS

    @property
    def epochs(self) -> Epochs:
        """Of a pruning."""
        return Epochs(self.admm_epochs, self.retrain_epochs)


def run(study: Study[Settings]) -> Outcome:
    """Train, prune, compile, time, compare."""
    own = study.settings
    data = load(own.data)
    if own.examples is not None:
        data = fewer(data, own.examples)
    pairs = [
        (
            _dense(study, data, own.hidden, seed),
            _pruned(study, data, own.hidden, own.structure, seed),
        )
        for seed in study.seeds
    ]
    speeds = study.step("speed", lambda step: _race(own, data, pairs[0]))
    matrix = study.step(
        "matvec", lambda step: race_matvec(own.matrix, own.matrix_forms, own.rounds)
    )
    small = [_dense(study, data, own.small_hidden, seed) for seed in study.seeds]
    texts = {**own.forms, "bsp, extreme": own.extreme}
    forms = {
        name: [_pruned(study, data, own.small_hidden, text, seed) for seed in study.seeds]
        for name, text in texts.items()
    }
    claims = [*_network_claims(own, pairs, speeds), *_matrix_claims(own, matrix)]
    claims.append(_form_claim(own, forms))
    tables = [
        _accuracy_table(own, pairs, small, forms, texts),
        _time_table("One step of the network per call", speeds["stream"]),
        _time_table("A whole input per call", speeds["whole"]),
        _time_table(f"One product by a {own.matrix[0]} x {own.matrix[1]} matrix", matrix),
        ENERGY,
    ]
    return Outcome(claims, tables, _figure(speeds, small, forms))


ENERGY = Table(
    title="Energy by the power and times that the paper states; nothing of this is measured here",
    columns=("device", "power, W", "time per frame, us", "energy per frame, mJ"),
    rows=(
        ("ESE on an FPGA", "41", "82.7", f"{41 * 82.7e-3:.2f}"),
        ("RTMobile on Adreno 640, at 245x", "1.07", "81.6", f"{1.07 * 81.6e-3:.4f}"),
    ),
)


def _network(own: Settings, data: Dataset, hidden: int, seed: int) -> SpeechGru:
    features = data.input_shape[2]
    return seeded(
        lambda: SpeechGru(features, own.stack, hidden, len(data.classes)), seed, "rtmobile", hidden
    )


def _dense(study: Study[Settings], data: Dataset, hidden: int, seed: int) -> Results:
    """The dense network, and its accuracy after as many epochs more as a pruning takes."""
    own = study.settings

    def compute(step: Step) -> Results:
        model = _network(own, data, hidden, seed)
        fresh(step, model, data, own.dense_epochs, seed, own.batch, "dense")
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        further = fresh(step, model, data, own.epochs.total, seed, own.batch, "further")
        return {**weights, "accuracy": accuracy(further, data.test)}

    return study.step(f"dense {hidden} seed {seed}", compute)


def _pruned(
    study: Study[Settings], data: Dataset, hidden: int, structure: str, seed: int
) -> Results:
    """The dense network of the same seed, pruned."""
    own = study.settings

    def compute(step: Step) -> Results:
        model = _restored(own, data, hidden, _dense(study, data, hidden, seed))
        prune(step, model, data, parse(structure), own.epochs, seed, own.batch)
        return {
            **model.state_dict(),
            "accuracy": accuracy(model, data.test),
            "rate": rate_over_all(model),
        }

    return study.step(f"{structure.replace('@', ' at ')} {hidden} seed {seed}", compute)


def _restored(own: Settings, data: Dataset, hidden: int, results: Results) -> SpeechGru:
    model = _network(own, data, hidden, 0)
    model.load_state_dict({name: results[name] for name in model.state_dict()})
    return model


def _race(own: Settings, data: Dataset, pair: tuple[Results, Results]) -> Results:
    """Times of the first seed's networks, and the accuracy of its compiled one."""
    dense, pruned = (_restored(own, data, own.hidden, found) for found in pair)
    structures = dict.fromkeys(pruned.pruned(), parse(own.structure))
    example = data.test.inputs[:1]
    graph = trace(dense, example, "whole")
    integer = Lowering("int8", data.train.inputs[:CALIBRATION]).lower(graph)
    whole_program = compile_graph(structured(graph, pruned, structures))
    whole = race_networks(dense, graph, whole_program, integer, example.numpy(), own.rounds)
    streaming = dense.streaming()
    call = torch.zeros(1, dense.gru.input_size + streaming.state_size)
    graph = trace(streaming, call, "step")
    step_program = compile_graph(structured(graph, pruned, structures))
    stream = race_networks(streaming, graph, step_program, None, call.numpy(), own.rounds)
    encoded = [s.encode(pruned.get_parameter(n).detach().numpy()) for n, s in structures.items()]
    held = sum(pruned.get_parameter(n).numel() for n in structures)
    return {
        "whole": whole,
        "stream": stream,
        "steps": example.shape[2] // own.stack,
        "compiled accuracy": correct(whole_program, data.test.inputs, data.test.targets),
        "bytes ratio": 4 * held / sum(e.nbytes for e in encoded),
    }


def _network_claims(
    own: Settings, pairs: Sequence[tuple[Results, Results]], speeds: Results
) -> list[Claim]:
    rates = [pruned["rate"] for _, pruned in pairs]
    drops = [100 * (dense["accuracy"] - pruned["accuracy"]) for dense, pruned in pairs]
    form = f"{own.structure}, GRU of 2 x {own.hidden}"
    stream, whole = (speedup(speeds[key]) for key in ("stream", "whole"))
    bound = (
        "stored bytes ratio times the bandwidth of the cache that holds the pruned weights over "
        f"that of the one that holds the dense ones; bytes ratio {speeds['bytes ratio']:.1f}"
    )
    step_s = speeds["stream"][PRUNED]
    return [
        Claim(
            claim="weights of all layers over those that stay",
            published="10x without loss of phone error rate (DAC 2020, TIMIT; from memory)",
            measured=measured(rates, "x"),
            limit=f"rate {parse(own.structure).rate:g} of the weights that are pruned",
            basis=Basis.MEASURED,
            rule=at_least(10),
            note=f"{form}; inputs of the first layer and the head stay dense and count",
        ),
        Claim(
            claim="accuracy lost at that rate, against dense training of as many epochs",
            published="none at 10x (phone error rate, TIMIT; from memory)",
            measured=measured(drops, "points"),
            limit="one test recording of 300 is 0.33 points",
            basis=Basis.MEASURED,
            rule=at_most(0.5),
            note=f"{form}; test part of {own.data}, whose speakers are those of the training part",
            reason="0.5 points are between one and two of the 300 test recordings; "
            f"{statistics.fmean(drops) * 3:.2g} of the 300 are lost on average",
        ),
        Claim(
            claim="speed-up of one step per call against the best dense peer",
            published="real-time inference where dense networks are not (DAC 2020)",
            measured=measured(stream[1], "x"),
            limit=bound,
            basis=Basis.MEASURED,
            rule=at_least(8),
            note=f"{form}; best peer {stream[0]}; one thread, state in and out; all in float32",
        ),
        Claim(
            claim="speed-up of a whole input per call against the best dense peer",
            published="not published",
            measured=measured(whole[1], "x"),
            limit="peers multiply all steps' inputs by the weights at once, which hides traffic",
            basis=Basis.MEASURED,
            rule=at_least(8),
            note=f"{form}; best peer {whole[0]}; {speeds['steps']} steps, one thread",
        ),
        Claim(
            claim="real-time factor: time of a step over the time it stands for",
            published="below 1: beyond real time (title)",
            measured=measured(step_s / (own.stack * FRAME_S), "s/s"),
            limit="1 is real time",
            basis=Basis.MEASURED,
            rule=at_most(1),
            note=f"{1e6 * step_s:.1f} us per step of {own.stack * FRAME_S * 1e3:g} ms, on this CPU",
        ),
    ]


def _matrix_claims(own: Settings, seconds: Results) -> list[Claim]:
    ours = seconds[f"{OURS}stripes"]
    peers = {n: s for n, s in seconds.items() if not n.startswith(OURS) and n != "scipy csr"}
    best = min(peers, key=lambda name: peers[name])
    lists = min(seconds["scipy csr"], seconds[f"{OURS}unstructured"])
    structure = parse(own.matrix_forms["stripes"])
    weight = torch.randn(own.matrix, generator=torch_generator(0, "index bytes"))
    encoding = structure.encode(structure.project(weight).numpy())
    values = encoding.arrays["values"]
    size = f"{own.matrix[0]} x {own.matrix[1]} float32, {structure.text}"
    return [
        Claim(
            claim="speed-up of a matrix-vector product against the best dense peer",
            published="not published; 15 to 25 on an AVX-512 core by our own notes",
            measured=measured(peers[best] / ours, "x"),
            limit="pruning rate, times the ratio of the bandwidths of cache and memory",
            basis=Basis.MEASURED,
            rule=at_least(8),
            note=f"{size}; best peer {best}",
        ),
        Claim(
            claim="speed-up against the faster of scipy's CSR and our own lists of single weights",
            published="not published",
            measured=measured(lists / ours, "x"),
            limit="CSR reads an index per weight, stripes one per column",
            basis=Basis.MEASURED,
            rule=at_least(3),
            note=f"{size}; equal numbers of weights",
        ),
        Claim(
            claim="time of the sparse kernel when nearly all is kept, over the dense program's",
            published="not published",
            measured=measured(seconds[f"{OURS}nearly dense"] / seconds[DENSE], "x"),
            limit="density of the weight",
            basis=Basis.MEASURED,
            rule=at_most(1.5),
            note=own.matrix_forms["nearly dense"],
        ),
        Claim(
            claim="index bytes per stored weight",
            published="not published",
            measured=measured((encoding.nbytes - values.nbytes) / values.size, "B"),
            limit="2 bytes per column over the rows of a stripe",
            basis=Basis.MEASURED,
            rule=at_most(0.04),
            note=f"{size}; all arrays but the values",
        ),
    ]


def _form_claim(own: Settings, forms: Mapping[str, Sequence[Results]]) -> Claim:
    """Against the better of the coarse forms."""
    coarse = [name for name in own.forms if name.startswith("whole")]
    best = max(coarse, key=lambda name: _mean(forms[name]))
    gains = [
        100 * (a["accuracy"] - b["accuracy"])
        for a, b in zip(forms["bsp"], forms[best], strict=True)
    ]
    return Claim(
        claim="accuracy above that of whole rows and columns at the same rate and epochs",
        published="finer blocks lose less than whole rows and columns (DAC 2020)",
        measured=measured(gains, "points"),
        limit="the same number of weights in any place: unstructured, in the table",
        basis=Basis.MEASURED,
        rule=at_least(0),
        note=f"GRU of 2 x {own.small_hidden}; best coarse form: {best}, {own.forms[best]}",
    )


def _accuracy_table(
    own: Settings,
    pairs: Sequence[tuple[Results, Results]],
    small: Sequence[Results],
    forms: Mapping[str, Sequence[Results]],
    texts: Mapping[str, str],
) -> Table:
    rows = [
        (f"2 x {own.hidden}", "dense", "", *_shares([d for d, _ in pairs])),
        (f"2 x {own.hidden}", "bsp", own.structure, *_shares([p for _, p in pairs])),
        (f"2 x {own.small_hidden}", "dense", "", *_shares(small)),
        *(
            (f"2 x {own.small_hidden}", name, texts[name], *_shares(found))
            for name, found in forms.items()
        ),
    ]
    columns = ("GRU", "form", "structure", "rate over all", "accuracy, %", "spread, points")
    return Table(title="Accuracy on the test part, over seeds", columns=columns, rows=tuple(rows))


def _shares(found: Sequence[Results]) -> tuple[str, str, str]:
    values = [100 * each["accuracy"] for each in found]
    spread = f"{statistics.stdev(values):.2f}" if len(values) > 1 else ""
    rate = statistics.fmean(each.get("rate", 1.0) for each in found)
    return f"{rate:.1f}", f"{statistics.fmean(values):.2f}", spread


def _mean(found: Sequence[Results]) -> float:
    return statistics.fmean(each["accuracy"] for each in found)


def _time_table(title: str, seconds: Results) -> Table:
    rows = sorted(seconds.items(), key=lambda item: item[1])
    return Table(
        title=title,
        columns=("program", "time, us"),
        rows=tuple((name, f"{1e6 * value:.1f}") for name, value in rows),
    )


def _figure(speeds: Results, small: Sequence[Results], forms: Mapping[str, Any]) -> Figure:
    drawn = figure(columns=2)
    stream = dict(sorted(speeds["stream"].items(), key=lambda item: item[1]))
    left = axes(drawn, "One step per call", "", "time, us", (1, 2, 1))
    bars(left, {name.replace(" ", "\n", 1): 1e6 * s for name, s in stream.items()})
    right = axes(drawn, "Forms of equal rate", "", "accuracy, %", (1, 2, 2))
    groups = {"dense": small, **forms}
    spreads = [np.std([100 * r["accuracy"] for r in found]) for found in groups.values()]
    bars(right, {name: 100 * _mean(found) for name, found in groups.items()}, spreads)
    return drawn
