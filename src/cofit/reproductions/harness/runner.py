"""Finding reproductions by name, and running one."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import asdict
from pathlib import Path

import torch

from cofit.core import ConfigError, UnknownNameError, atomic_write, read_json, write_json
from cofit.reproductions.harness.contract import AnyReproduction
from cofit.reproductions.harness.outcome import Finding, Scale, environment
from cofit.reproductions.harness.study import Progress, Study, identity

_ROOM = "cofit.reproductions"
THREADS = 2
"""Torch threads of every run, so that results do not depend on the machine's cores."""


def known_reproductions() -> tuple[str, ...]:
    """Names of all reproductions, sorted."""
    path = importlib.import_module(_ROOM).__path__
    return tuple(
        sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(path) if m.name != "harness")
    )


def reproduction(name: str) -> AnyReproduction:
    """The reproduction of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in known_reproductions():
        raise UnknownNameError("reproduction", name, known_reproductions())
    found: AnyReproduction = importlib.import_module(
        f"{_ROOM}.{name.replace('-', '_')}"
    ).REPRODUCTION
    return found


def reproduce(name: str, scale: Scale, folder: Path, progress: Progress) -> Finding:
    """Run a reproduction, or what is left of it; stored findings are given as they are.

    Args:
        name: see `known_reproductions`.
        scale: "smoke", "standard" or "full".
        folder: of `finding.json`, `figure.svg` and the finished steps; another run's is refused.
        progress: called with (stage, done, total).

    Raises:
        UnknownNameError: no such reproduction.
        ConfigError: the folder holds a run with other settings.
        DataError: data that the scale needs are not there.
    """
    chosen = reproduction(name)
    settings, seeds = chosen.scales[scale], chosen.seeds[scale]
    mark = identity(name, scale, asdict(settings), seeds)
    marked = folder / "run.json"
    if marked.exists() and read_json(marked) != mark:
        raise ConfigError(
            f"folder {str(folder)!r} holds a run with other settings; remove it or choose "
            "another with --out"
        )
    finished = folder / "finding.json"
    if finished.exists():
        return Finding.model_validate(read_json(finished))
    write_json(marked, mark)
    study = Study(scale, settings, seeds, folder, progress)
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        outcome = chosen.run(study)
    finally:
        torch.set_num_threads(threads)
    device, versions = environment()
    finding = Finding(
        name=name, title=chosen.title, source=chosen.source, scale=scale,
        settings=asdict(settings), seeds=seeds, claims=tuple(outcome.claims),
        tables=tuple(outcome.tables), seconds=study.seconds(), device=device, versions=versions,
    )  # fmt: skip
    with atomic_write(folder / "figure.svg") as file:
        outcome.figure.savefig(file, format="svg", metadata={"Date": None}, bbox_inches="tight")
    write_json(finished, finding.model_dump(mode="json"))
    return finding


def state(folder: Path) -> str:
    """In words, where the run in a folder is: for example "5 of 6 claims hold (standard)"."""
    if (folder / "finding.json").exists():
        finding = Finding.model_validate(read_json(folder / "finding.json"))
        return f"{finding.held} of {len(finding.claims)} claims hold"
    if (folder / "run.json").exists():
        steps = len(list((folder / "steps").glob("*.json")))
        return f"interrupted after {steps} steps"
    return "not run here"
