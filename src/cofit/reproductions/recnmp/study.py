"""The run: every trace through every arm, scaling, caches, the software twin, and a whole model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from cofit.core import numpy_generator
from cofit.reproductions.harness import Step, Study, seeded
from cofit.reproductions.recnmp import traces
from cofit.reproductions.recnmp.arms import HELD_OUT, every_arm
from cofit.reproductions.recnmp.clicks import DENSE, criteo_clicks, judged, planted, trained
from cofit.reproductions.recnmp.dlrm import DLRM, pooled_near_memory, seconds_apart
from cofit.reproductions.recnmp.shared import ALPHA, colours, together
from cofit.reproductions.recnmp.twin import Twin, race_variants, random_table
from cofit.targets.memory import (
    Bags,
    Placement,
    bags_of,
    lru_hits,
    memory_system,
    packets,
    place,
    rank_hits,
    simulate_host,
    simulate_near,
    stack_distances,
)

Results = dict[str, Any]
PRODUCTION_CACHES = tuple(size << 20 for size in (8, 16, 32, 64))
"""Bytes of the caches that production traces were published for."""


@dataclass(frozen=True)
class Settings:
    """How much is done.

    Attributes:
        alphas: exponents of the Zipf traces.
        real: whether traces of real data are run too.
        tables: of the synthetic traces.
        rows: of every table.
        lookups: per table.
        pooling: lookups per bag.
        batch: bags per table and batch.
        vectors: bytes of a vector; all traces are run with the first, the Zipf traces with all.
        caches: bytes per rank, of the table of cache sizes.
        timed: lookups of the trace that the simulator is timed on.
        twin_rows: rows of a table of the software twin.
        repeats: of timed runs.
        users: of a batch of the recommendation model.
        model_rows: rows of its tables.
        trained_users: clicks that the model is trained on.
        trained_rows: rows of each of its tables.
        epochs: of that training.
        threshold: of the twin's profile.
    """

    alphas: tuple[float, ...]
    real: bool
    tables: int
    rows: int
    lookups: int
    pooling: int
    batch: int
    vectors: tuple[int, ...]
    caches: tuple[int, ...]
    timed: int
    twin_rows: int
    repeats: int
    users: int
    model_rows: int
    trained_users: int
    trained_rows: int
    epochs: int
    threshold: int = 4


def trace(settings: Settings, name: str, seed: int) -> Bags:
    """A trace by its name in the tables."""
    s = settings
    common = (s.tables, s.rows, s.lookups, s.pooling, s.batch, seed)
    if name.startswith("zipf "):
        return traces.zipf(float(name.removeprefix("zipf ")), *common)
    if name == "criteo, resampled":
        return traces.resampled(*common)
    if name == "criteo":
        return traces.criteo(s.rows, 20, 16)
    if name == "words":
        return traces.words(40, s.batch, seed)
    return traces.neighbours(s.batch, seed)


def trace_names(settings: Settings) -> tuple[str, ...]:
    """Traces of a scale."""
    synthetic = tuple(f"zipf {alpha:g}" for alpha in settings.alphas)
    real = ("criteo", "criteo, resampled", "words", "graph neighbours")
    return synthetic + (real if settings.real else ())


def cases(settings: Settings) -> tuple[tuple[str, int], ...]:
    """Traces with the bytes of their vectors."""
    first, *others = settings.vectors
    names = trace_names(settings)
    wider = [(name, size) for name in names if name.startswith("zipf") for size in others]
    return (*((name, first) for name in names), *wider)


def arms(study: Study[Settings], seed: int) -> dict[tuple[str, int], Results]:
    """All arms of all cases, a step each."""
    found = {}
    for name, vector in cases(study.settings):

        def compute(_: Step, name: str = name, vector: int = vector) -> Results:
            return every_arm(trace(study.settings, name, seed), vector, memory_system(), seed)

        label = f"{name} {vector} B seed {seed}".replace(",", "")
        found[name, vector] = study.step(label, compute)
    return found


def scaling(settings: Settings, seed: int, _: Step) -> Results:
    """Cycles of uniform lookups by ranks: balanced, and on random pages."""
    found: Results = {"ranks": [1, 2, 4, 8], "balanced": [], "random": [], "host": []}
    count = 2 * settings.lookups // 8 * 8
    generator = numpy_generator(seed, "recnmp", "scaling")
    for ranks in found["ranks"]:
        memory = memory_system().with_ranks(ranks)
        stream = generator.integers(settings.rows, size=count)
        # page p of the balanced table lies in rank p mod ranks, and lookups take ranks in turn
        per_page = memory.geometry.page_bytes // settings.vectors[0]
        pages = settings.rows // per_page // 8 * 8
        turn = generator.integers(pages // ranks, size=count) * ranks + np.arange(count) % ranks
        even = turn * per_page + generator.integers(per_page, size=count)
        drawn = place((settings.rows,), settings.vectors[0], memory, generator)
        frames = drawn.frames[0] // ranks * ranks + np.arange(len(drawn.frames[0])) % ranks
        balanced = Placement(memory, settings.vectors[0], (frames,))
        for name, where, rows in (("balanced", balanced, even), ("random", drawn, stream)):
            bags = bags_of([rows], [settings.rows], settings.pooling, settings.batch)
            found[name].append(simulate_near(packets(bags, 8), where).cycles / bags.lookups)
        bags = bags_of([stream], [settings.rows], settings.pooling, settings.batch)
        found["host"].append(simulate_host(packets(bags, 8), drawn).cycles / bags.lookups)
    return found


def caches(settings: Settings, name: str, seed: int, _: Step) -> Results:
    """Hit rates by size: of the ranks' caches together, and of one cache as published."""
    bags, vector = trace(settings, name, seed), settings.vectors[0]
    distances = stack_distances(bags.ids)
    memory = memory_system()
    placement = place(bags.rows, vector, memory, numpy_generator(seed, "recnmp", "caches"))
    rank = placement.locate(bags).rank
    large = [((0 <= distances) & (distances < size // vector)) for size in PRODUCTION_CACHES]
    return {
        "rank": [
            float(rank_hits(bags.ids, rank, size // vector, None).mean())
            for size in settings.caches
        ],
        "one": [float(hit.mean()) for hit in large],
        "share": memory.geometry.ranks * memory.near.cache_bytes / vector / sum(bags.rows),
        "own": float(
            lru_hits(bags.ids, memory.geometry.ranks * memory.near.cache_bytes // vector).mean()
        ),
    }


def simulated_rate(settings: Settings, step: Step) -> Results:
    """Lookups per second of the simulators, on this machine."""
    bags = traces.zipf(0.9, 1, settings.rows, settings.timed, settings.pooling, settings.batch, 0)
    placement = place(bags.rows, settings.vectors[0], memory_system(), numpy_generator(0, "rate"))
    order = packets(bags, 8)
    found: Results = {"host": [], "near": []}
    for repeat in range(settings.repeats):
        step.progress("timed runs", repeat, settings.repeats)
        for name, run in (("host", simulate_host), ("near", simulate_near)):
            start = time.perf_counter()
            run(order, placement)
            found[name].append(bags.lookups / (time.perf_counter() - start))
    return found


def twin(settings: Settings, _: Step) -> Results:
    """Wall-clock times of the software twin on a Zipf trace."""
    s = settings
    bags = traces.zipf(1.05, s.tables, s.twin_rows, s.lookups, s.pooling, s.batch, 0)
    sent = packets(bags, 1).bags
    table = random_table(s.tables * s.twin_rows, s.vectors[0] // 4, 0)
    found = race_variants(Twin(table, sent, s.threshold), s.repeats)
    return {**found, "bytes": table.nbytes}


def model(settings: Settings, _: Step) -> Results:
    """Share of pooling in a recommendation model, and the largest error of near-memory sums."""
    rows = (settings.model_rows,) * settings.tables
    width = settings.vectors[0] // 4
    network = seeded(lambda: DLRM(rows, DENSE, width, 128), 0, "recnmp").eval()
    generator = numpy_generator(0, "recnmp", "model")
    placement = place(rows, settings.vectors[0], memory_system(), generator)
    indices = torch.from_numpy(generator.integers(rows[0], size=(16, len(rows), 20)))
    dense = torch.from_numpy(generator.standard_normal((16, 13), np.float32))
    with torch.no_grad():
        expected = network(dense, indices)
        found = network.score(dense, pooled_near_memory(network, indices, placement))
    error = float((found - expected).abs().max() / expected.abs().max())
    return {
        **seconds_apart(network, settings.users, settings.pooling, settings.repeats),
        "error": error,
    }


def shared(settings: Settings, seed: int, _: Step) -> Results:
    """Models that share the memory, and tables on random pages or in ranks of their own."""
    s, memory = settings, memory_system()
    each = min(s.lookups, HELD_OUT * s.batch * s.pooling)  # batches to judge, one to choose on
    bags = traces.zipf(ALPHA, s.tables, s.rows, each, s.pooling, s.batch, seed)
    return {
        "models": together(s.rows, each, s.pooling, s.batch, s.vectors[0], memory, seed),
        "colours": colours(bags, s.vectors[0], memory, seed),
    }


def clicks(settings: Settings, step: Step) -> Results:
    """A model trained on clicks, judged with the sums of torch and of the units."""
    s, memory = settings, memory_system()
    width, held_out = s.vectors[0] // 4, max(s.trained_users // 10, 200)
    drawn = planted(s.trained_users + held_out, s.tables, s.trained_rows, s.pooling // 4, 0)
    sets = {"planted": (drawn.part(0, s.trained_users), drawn.part(s.trained_users, len(drawn)))}
    if s.real:
        sets["criteo"] = criteo_clicks(s.trained_rows)
    found: Results = {}
    for name, (train, test) in sets.items():
        rows = (s.trained_rows,) * train.indices.shape[1]
        network = seeded(partial(DLRM, rows, DENSE, width, 64), 0, "recnmp", name).eval()
        untrained = judged(network, test, memory, 0)["torch"]
        trained(network, train, s.epochs, 0, step.progress)
        found[name] = {**judged(network, test, memory, 0), "untrained": untrained}
    return found


def run_steps(study: Study[Settings]) -> Results:
    """Everything, step by step."""
    settings = study.settings
    cached = {
        name: [study.step(
            f"caches {name} seed {seed}".replace(",", ""), partial(caches, settings, name, seed)
        ) for seed in study.seeds]
        for name in trace_names(settings)
    }  # fmt: skip
    return {
        "arms": [arms(study, seed) for seed in study.seeds],
        "scaling": [
            study.step(f"scaling seed {seed}", partial(scaling, settings, seed))
            for seed in study.seeds
        ],
        "caches": cached,
        "shared": [
            study.step(f"shared seed {seed}", partial(shared, settings, seed))
            for seed in study.seeds
        ],
        "clicks": study.step("clicks", partial(clicks, settings)),
        "rate": study.step("simulator", partial(simulated_rate, settings)),
        "twin": study.step("twin", partial(twin, settings)),
        "model": study.step("model", partial(model, settings)),
    }
