"""ClickTrain: pattern pruning inside one normal training run."""

from __future__ import annotations

from functools import partial
from typing import Any

from cofit.core import Basis
from cofit.models.plain import ConvNet
from cofit.reproductions.clicktrain.arms import compare, formula_macs
from cofit.reproductions.clicktrain.settings import Settings, dataset, network
from cofit.reproductions.clicktrain.timing import run_seconds, step_seconds
from cofit.reproductions.harness import (
    Claim,
    Outcome,
    Reproduction,
    Step,
    Study,
    Table,
    above_spread,
    at_least,
    at_most,
    axes,
    bars,
    between,
    figure,
    latencies,
    measured,
    structured_graph,
)
from cofit.structures import parse

ARMS = {"dense": "dense", "click": "ClickTrain", "after": "after training", "gradual": "gradual"}
ROUNDS = 41
"""Training steps of each phase that are timed; odd, so that the median is one of them."""


def run(study: Study[Settings]) -> Outcome:
    """Train every arm for every seed, time steps and programs, state what came out."""
    settings = study.settings
    data = dataset(settings)
    seeds = {
        seed: study.step(f"seed {seed}", partial(compare, settings=settings, data=data, seed=seed))
        for seed in study.seeds
    }
    timed = study.step("step times", lambda step: step_seconds(settings, data, ROUNDS))
    first = seeds[study.seeds[0]]

    def program(step: Step) -> dict[str, Any]:
        model = network(settings, data, study.seeds[0])
        model.load_state_dict({k: first[f"weight {k}"] for k in model.state_dict()})
        sample = data.test.inputs
        structures = {name: parse(text) for name, text in first["click structures"].items()}
        dense = structured_graph(model.eval(), sample, {}, "dense")
        sparse = structured_graph(model, sample, structures, "click")
        return latencies(dense, sparse, settings.peers)

    programs = study.step("latency", program)
    found = list(seeds.values())
    claims = [
        *_costs(settings, found, run_seconds(settings, timed), network(settings, data, 0), data),
        *_accuracies(found),
        *_masking(found),
        _latency(programs, found[0]["click rate"]),
    ]
    return Outcome(claims, _tables(settings, found, timed, programs), _figure(settings, found))


def _costs(
    settings: Settings, found: list[dict[str, Any]], seconds: dict[str, float], model: ConvNet,
    data: Any,
) -> list[Claim]:  # fmt: skip
    epochs = [
        sum(f[f"{phase} epochs"] for phase in ("dense", "admm", "retrain")) / f["click epochs"]
        for f in found
    ]
    macs = [
        sum(f[f"{phase} macs"] for phase in ("dense", "admm", "retrain")) / f["click macs"]
        for f in found
    ]
    limit = (settings.epochs + 2 * settings.after) / settings.epochs
    formula = formula_macs(settings, model, data.test.inputs[:1], found[0]["click rate"])
    late = (settings.epochs - settings.mask_epoch) / settings.epochs
    saved = [100 * (1 - f["click kept"] / f["click macs"]) for f in found]
    bound = f"{limit:.3g}x, (E + E_admm + E_retrain) / E"
    return [
        Claim(
            claim="epochs of dense training + ADMM + retraining, over those of ClickTrain",
            published="up to about 67 % less end-to-end time than pruning after training, 3.0x "
            "(abstract)",
            measured=measured(epochs, "x"),
            limit=bound,
            basis=Basis.MEASURED,
            rule=at_least(limit),
            note="counted by the training loop; the ratio is chosen with the epochs",
        ),
        Claim(
            claim="multiply-accumulates of dense training + ADMM + retraining, over ClickTrain's",
            published="the same",
            measured=measured(macs, "x"),
            limit=bound,
            basis=Basis.MEASURED,
            rule=at_least(0.99 * limit),
            note="forward and backward as the dense kernels ran them; importance is estimated on "
            "ordinary steps and adds none",
        ),
        Claim(
            claim="wall time of dense training + ADMM + retraining, over ClickTrain's",
            published="the same",
            measured=measured(seconds["after"] / seconds["click"], "x"),
            limit=f"{bound}, times the cost of ADMM's steps",
            basis=Basis.MEASURED,
            rule=at_least(0.9 * limit),
            note="median steps of every phase, timed in turn, times the steps of the phase",
        ),
        Claim(
            claim="wall time of ClickTrain over dense training",
            published="no overhead (abstract)",
            measured=measured(seconds["click"] / seconds["dense"], "x"),
            limit="above 1 while convolutions stay dense: the lasso reads all weights once more",
            basis=Basis.MEASURED,
            rule=at_most(1.05),
            note="dense kernels; the paper's compiler runs sparse ones after e1",
        ),
        Claim(
            claim="training multiply-accumulates that sparse kernels would save",
            published="22.8 % by the formula for ResNet-32 at 8.6x (E=190, e2=141)",
            measured=measured(saved, "%"),
            limit=f"{100 * late * (1 - 1 / found[0]['click rate']):.3g} %, (E - e2)/E (1 - d)",
            basis=Basis.MODELLED,
            rule=at_least(95 * late * (1 - 1 / found[0]["click rate"])),
            note="products with weights that are zero from e2 on; not executed sparsely here",
        ),
        Claim(
            claim="counted over closed-form multiply-accumulates with sparse kernels",
            published="not published",
            measured=measured([f["click kept"] / formula for f in found], "x"),
            limit="1",
            basis=Basis.MODELLED,
            rule=between(0.99, 1.01),
            note="the closed form takes every layer at the rate of the pruned ones",
        ),
    ]


def _accuracies(found: list[dict[str, Any]]) -> list[Claim]:
    def points(better: str, worse: str) -> list[float]:
        return [100 * (f[f"{better} accuracy"] - f[f"{worse} accuracy"]) for f in found]

    rate = found[0]["click rate"]
    costs = [_cheapest(f) for f in found]
    gradual = measured(points("gradual", "click"), "points")
    early = (
        "likely it chooses too early: gradual pruning, which chooses until it ends, is "
        f"{gradual.text} better at the same epochs"
    )
    return [
        Claim(
            claim="multiply-accumulates of the cheapest other training that is pruned as much and "
            "no less accurate, over ClickTrain's",
            published="up to about 67 % less time than pruning after training at like accuracy",
            measured=measured(costs, "x"),
            limit="that of pruning after training, above",
            basis=Basis.MEASURED,
            rule=above_spread(1.0),
            note="of pruning after training and gradual pruning; test part",
            reason="gradual pruning is as accurate in as many epochs, so that nothing is saved",
        ),
        Claim(
            claim=f"accuracy that ClickTrain loses against dense training at {rate:.3g}x",
            published="VGG-13 on CIFAR-10 at 9.0x: 93.19 to 93.52 % (repository)",
            measured=measured(points("dense", "click"), "points"),
            limit="0, where the task needs every weight",
            basis=Basis.MEASURED,
            rule=at_most(1.5),
            note="equal epochs, initial weights and order of data; test part",
            reason=early,
        ),
        Claim(
            claim="accuracy of pruning after training minus that of ClickTrain, equal rate",
            published="comparable (abstract)",
            measured=measured(points("after", "click"), "points"),
            limit="none; the former trains twice as long",
            basis=Basis.MEASURED,
            rule=at_most(1.0),
            reason=early,
        ),
        Claim(
            claim="accuracy of ClickTrain minus that of gradual pruning, equal rate and epochs",
            published="up to 2.1 points smaller drop than the best pruning during training "
            "(abstract)",
            measured=measured(points("click", "gradual"), "points"),
            limit="none",
            basis=Basis.MEASURED,
            rule=above_spread(0.0),
            note="gradual magnitude pruning into the same structure, corner8g1",
            reason="likely it chooses too early: the one chooses after a third of the epochs, the "
            "other until it ends",
        ),
    ]


def _cheapest(found: dict[str, Any]) -> float:
    """Work of the cheapest arm no less accurate, over ClickTrain's; of the longest if none is."""
    after = sum(found[f"{phase} macs"] for phase in ("dense", "admm", "retrain"))
    others = {"gradual": found["gradual macs"], "after": after}
    good = [m for arm, m in others.items() if found[f"{arm} accuracy"] >= found["click accuracy"]]
    return float(min(good, default=after) / found["click macs"])


def _masking(found: list[dict[str, Any]]) -> list[Claim]:
    norms = [f["click norms"][0] / max(f["click norms"][1], 1e-12) for f in found]
    drops = [100 * (f["one-shot drop"] - f["click drop"]) for f in found]
    return [
        Claim(
            claim="norm of what is removed, when chosen over just before it is masked",
            published="not published",
            measured=measured(norms, "x"),
            limit="none; 1 without the group lasso",
            basis=Basis.MEASURED,
            rule=at_least(3.0),
        ),
        Claim(
            claim="accuracy lost on masking: one-shot patterns on the dense network minus "
            "ClickTrain, same epoch",
            published="not published",
            measured=measured(drops, "points"),
            limit="the accuracy of the network less chance",
            basis=Basis.MEASURED,
            rule=above_spread(0.0),
            note="validation part, no retraining in between",
        ),
    ]


def _latency(programs: dict[str, Any], rate: float) -> Claim:
    peer = "onnxruntime fp32"
    other = peer if peer in programs else "dense"
    name = "ONNX Runtime" if other == peer else "our own program"
    return Claim(
        claim=f"latency of the dense network in {name} over ClickTrain's in generated C",
        published="not published apart from phones",
        measured=measured(programs[other] / programs["sparse"], "x"),
        limit=f"{rate:.3g}x, the rate, less the dense first layer",
        basis=Basis.MEASURED,
        rule=at_least(1.0),
        note="batch 1, one thread, fp32, timed in turn",
    )


def _tables(
    settings: Settings, found: list[dict[str, Any]], timed: dict[str, Any], programs: dict[str, Any]
) -> list[Table]:
    rows = []
    for arm, name in ARMS.items():
        phases = ("dense", "admm", "retrain") if arm == "after" else (arm,)
        accuracy = measured([100 * f[f"{arm} accuracy"] for f in found], "%")
        rows.append((
            name,
            str(sum(found[0][f"{phase} epochs"] for phase in phases)),
            f"{sum(found[0][f'{phase} macs'] for phase in phases) / 1e12:.3g}",
            "1" if arm == "dense" else f"{found[0][f'{arm} rate']:.3g}",
            accuracy.text,
        ))  # fmt: skip
    return [
        Table(
            title="Trainings",
            columns=("arm", "epochs", "training TMACs", "rate", "test accuracy"),
            rows=tuple(rows),
        ),
        Table(
            title=f"One training step of {settings.batch} examples",
            columns=("phase", "ms"),
            rows=tuple((phase, f"{1e3 * seconds:.3g}") for phase, seconds in timed.items()),
        ),
        Table(
            title="Latency at batch 1",
            columns=("program", "us"),
            rows=tuple((name, f"{1e6 * seconds:.4g}") for name, seconds in programs.items()),
        ),
    ]


def _figure(settings: Settings, found: list[dict[str, Any]]) -> Any:
    drawn = figure(2)
    accuracies = {
        name: measured([100 * f[f"{arm} accuracy"] for f in found], "%")
        for arm, name in ARMS.items()
    }
    panel = axes(drawn, f"Accuracy on {settings.data}", "", "test accuracy, %", (1, 2, 1))
    bars(panel, {n: m.mean for n, m in accuracies.items()}, [m.spread for m in accuracies.values()])
    panel.set_ylim(bottom=max(0.0, min(m.mean for m in accuracies.values()) - 5))
    cost = {
        name: sum(
            found[0][f"{phase} macs"]
            for phase in (("dense", "admm", "retrain") if arm == "after" else (arm,))
        )
        / found[0]["dense macs"]
        for arm, name in ARMS.items()
    }
    bars(axes(drawn, "Training cost", "", "MACs, dense = 1", (1, 2, 2)), cost)
    return drawn


REPRODUCTION = Reproduction(
    name="clicktrain",
    title="pattern pruning inside one normal training run",
    source="C. Zhang et al., ICS 2021, arXiv 2011.10170",
    scales={
        "smoke": Settings(
            data="digits", entry="digits_resnet", examples=320, widths=(8, 16), epochs=6,
            lasso_epoch=2, mask_epoch=4, after=3, percent=40.0, strength=3e-2, peers=False,
        ),
        "standard": Settings(),
        "full": Settings(
            examples=20000, widths=(32, 64, 128), epochs=30, lasso_epoch=10, mask_epoch=22,
            after=15, strength=5e-4,
        ),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)  # fmt: skip
