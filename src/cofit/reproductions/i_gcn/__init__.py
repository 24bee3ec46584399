"""I-GCN: islands behind hubs, found online, for locality and shared sums of graph networks.

T. Geng et al., "I-GCN: A Graph Convolutional Network Accelerator with Runtime Locality Enhancement
through Islandization", MICRO 2021, arXiv 2203.03606. Islands and sums are `cofit.graphs.islands`,
cycles `cofit.targets.graph_engines`; here are the graphs, the baselines and what is claimed.
"""

from __future__ import annotations

from dataclasses import replace

from cofit.reproductions.harness import Outcome, Reproduction, Study
from cofit.reproductions.i_gcn.claims import claims, drawing, tables
from cofit.reproductions.i_gcn.study import Settings, run_steps


def run(study: Study[Settings]) -> Outcome:
    """All graphs, then what they say."""
    found = run_steps(study)
    return Outcome(
        claims=claims(study.settings, found),
        tables=tables(study.settings, found),
        figure=drawing(study.settings, found),
    )


_STANDARD = Settings(
    graphs=("cora", "citeseer", "tolokers", "caves", "reddit-like"),
    caves=5000,
    nodes=200_000,
    degree=60.0,
)

REPRODUCTION = Reproduction(
    name="i-gcn",
    title="islands of a graph found at run time, for locality and shared sums",
    source="Geng, Wu, Zhang, et al., MICRO 2021, arXiv 2203.03606",
    scales={
        "smoke": Settings(
            graphs=("caves", "reddit-like"),
            caves=250,
            nodes=1500,
            degree=8.0,
            windows=(2, 8),
            repeats=2,
        ),
        "standard": _STANDARD,
        "full": replace(_STANDARD, repeats=31, windows=(2, 3, 4, 8, 16)),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)
