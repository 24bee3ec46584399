"""GCoDE: a network's operations and where each of them runs, searched together.

A. Zhou et al., "GCoDE: Efficient Device-Edge Co-Inference for GNNs via Architecture-Mapping
Co-Search", DAC 2024, arXiv 2404.05605. The engine, the dispatcher and the tables are
`cofit.graphs.points.coinference`, links and energy `cofit.targets.links`; here are the joint space,
its search, the baselines and what is claimed.
"""

from __future__ import annotations

from dataclasses import replace

from cofit.reproductions.gcode.bench import Edge
from cofit.reproductions.gcode.claims import claims, drawing, tables
from cofit.reproductions.gcode.settings import Settings
from cofit.reproductions.gcode.study import run_steps
from cofit.reproductions.harness import Outcome, Reproduction, Study


def run(study: Study[Settings]) -> Outcome:
    """Everything, then what it says."""
    with Edge() as edge:
        found = run_steps(study, edge)
    settings = study.settings
    return Outcome(claims(settings, found), tables(settings, found), drawing(settings, found))


REPRODUCTION = Reproduction(
    name="gcode",
    title="operations of a point network and where each runs, device or edge, searched together",
    source="Zhou, Yang, Qiao, et al., DAC 2024, arXiv 2404.05605",
    scales={
        "smoke": Settings(
            data="digits", train=320, test=100, scored=60, n=24, k=4, base=(8, 16),
            combines=(8, 16), widest=32, positions=7, shared_epochs=2, epochs=2, measured=24,
            predictor_epochs=20, frames=3, slowdown=2.0, bandwidths_Mbps=(10.0, 40.0),
            bound_share=2.0, candidates=8, contests=1,
        ),
        "standard": Settings(),
        "full": replace(
            Settings(), train=50_000, test=10_000, scored=2000, n=512, k=20,
            base=(64, 64, 128, 256), combines=(8, 16, 32, 64, 128, 256, 512), widest=512,
            shared_epochs=10, epochs=20, measured=9000, predictor_epochs=200, frames=15,
            candidates=3000,
        ),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)  # fmt: skip
