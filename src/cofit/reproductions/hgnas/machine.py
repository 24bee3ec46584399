"""This machine as a study knows it: what was timed, what is learned of it, what it allows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import nn

from cofit.graphs.points import (
    DGCNN,
    DesignPredictor,
    Gene,
    Genes,
    OpTable,
    TableTarget,
    design_costs,
    measure_table,
    peak_bytes,
)
from cofit.reproductions.harness import Step, Study
from cofit.reproductions.harness.study import Results
from cofit.reproductions.hgnas.measuring import (
    compare,
    examples,
    features,
    floor_s,
    measure_designs,
    measure_network,
    robust_peak_bytes,
    shuffle_features,
    train_predictor,
)
from cofit.reproductions.hgnas.searching import Bounds, Costs
from cofit.reproductions.hgnas.settings import Settings
from cofit.reproductions.hgnas.space import SAMPLE, aggregates, full_space
from cofit.search import Ledger


class Machine:
    """Measurements and predictors of one run; each is taken from its study or made.

    Args:
        study: keeps what is found.
    """

    def __init__(self, study: Study[Settings]) -> None:
        self.study, self.settings, self.setting = study, study.settings, study.settings.setting
        self.space = full_space(self.setting.limits)

    @cache  # noqa: B019
    def host(self) -> Results:
        """Reference networks, the table and the designs, all timed on this machine."""

        def compute(step: Step) -> Mapping[str, Any]:
            s, setting = self.settings, self.setting
            combines = [Gene("combine", str(width)) for width in s.combine]
            genes = [*combines, *aggregates(), SAMPLE, Gene("connect", "skip"),
                     Gene("pool", "max|mean")]  # fmt: skip
            with torch.no_grad():
                dgcnn = DGCNN(setting.classes, s.k).eval().rewrite(True)
                bound = measure_network(dgcnn, setting).values
                table = measure_table(genes, s.n, s.k, setting.classes, s.most)
                with closing(self._ledger()) as ledger:
                    found = measure_designs(self.space, setting, s.measured, ledger,
                                            partial(step.progress, "measured"))  # fmt: skip
            return {"times_s": dict(table.times_s), "latency_s": bound["ratio"] * floor_s(found),
                    "peak_bytes": bound["peak_bytes"]}  # fmt: skip

        return self.study.step("measure designs", compute)

    def table(self) -> OpTable:
        """Times of single operations."""
        return OpTable({key: tuple(v) for key, v in self.host()["times_s"].items()})

    @cache  # noqa: B019
    def predictors(self) -> tuple[Results, DesignPredictor, DesignPredictor]:
        """Reports, and the predictors of latency and of memory."""
        s, table = self.settings, self.table()  # after which all designs are measured

        def compute(step: Step) -> Mapping[str, Any]:
            with closing(self._ledger()) as ledger:
                found = measure_designs(self.space, self.setting, s.measured, ledger)
            known = examples(found, self.space, table, self.setting)
            cut = round(0.7 * len(known.genes))
            learnt, held = known.rows(slice(cut)), known.rows(slice(cut, None))

            def fitted(name: str, x: torch.Tensor, values: Any) -> DesignPredictor:
                return train_predictor(
                    x, values, s.predictor_epochs, s.predictor_width, step.checkpoint(name),
                    step.progress,
                )  # fmt: skip

            latency = fitted("latency", learnt.x, learnt.latency_s)
            shuffled = fitted("shuffled", shuffle_features(learnt.x), learnt.latency_s)
            memory = fitted("memory", learnt.x, learnt.peak_bytes)
            started = time.perf_counter()
            latency.predict(held.x)
            per_design = (time.perf_counter() - started) / len(held.x)
            report = asdict(compare(learnt, held, latency, shuffled))
            errors = np.abs(memory.predict(held.x).double().numpy() / held.peak_bytes - 1)
            analytic = [
                peak_bytes(design_costs(g, s.n, s.k, 10), weights=False) for g in held.genes
            ]
            return {
                **report, "memory": float(errors.mean()), "seconds": per_design,
                "analytic": float(np.abs(np.array(analytic) / held.peak_bytes - 1).mean()),
                "designs": len(known.genes), "spread": float(np.median(
                    [each.outcome.values["spread"] for each in found])),
                **kept("latency", latency), **kept("peak", memory),
            }  # fmt: skip

        found = self.study.step("predictors", compute)
        models = [DesignPredictor(s.predictor_width) for _ in range(2)]
        for name, model in zip(("latency", "peak"), models, strict=True):
            restore(name, model, found)
        return found, models[0], models[1]

    def host_costs(self) -> Costs:
        """Predicted latency with its margin, and robust peak memory."""
        found, latency, memory = self.predictors()
        table = self.table()

        @cache
        def costs(genes: Genes) -> tuple[float, float]:
            x = features([genes], table, self.setting)
            slow = float(latency.predict(x)) * (1 + found["margin"])
            return slow, robust_peak_bytes(float(memory.predict(x)), genes, self.setting)

        return costs

    def table_costs(self, target: TableTarget) -> Costs:
        """Modelled latency and analytic peak memory."""

        def costs(genes: Genes) -> tuple[float, float]:
            found = design_costs(genes, self.setting.n, self.setting.k, self.setting.classes)
            return target.latency_s(found), float(peak_bytes(found))

        return costs

    def bounds(self, beta: float) -> Bounds:
        """Shares of what the rewritten DGCNN takes on this machine."""
        host, s = self.host(), self.settings
        return Bounds(
            s.latency_share * host["latency_s"], s.memory_share * host["peak_bytes"], beta
        )

    def _ledger(self) -> Ledger:
        return Ledger(self.study.folder / "measured.sqlite")


def kept(name: str, model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a model as results of a step, under its name."""
    return {f"{name}/{key}": value for key, value in model.state_dict().items()}


def restore(name: str, model: nn.Module, found: Results) -> None:
    """Load what `kept` gave."""
    state = {k.partition("/")[2]: v for k, v in found.items() if k.startswith(f"{name}/")}
    model.load_state_dict(state)
    model.eval()
