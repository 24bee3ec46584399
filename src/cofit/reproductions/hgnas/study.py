"""The steps: measure designs, learn to predict, train supernets, search, train winners, race."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import torch
from scipy.stats import kendalltau, mannwhitneyu
from torch import nn

from cofit.core import numpy_generator
from cofit.data import Dataset
from cofit.fit.peers import race
from cofit.graphs.points import (
    ACCELERATOR_LIKE,
    DGCNN,
    PI_LIKE,
    Genes,
    PointNetwork,
    Supernet,
    allocated_peak_bytes,
    dgcnn_costs,
    parse,
    spell,
)
from cofit.regimes import Recipe
from cofit.reproductions.harness import Step, Study, seeded, train
from cofit.reproductions.harness.study import Results
from cofit.reproductions.hgnas.clouds import accuracy, cloud_data
from cofit.reproductions.hgnas.machine import Machine, kept, restore
from cofit.reproductions.hgnas.measuring import FLOOR
from cofit.reproductions.hgnas.searching import (
    Bounds,
    SharedAccuracy,
    leaders,
    search,
    search_functions,
)
from cofit.reproductions.hgnas.settings import Settings
from cofit.reproductions.hgnas.space import (
    Functions,
    function_space,
    genes_of,
    magnitudes,
    type_space,
)
from cofit.search import Evolution, Ledger, RandomSearch, Space, Strategy, best

ACCURATE, FAST = 0.1, 0.5
"""Weights of latency."""
TARGETS = (PI_LIKE, ACCELERATOR_LIKE)
BATCH = 32


class Search:
    """One run's steps; each gives what its study has stored or computes it.

    Args:
        study: keeps what is found.
    """

    def __init__(self, study: Study[Settings]) -> None:
        self.study, self.settings, self.setting = study, study.settings, study.settings.setting
        self.limits, self.machine = self.setting.limits, Machine(study)

    @cache  # noqa: B019
    def data(self, name: str) -> Dataset:
        """Clouds of a data set."""
        s = self.settings
        return cloud_data(name, s.n, s.train, s.held, s.tested)

    @contextmanager
    def ledger(self, name: str) -> Iterator[Ledger]:
        """A file of evaluations that outlives an interrupted step."""
        with closing(Ledger(self.study.folder / f"{name}.sqlite")) as ledger:
            yield ledger

    def supernet(self, name: str, space: Space) -> Supernet:
        """Trained over a space; its weights are kept."""

        def draw(step: int) -> Genes:
            return genes_of(space, space.sample(numpy_generator(0, "paths", name, step)))

        def build() -> Supernet:
            limits, setting = self.limits, self.setting
            return Supernet(limits.length, 2 * limits.widest, max(limits.combine),
                            setting.classes, setting.k, draw)  # fmt: skip

        def compute(step: Step) -> Mapping[str, Any]:
            recipe = Recipe(self.settings.supernet_epochs, 3e-3, "adam")
            model = seeded(build, 0, name)
            trained, _ = train(step, model, self._first, recipe, 0, size=BATCH, channels_last=False)
            return kept("net", trained)

        supernet = build()
        restore("net", supernet, self.study.step(f"supernet of {name}", compute))
        return supernet

    @property
    def _first(self) -> Dataset:
        return self.data(self.settings.data[0])

    def shared(self, supernet: Supernet) -> SharedAccuracy:
        """Accuracies with a supernet's weights."""
        return SharedAccuracy(supernet, self._first.train.inputs[:64], self._first.validation)

    @cache  # noqa: B019
    def functions(self) -> tuple[Functions, Functions]:
        """Stage 1."""
        s = self.settings

        def compute(step: Step) -> Mapping[str, Any]:
            space = function_space(self.limits)
            accuracies = self.shared(self.supernet("functions", self.machine.space))
            with self.ledger("functions") as ledger:
                upper, lower = search_functions(
                    space, RandomSearch(space, 0), self.limits, accuracies, s.function_settings,
                    s.function_designs,
                    lambda types, i: types.sample(numpy_generator(0, "types", i)), ledger,
                )  # fmt: skip
            return {"upper": asdict(upper), "lower": asdict(lower)}

        found = self.study.step("function search", compute)
        return Functions(**found["upper"]), Functions(**found["lower"])

    @cache  # noqa: B019
    def types(self) -> tuple[Space, SharedAccuracy]:
        """The space of stage 2, and its supernet's accuracies."""
        space = type_space(*self.functions(), self.limits)
        return space, self.shared(self.supernet("operations", space))

    def evolution(self, space: Space, seed: int) -> Evolution:
        """As all searches of stage 2 use it."""
        size = self.settings.population
        return Evolution(space, seed, size, max(1, size // 4), 0.15, 0.3)

    def winners(self, seed: int) -> Results:
        """Stage 2 for this machine: designs by name, and the leaders that are measured again."""
        s = self.settings

        def compute(step: Step) -> Mapping[str, Any]:
            space, accuracies = self.types()
            costs = self.machine.host_costs()
            searches: dict[str, tuple[Strategy, float]] = {
                "HGNAS-Acc": (self.evolution(space, seed), ACCURATE),
                "HGNAS-Fast": (self.evolution(space, seed), FAST),
                "random": (RandomSearch(space, seed), ACCURATE),
            }
            top: dict[str, list[str]] = {}
            with self.ledger(f"search{seed}") as ledger:
                for name, (strategy, beta) in searches.items():
                    tried = search(space, strategy, costs, self.machine.bounds(beta), accuracies,
                                   s.evaluations, ledger, name)  # fmt: skip
                    top[name] = [spell(genes_of(space, c)) for c in leaders(tried, 5)]
                    step.progress("searches", len(top), len(searches))
            returned = dict.fromkeys(text for texts in top.values() for text in texts)
            designs = {name: texts[0] for name, texts in top.items()}
            return {"designs": designs, "returned": list(returned)}

        return self.study.step(f"search {seed}", compute)

    def contests(self) -> Results:
        """Best scores of evolution and of random search at equal evaluations."""
        s = self.settings

        def compute(step: Step) -> Mapping[str, Any]:
            space, accuracies = self.types()
            costs, bounds = self.machine.host_costs(), self.machine.bounds(FAST)
            scores: dict[str, list[float]] = {"evolution": [], "random": []}
            with self.ledger("contests") as ledger:
                for seed in range(s.contests):
                    arms: dict[str, Strategy] = {
                        "evolution": self.evolution(space, 100 + seed),
                        "random": RandomSearch(space, 100 + seed),
                    }
                    for name, strategy in arms.items():
                        tried = search(space, strategy, costs, bounds, accuracies, s.contest,
                                       ledger, f"{name} {seed}")  # fmt: skip
                        top = best(tried)
                        assert top is not None and top.outcome.score is not None
                        scores[name].append(top.outcome.score)
                    step.progress("contests", seed + 1, s.contests)
            test = mannwhitneyu(scores["evolution"], scores["random"], alternative="greater")
            return {**scores, "p": float(test.pvalue)}

        return self.study.step("evolution against random", compute)

    def cross_table(self) -> Results:
        """Winners of the table targets, and the score of each on both."""
        s = self.settings

        def compute(step: Step) -> Mapping[str, Any]:
            space, accuracies = self.types()
            dgcnn = dgcnn_costs(s.n, s.k, self.setting.classes, rewritten=True)
            designs: dict[str, Genes] = {}
            rows: dict[str, dict[str, float]] = {}
            bounds = {
                t.name: Bounds(s.latency_share * t.latency_s(dgcnn), float(t.memory_bytes), FAST)
                for t in TARGETS
            }
            with self.ledger("targets") as ledger:
                for target in TARGETS:
                    tried = search(
                        space, self.evolution(space, 0), self.machine.table_costs(target),
                        bounds[target.name], accuracies, s.evaluations, ledger, target.name,
                    )  # fmt: skip
                    designs[target.name] = genes_of(space, leaders(tried, 1)[0])
            for target in TARGETS:
                b, costs = bounds[target.name], self.machine.table_costs(target)
                rows[target.name] = {
                    name: accuracies(g) - b.beta * costs(g)[0] / b.latency_s
                    for name, g in designs.items()
                }
            return {"designs": {name: spell(g) for name, g in designs.items()}, "scores": rows}

        return self.study.step("table targets", compute)

    def ranking(self) -> Results:
        """Kendall's tau of accuracies with shared weights and alone."""
        s = self.settings

        def compute(step: Step) -> Mapping[str, Any]:
            space, accuracies = self.types()
            shared: list[float] = []
            alone: list[float] = []
            draws = (space.sample(numpy_generator(0, "ranked", i)) for i in range(10 * s.ranked))
            designs = list(dict.fromkeys(genes_of(space, c) for c in draws))[: s.ranked]
            for number, genes in enumerate(designs):
                shared.append(accuracies(genes))
                network = self._trained(step, genes, self._first, 0, f"ranked {number}")
                alone.append(accuracy(network, self._first.validation))
            tau = float(kendalltau(shared, alone).statistic)  # not a number where all are equal
            return {"shared": shared, "alone": alone, "tau": 0.0 if math.isnan(tau) else tau}

        return self.study.step("order of the supernet", compute)

    def retrained(self, name: str, data: str, seed: int) -> float:
        """Test accuracy of a design, or of DGCNN, trained from scratch."""
        spelt = "" if name == "DGCNN" else self.winners(seed)["designs"][name]

        def compute(step: Step) -> Mapping[str, Any]:
            genes = None if name == "DGCNN" else parse(spelt)
            network = self._trained(step, genes, self.data(data), seed, "training")
            return {"accuracy": accuracy(network, self.data(data).test)}

        return float(self.study.step(f"train {name} {data} {seed}", compute)["accuracy"])

    def _trained(
        self, step: Step, genes: Genes | None, data: Dataset, seed: int, name: str
    ) -> nn.Module:
        """All networks with the same recipe; DGCNN where there is no design."""
        classes, k = self.setting.classes, self.setting.k
        build: Callable[[], nn.Module] = partial(DGCNN, classes, k, rewritten=True)
        if genes is not None:
            build = partial(PointNetwork, genes, classes, k)
        recipe = Recipe(self.settings.epochs, 2e-3, "adam")
        model = seeded(build, seed, "trained")
        return train(step, model, data, recipe, seed, name=name, size=BATCH,
                     channels_last=False)[0]  # fmt: skip

    def race(self, seed: int) -> Results:
        """Latencies in turn, peaks, and the returned designs measured again."""
        s, found = self.settings, self.winners(seed)

        def compute(step: Step) -> Mapping[str, Any]:
            networks: dict[str, nn.Module] = {
                "DGCNN": DGCNN(self.setting.classes, s.k),
                "optimised DGCNN": DGCNN(self.setting.classes, s.k, rewritten=True),
                "floor": PointNetwork(FLOOR, self.setting.classes, s.k),
            }
            again = {**found["designs"], **{text: text for text in found["returned"]}}
            for name, text in again.items():
                networks[name] = PointNetwork(parse(text), self.setting.classes, s.k)
            cloud = self._first.test.inputs[:1].numpy()
            with torch.no_grad():
                calls = {name: _call(network.eval()) for name, network in networks.items()}
                seconds = race(calls, cloud, s.rounds)
                peaks = {
                    name: allocated_peak_bytes(partial(call, cloud)) for name, call in calls.items()
                }
            weights = {
                name: 4
                * sum(t.numel() for t in network.state_dict().values() if t.is_floating_point())
                for name, network in networks.items()
            }
            # against DGCNN in the same race: the machine may be faster or slower than it was
            latency_s = s.latency_share * seconds["optimised DGCNN"]
            peak_bytes = s.memory_share * peaks["optimised DGCNN"]
            within = [
                seconds[text] < latency_s and peaks[text] < peak_bytes for text in found["returned"]
            ]
            return {"latency_s": seconds, "peak_bytes": peaks, "weight_bytes": weights,
                    "kept": sum(within) / len(within)}  # fmt: skip

        return self.study.step(f"race {seed}", compute)

    def sizes(self) -> dict[str, float]:
        """Of the spaces, as powers of ten."""
        return magnitudes(self.limits, self.types()[0])


def _call(network: nn.Module) -> Any:
    return lambda x: network(torch.from_numpy(x)).numpy()
