"""GCoD: graphs trained into dense blocks and a light remainder, for an accelerator of two branches.

H. You, T. Geng, Y. Zhang, A. Li, Y. Lin, "GCoD: Graph Convolutional Network Acceleration via
Dedicated Algorithm and Accelerator Co-Design", HPCA 2022, arXiv 2112.11594. Splits, polarisation
and branches are `cofit.graphs.blocks`, cycles `cofit.targets.graph_engines`; here are the arms,
METIS alone among them, and what is claimed.
"""

from __future__ import annotations

from dataclasses import replace

from cofit.reproductions.gcod.claims import claims, drawing, tables
from cofit.reproductions.gcod.study import Settings, run_steps
from cofit.reproductions.harness import Outcome, Reproduction, Study


def run(study: Study[Settings]) -> Outcome:
    """All graphs, then what they say."""
    found = run_steps(study)
    return Outcome(
        claims=claims(study.settings, found),
        tables=tables(study.settings, found),
        figure=drawing(study.settings, found),
    )


_STANDARD = Settings(graphs=("cora", "citeseer", "tolokers", "blocks"), nodes=10_000, epochs=200)

REPRODUCTION = Reproduction(
    name="gcod",
    title="graphs trained into dense blocks and a light remainder, on two branches",
    source="You, Geng, Zhang, Li, Lin, HPCA 2022, arXiv 2112.11594",
    scales={
        "smoke": Settings(
            graphs=("blocks",), nodes=400, epochs=15, phis=(10.0, 0.001), least=4, subgraphs=6
        ),
        "standard": _STANDARD,
        "full": replace(_STANDARD, nodes=50_000, epochs=400),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)
