"""What is measured: profiles, an exhaustive sub-grid, templates, and trainings to the end."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cofit.graphs import (
    Graph,
    GraphRecipe,
    evaluate,
    load_graph,
    random_split,
    reddit_like,
    train_graph,
)
from cofit.graphs.minibatch import (
    TEMPLATES,
    CachedLoader,
    Configuration,
    Device,
    Metered,
    hit_rate,
    network,
)
from cofit.reproductions.gnnavigator.estimator import Estimator, Profile
from cofit.reproductions.gnnavigator.grid import Grid
from cofit.reproductions.gnnavigator.navigator import PRIORITIES, Explored, Task, navigate
from cofit.reproductions.harness import Step, Study
from cofit.search import Ledger, RandomSearch, explore

Results = dict[str, Any]
POWER_LAW = "power-law"
FEATURES = 128
"""Of the generated graph."""


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        graphs: names of published graphs, or "power-law".
        nodes: of the generated graph.
        profiles: per graph and seed.
        epochs: after which accuracies are compared while profiling.
        final_epochs: of the trainings that are compared.
        trained: graphs on which these are done.
        sub_batches: of the sub-grid that is measured exhaustively.
        sub_fanouts: see above.
        sub_ratios: of its caches, static by degree and LRU.
        budget: of device memory over what the default needs.
        batches: of the grid.
        ratios: of its caches.
        biases: towards them.
    """

    graphs: tuple[str, ...]
    nodes: int
    profiles: int = 14
    epochs: int = 3
    final_epochs: int = 8
    trained: tuple[str, ...] = (POWER_LAW,)
    sub_batches: tuple[int, ...] = (256, 512, 1024, 2048)
    sub_fanouts: tuple[tuple[int, ...], ...] = ((5, 5), (5, 10), (10, 10), (10, 25))
    sub_ratios: tuple[float, ...] = (0.3,)
    budget: float = 0.8
    batches: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    ratios: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5)
    biases: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)


def graph_of(settings: Settings, name: str) -> Graph:
    """A graph by its name in the tables; half of the nodes train, a quarter validates."""
    if name == POWER_LAW:
        return reddit_like(
            settings.nodes, classes=8, degree=16, features=FEATURES, noise=0.6, seed=0
        )
    return random_split(load_graph(name), 0.5, 0.25, seed=0)


def sub_grid(settings: Settings) -> Grid:
    """The grid that is measured exhaustively: every configuration, each a few batches."""
    return Grid(
        batch_size=settings.sub_batches, fanouts=settings.sub_fanouts,
        cache_policy=("degree", "lru"), cache_ratio=settings.sub_ratios, bias=(0.0,),
        feature_bits=(32,), prefetch=(0,),
    )  # fmt: skip


def task_of(settings: Settings, name: str, seed: int, memory_bytes: int | None = None) -> Task:
    """The task of one graph and seed on the default device."""
    device = Device(memory_bytes=memory_bytes)
    grid = Grid(batch_size=settings.batches, cache_ratio=settings.ratios, bias=settings.biases)
    return Task(graph_of(settings, name), device, grid, settings.epochs, seed=seed)


def profiling(settings: Settings, name: str, seed: int, step: Step) -> Results:
    """Random configurations of the whole grid and the templates of published systems."""
    task = task_of(settings, name, seed)
    step.folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(step.folder / "ledger.sqlite")
    space = task.grid.space
    found = explore(
        space, RandomSearch(space, seed), lambda c: task.profiled(task.grid.configuration(c)),
        settings.profiles, ledger, "profiles", partial(step.progress, "profile"),
    )  # fmt: skip
    rows = [
        {"configuration": task.grid.configuration(e.candidate).document(),
         "values": dict(e.outcome.values), "seconds": e.seconds}
        for e in found
    ]  # fmt: skip
    ledger.close()
    default = task.profiled(TEMPLATES["PyG"])
    return {"profiles": rows, "default": dict(default.values)}


def exhausting(settings: Settings, name: str, seed: int, step: Step) -> Results:
    """Every configuration of the sub-grid, with other batches than the profiles."""
    task = task_of(settings, name, 100 + seed)
    grid = sub_grid(settings)
    candidates = list(grid.space)
    rows = []
    for done, candidate in enumerate(candidates, start=1):
        configuration = grid.configuration(candidate)
        measured = task.measured(configuration)
        rows.append({"candidate": list(candidate), "values": measured.document()})
        step.progress("sub-grid", done, len(candidates))
    return {"rows": rows}


def templates(settings: Settings, name: str, step: Step) -> Results:
    """A few batches of every template, in turn and back, twice; the fastest of each."""
    task = task_of(settings, name, 200)
    found: Results = {}
    order = [*TEMPLATES, *reversed(TEMPLATES)] * 2
    for done, label in enumerate(order, start=1):
        measured = task.measured(TEMPLATES[label]).document()
        if label not in found or measured["step_s"] < found[label]["step_s"]:
            found[label] = measured
        step.progress("templates", done, len(order))
    return found


def training(
    settings: Settings,
    name: str,
    seed: int,
    arms: dict[str, Configuration],
    step: Step,
) -> Results:
    """Whole trainings of some arms for the same epochs; scores at the last epoch.

    The device has no end of its memory, so that what a guideline needs is measured in any case.
    """
    graph = graph_of(settings, name)
    found: Results = {}
    for arm, configuration in arms.items():
        loader = CachedLoader(graph, configuration, Device(), seed)
        recipe = GraphRecipe(settings.final_epochs, 0.01, evaluate_every=settings.final_epochs)
        trained = train_graph(
            network(graph, configuration, seed), loader, recipe,
            evaluate=partial(evaluate, graph=graph), seed=seed, regime=Metered(loader),
            progress=step.progress, stage=arm,
        )  # fmt: skip
        assert trained.scores is not None
        steps = len(loader)
        epochs = [loader.log[i : i + steps] for i in range(0, len(loader.log), steps)]
        found[arm] = {
            "epoch_s": statistics.median(sum(p.wall_s for p in e) for e in epochs),
            "peak_bytes": loader.arena.peak_bytes,
            "validation": trained.scores.validation,
            "test": trained.scores.test,
            "hit_rate": hit_rate(loader.log),
            "feature_bytes": sum(p.feature_bytes for p in loader.log) / len(epochs),
            "fill_bytes": loader.fill_bytes,
            "transfer_s": sum(p.transfer_s for p in loader.log) / len(epochs),
        }
    return found


def guiding(
    settings: Settings, name: str, seed: int, seen: Sequence[Profile], own: Results, step: Step
) -> Results:
    """Guidelines of every priority within the budget, and the pruned search against all of it.

    Where nothing is predicted to fit, the budget is the least that is.

    Args:
        settings: of the study.
        name: of the graph.
        seed: of its profiles.
        seen: profiles that the estimator learns from, the graph's own ones last.
        own: stored profiling of the graph and seed.
        step: where it is.
    """
    default = own["default"]
    closed = seen[-1].closed
    objectives = (default["steps"] * default["step_s"], float(default["peak_bytes"]),
                  max(1 - default["accuracy"], 1e-3))  # fmt: skip
    spent = sum(row["seconds"] for row in own["profiles"])

    def within(memory_bytes: int) -> Explored:
        task = task_of(settings, name, seed, memory_bytes)
        return Explored(task, closed, Estimator(seen, task.open_device, seed), objectives, spent)

    budget = math.ceil(settings.budget * default["peak_bytes"])
    explored = within(budget)
    least = min(values[1] for values in explored.search(math.inf).objectives)
    if least > budget:  # features so wide that the smallest batch needs nearly all
        budget = math.ceil(least)
        explored = within(budget)
    pruned, every = explored.search(budget), explored.search(budget, pruned=False)
    guidelines = {}
    for done, priority in enumerate(PRIORITIES, start=1):
        guidelines[priority] = navigate(explored, priority).document()
        step.progress("priorities", done, len(PRIORITIES))
    return {
        "budget": budget, "guidelines": guidelines, "same": pruned.front == every.front,
        "visited": pruned.visited, "evaluated": pruned.evaluated, "all_visited": every.visited,
        "all": every.evaluated,
    }  # fmt: skip


def measured_steps(study: Study[Settings]) -> tuple[dict[str, list[Results]], ...]:
    """Profiles and sub-grids of all graphs and seeds."""
    settings = study.settings

    def every(label: str, work: Any, seeds: Sequence[int]) -> dict[str, list[Results]]:
        return {
            name: [
                study.step(f"{label} {name} {seed}", partial(work, settings, name, seed))
                for seed in seeds
            ]
            for name in settings.graphs
        }

    return every("profiles", profiling, study.seeds), every("subgrid", exhausting, study.seeds)
