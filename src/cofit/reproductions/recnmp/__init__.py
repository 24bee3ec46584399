"""RecNMP: embedding rows pooled by units in the ranks of DRAM, for recommendation models.

L. Ke et al., "RecNMP: Accelerating Personalized Recommendation with Near-Memory Processing", ISCA
2020, arXiv 1912.12953. The memory, its units and caches are `cofit.targets.memory`; here are the
traces, the arms that are compared, the same ideas in software on this CPU, and a model around them.
"""

from __future__ import annotations

from dataclasses import replace

from cofit.reproductions.harness import Outcome, Reproduction, Study
from cofit.reproductions.recnmp.claims import claims, drawing, tables
from cofit.reproductions.recnmp.study import Settings, run_steps


def run(study: Study[Settings]) -> Outcome:
    """All traces and arms, then what they say."""
    results = run_steps(study)
    return Outcome(
        claims=claims(study.settings, results),
        tables=tables(study.settings, results),
        figure=drawing(study.settings, results),
    )


_STANDARD = Settings(
    alphas=(0.0, 0.6, 0.9, 1.05),
    real=True,
    tables=8,
    rows=1_000_000,
    lookups=40_960,
    pooling=80,
    batch=128,
    vectors=(64, 128, 256),
    caches=tuple(1 << k for k in range(13, 21)),
    timed=1_000_000,
    twin_rows=1 << 20,
    repeats=9,
    users=64,
    model_rows=1_000_000,
    trained_users=20_000,
    trained_rows=2_000,
    epochs=3,
)

REPRODUCTION = Reproduction(
    name="recnmp",
    title="Embedding rows pooled by units in the ranks of DRAM, with caches for hot rows",
    source="Ke, Gupta, Cho, et al., ISCA 2020, arXiv 1912.12953",
    scales={
        "smoke": Settings(
            alphas=(0.0, 0.9), real=False, tables=2, rows=1_000_000, lookups=25_600, pooling=80,
            batch=32, vectors=(64, 256), caches=(8 << 10, 128 << 10), timed=20_000, twin_rows=4096,
            repeats=2, users=4, model_rows=1000, trained_users=1500, trained_rows=300, epochs=2,
        ),
        "standard": _STANDARD,
        "full": replace(_STANDARD, lookups=1_000_000, repeats=31),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)  # fmt: skip
