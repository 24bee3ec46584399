"""`cofit graph navigate`: how to train on one graph within a budget of device memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cofit.cli.console import console, print_json, table
from cofit.cli.graph import RUNS
from cofit.core import ConfigError, format_quantity, parse_quantity
from cofit.fit import silent
from cofit.graphs import random_split
from cofit.graphs.halo import GraphJob
from cofit.graphs.minibatch import Device
from cofit.report import ProgressDisplay
from cofit.reproductions.gnnavigator import Grid, Guideline, Task, navigate, prepare
from cofit.reproductions.gnnavigator.navigator import weights_of
from cofit.search import Ledger


def graph_navigate_command(values: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Profile, predict, explore, and print the guideline.

    Args:
        values: graph, memory, priority, profiles, epochs, model, hidden, bandwidth, latency, split
            and seed, as they were given.
        out: folder of the ledger; by default named after the task.
        as_json: print the guideline as JSON and nothing else.

    Raises:
        ConfigError: a value out of range.
        InfeasibleError: nothing fits the memory.
        CofitError: the graph cannot be had, or the folder holds another task's profiles.
    """
    weights_of(values["priority"])
    memory = int(parse_quantity(values["memory"], "bytes"))
    if not values["bandwidth"].endswith("/s"):
        raise ConfigError(f"bandwidth {values['bandwidth']!r}; write for example 2GB/s")
    device = Device(
        parse_quantity(values["bandwidth"].removesuffix("/s"), "bytes"),
        parse_quantity(values["latency"], "time"),
        memory,
    )
    if values["epochs"] < 1 or values["hidden"] < 1:
        raise ConfigError("epochs and hidden must be positive")
    name, seed = values["graph"], values["seed"]
    graph = GraphJob(name, split=values["split"], model=values["model"]).data
    if values["resplit"]:
        graph = random_split(graph, 0.5, 0.25, values["split"])
    grid = Grid(model=values["model"], hidden=(values["hidden"],))
    task = Task(graph, device, grid, values["epochs"], seed=seed)
    words = (name, values["model"], str(values["hidden"]), values["bandwidth"], values["latency"],
             f"epochs{values['epochs']}", f"split{values['split']}", f"seed{seed}",
             *(["resplit"] if values["resplit"] else []))  # fmt: skip
    folder = out or RUNS / "-".join(["navigate", *(re.sub(r"[^\w.+]", "_", w) for w in words)])
    ledger = Ledger(folder / "ledger.sqlite")
    try:
        _belongs(ledger, " ".join(words))
        if as_json:
            explored = prepare(task, values["profiles"], ledger, silent)
        else:
            with ProgressDisplay() as display:
                explored = prepare(task, values["profiles"], ledger, display.update)
    finally:
        ledger.close()
    guideline = navigate(explored, values["priority"])
    if as_json:
        print_json({"format": "cofit.guideline", "version": 1, "graph": name,
                    **guideline.document()})  # fmt: skip
    else:
        _print(name, guideline, folder)


def _belongs(ledger: Ledger, task: str) -> None:
    """Refuse a ledger of another task: its measurements would be taken for this one's."""
    path = Path(ledger.path).with_name("task.txt")
    if path.exists() and path.read_text() != task:
        raise ConfigError(
            f"{str(path.parent)!r} holds profiles of another task; choose another --out, or "
            "remove the folder"
        )
    path.write_text(task)


def _print(name: str, guideline: Guideline, folder: Path) -> None:
    g, out = guideline, console()

    def interval(values: tuple[float, float, float], dimension: Any) -> str:
        value, low, high = (format_quantity(v, dimension) for v in values)
        return f"{value} ({low} to {high})"

    budget = format_quantity(g.memory_budget_bytes, "bytes")
    default_memory = format_quantity(g.default_memory_bytes, "bytes")
    even = "never" if g.break_even_epochs is None else f"after {g.break_even_epochs:.0f} epochs"
    rows = [
        ("train with", g.configuration.text),
        ("link", g.link),
        ("time per epoch", f"{interval(g.epoch_s, 'time')}; default measured "
         f"{format_quantity(g.default_epoch_s, 'time')}"),
        ("device memory", f"{interval(g.memory_bytes, 'bytes')} of {budget}; default "
         f"{default_memory}"),
        ("accuracy", f"{interval(g.accuracy, 'fraction')} on validation nodes after {g.epochs} "
         f"epochs; default {format_quantity(g.default_accuracy, 'fraction')}"),
        ("bound", g.bound),
        ("reason", g.reason),
        ("search", f"{g.size:,} configurations in the model, {g.visited:,} prefixes and "
         f"configurations visited, {g.evaluated:,} predicted"),
        ("pays", f"{even}: profiling took {format_quantity(g.profiling_s, 'time')}"),
    ]  # fmt: skip
    out.print(f"{name}: predicted guideline, priority {g.priority}")
    out.print(table(("", ""), rows))
    out.print(f"profiles: {folder / 'ledger.sqlite'}")
