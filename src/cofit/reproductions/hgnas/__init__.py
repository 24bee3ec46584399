"""HGNAS: networks on point clouds searched for the machine they run on.

A. Zhou, J. Yang, Y. Qi, Y. Shi, T. Qiao, W. Zhao, C. Hu, "Hardware-Aware Graph Neural Network
Automated Design for Edge Computing Platforms", DAC 2023, arXiv 2303.10875. Operations, networks,
supernet, predictor and measurement are `cofit.graphs.points`, strategies `cofit.search`; here they
are put together, and what is claimed is measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cofit.fit.peers import one_torch_thread
from cofit.reproductions.harness import Outcome, Reproduction, Study
from cofit.reproductions.hgnas.claims import DESIGNS, claims, drawing, tables
from cofit.reproductions.hgnas.settings import Settings
from cofit.reproductions.hgnas.study import Search


def run(study: Study[Settings]) -> Outcome:
    """All steps, then what they say; on one thread, as networks are timed.

    They are so small that threads which wait for each other cost more than they save.
    """
    with one_torch_thread():
        found = _found(Search(study), study)
    return Outcome(
        claims=claims(study.settings, found),
        tables=tables(study.settings, found),
        figure=drawing(found),
    )


def _found(search: Search, study: Study[Settings]) -> dict[str, Any]:
    predictor, *_ = search.machine.predictors()
    functions = dict(zip(("upper", "lower"), map(vars, search.functions()), strict=True))
    return {
        "predictor": predictor,
        "functions": functions,
        "sizes": search.sizes(),
        "designs": [search.winners(seed)["designs"] for seed in study.seeds],
        "races": [search.race(seed) for seed in study.seeds],
        "contests": search.contests(),
        "cross": search.cross_table(),
        "ranking": search.ranking(),
        "accuracy": {
            data: {
                name: [search.retrained(name, data, seed) for seed in study.seeds]
                for name in ("DGCNN", *DESIGNS)
            }
            for data in study.settings.data
        },
    }


_STANDARD = Settings(
    data=("fashion_mnist", "solids"), n=128, k=10, positions=12, combine=(8, 16, 32, 64),
    widest=256, train=600, held=200, tested=500, measured=1000, most=50, predictor_width=64,
    predictor_epochs=60, supernet_epochs=8, function_settings=24, function_designs=3,
    evaluations=100, population=16, contest=100, contests=5, ranked=16, epochs=4, rounds=31,
)  # fmt: skip

REPRODUCTION = Reproduction(
    name="hgnas",
    title="networks on point clouds searched for a machine, by a learned latency and memory",
    source="Zhou, Yang, Qi, Shi, Qiao, Zhao, Hu, DAC 2023, arXiv 2303.10875",
    scales={
        "smoke": Settings(
            data=("digits",), n=24, k=4, positions=6, combine=(8, 16), widest=64, train=64,
            held=64, tested=64, measured=30, most=10, predictor_width=16, predictor_epochs=20,
            supernet_epochs=1, function_settings=3, function_designs=1, evaluations=16,
            population=6, contest=8, contests=2, ranked=4, epochs=1, rounds=3,
            latency_share=1e3, memory_share=1e3,
        ),
        "standard": _STANDARD,
        "full": replace(
            _STANDARD, n=1024, k=20, train=6000, held=1000, tested=2000, measured=10_000, most=50,
            predictor_width=256, predictor_epochs=250, supernet_epochs=50, evaluations=1000,
            population=50, contest=500, ranked=30, epochs=30,
        ),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)  # fmt: skip
