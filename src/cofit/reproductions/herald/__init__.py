"""HERALD: sub-accelerators of several dataflows on one chip, and layers scheduled among them.

H. Kwon et al., "Heterogeneous Dataflow Accelerators for Multi-DNN Workloads", HPCA 2021, arXiv
1909.07437. Costs, scheduler, partitions, baselines and bounds are `cofit.targets.heterogeneous`;
here are the suites of networks and what is compared.
"""

from __future__ import annotations

from dataclasses import replace

from cofit.reproductions.harness import Outcome, Reproduction, Study
from cofit.reproductions.herald.claims import claims, drawing, tables
from cofit.reproductions.herald.study import Settings, run_steps


def run(study: Study[Settings]) -> Outcome:
    """All settings, then what they say."""
    results = run_steps(study)
    return Outcome(
        claims=claims(results), tables=tables(study.settings, results), figure=drawing(results)
    )


_STANDARD = Settings(
    chips=("edge",),
    suites=("AR/VR-A",),
    faster=(1, 8),
    sets=(("nvdla", "shidiannao"), ("nvdla", "eyeriss"), ("shidiannao", "eyeriss")),
    steps=8,
    sampling="grid",
    overheads=(0.0, 0.1, 0.2, 0.3),
    static=(0.0, 0.1),
    moves=True,
)

REPRODUCTION = Reproduction(
    name="herald",
    title="Sub-accelerators of several dataflows, and layers of many networks scheduled among them",
    source="Kwon, Lai, Pellauer, et al., HPCA 2021, arXiv 1909.07437",
    scales={
        "smoke": replace(
            _STANDARD, suites=("small",), faster=(1,), sets=_STANDARD.sets[:1], steps=4
        ),
        "standard": _STANDARD,
        "full": replace(
            _STANDARD,
            chips=("edge", "mobile", "cloud"),
            suites=("AR/VR-A", "AR/VR-B", "MLPerf"),
        ),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)
