"""GNNavigator: a graph network's training configuration from a model of its cost."""

from __future__ import annotations

from functools import partial

from cofit.graphs.minibatch import TEMPLATES, ClosedForm, Configuration, Device
from cofit.reproductions.gnnavigator.claims import Found, choices, claims, drawing, tables
from cofit.reproductions.gnnavigator.estimator import Estimator, Profile
from cofit.reproductions.gnnavigator.grid import Grid
from cofit.reproductions.gnnavigator.judge import hold_out
from cofit.reproductions.gnnavigator.navigator import (
    PRIORITIES,
    Explored,
    Guideline,
    Task,
    navigate,
    prepare,
    profile_of,
)
from cofit.reproductions.gnnavigator.study import (
    POWER_LAW,
    Results,
    Settings,
    graph_of,
    guiding,
    measured_steps,
    templates,
    training,
)
from cofit.reproductions.harness import Outcome, Reproduction, Study
from cofit.search import Outcome as Measured

__all__ = [
    "PRIORITIES",
    "REPRODUCTION",
    "Estimator",
    "Explored",
    "Grid",
    "Guideline",
    "Profile",
    "Task",
    "navigate",
    "prepare",
]
TRAINED = ("time", "balanced", "time-memory", "memory-accuracy")
"""Priorities whose guidelines are trained to the end."""


def run(study: Study[Settings]) -> Outcome:
    """Measure, learn, choose, train, and state the claims."""
    settings = study.settings
    stored, exhausted = measured_steps(study)
    closed = {name: ClosedForm(graph_of(settings, name)) for name in settings.graphs}
    profiles = {
        name: [_profiles(closed[name], own) for own in stored[name]] for name in settings.graphs
    }
    guided: dict[str, list[Results]] = {name: [] for name in settings.graphs}
    for name in settings.graphs:
        others = [p for o in settings.graphs if o != name for own in profiles[o] for p in own]
        for place, seed in enumerate(study.seeds):
            seen = [*others, *profiles[name][place]]
            guided[name].append(study.step(
                f"guidelines {name} {seed}",
                partial(guiding, settings, name, seed, seen, stored[name][place]),
            ))  # fmt: skip
    shown = {
        name: study.step(f"templates {name}", partial(templates, settings, name))
        for name in settings.graphs
    }
    trained: dict[str, list[Results]] = {name: [] for name in settings.trained}
    for name in settings.trained:
        for place, seed in enumerate(study.seeds):
            found = guided[name][place]
            arms = dict(TEMPLATES) | {
                priority: Configuration.of(found["guidelines"][priority]["configuration"])
                for priority in TRAINED
            }
            trained[name].append(study.step(
                f"training {name} {seed}",
                partial(training, settings, name, seed, arms),
            ))  # fmt: skip
    everything = Found(closed, profiles, exhausted, guided, shown, trained)
    for name in settings.graphs:
        everything.chosen[name] = [
            choices(settings, everything, name, place) for place in range(len(study.seeds))
        ]
    held = [hold_out(everything.every, Device(), seed) for seed in study.seeds]
    return Outcome(
        claims(settings, study.seeds, everything, held), tables(settings, everything),
        drawing(everything, held[0]),
    )  # fmt: skip


def _profiles(closed: ClosedForm, own: Results) -> list[Profile]:
    return [
        profile_of(closed, Configuration.of(row["configuration"]), Measured(None, row["values"]))
        for row in own["profiles"]
    ]


REPRODUCTION = Reproduction(
    name="gnnavigator",
    title="training configurations of graph networks from a gray-box model",
    source="T. Qiao et al., DAC 2024, arXiv 2404.09544",
    scales={
        "smoke": Settings(
            graphs=(POWER_LAW,), nodes=600, profiles=10, epochs=1, final_epochs=2,
            sub_batches=(64, 150), sub_fanouts=((5, 5), (10, 10)), sub_ratios=(0.5,),
            batches=(64, 128, 256), ratios=(0.2,), biases=(0.0, 0.5),
        ),
        "standard": Settings(
            graphs=("cora_npz", "citeseer_npz", "tolokers", POWER_LAW), nodes=12_000,
        ),
        "full": Settings(
            graphs=("cora_npz", "citeseer_npz", "tolokers", POWER_LAW), nodes=50_000, profiles=40,
            epochs=8, final_epochs=20, trained=("cora_npz", "citeseer_npz", "tolokers", POWER_LAW),
        ),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)  # fmt: skip
