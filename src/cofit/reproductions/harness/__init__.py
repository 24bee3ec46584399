"""What all reproductions share: claims and rules, resumable steps, running by name."""

from cofit.reproductions.harness.claim import (
    Claim,
    Measured,
    Rule,
    above_spread,
    at_least,
    at_most,
    below_spread,
    between,
    measured,
)
from cofit.reproductions.harness.contract import Reproduction
from cofit.reproductions.harness.deploy import latencies, structured_graph
from cofit.reproductions.harness.figures import COLOURS, axes, bars, figure
from cofit.reproductions.harness.outcome import (
    SCALES,
    Finding,
    Outcome,
    Scale,
    Table,
    parse_scale,
    sources,
)
from cofit.reproductions.harness.runner import (
    known_reproductions,
    reproduce,
    reproduction,
    state,
)
from cofit.reproductions.harness.study import Step, Study
from cofit.reproductions.harness.training import (
    accuracy,
    fewer,
    kernel_weights,
    normalised,
    seeded,
    train,
)

__all__ = [
    "COLOURS",
    "SCALES",
    "Claim",
    "Finding",
    "Measured",
    "Outcome",
    "Reproduction",
    "Rule",
    "Scale",
    "Step",
    "Study",
    "Table",
    "above_spread",
    "accuracy",
    "at_least",
    "at_most",
    "axes",
    "bars",
    "below_spread",
    "between",
    "fewer",
    "figure",
    "kernel_weights",
    "known_reproductions",
    "latencies",
    "measured",
    "normalised",
    "parse_scale",
    "reproduce",
    "reproduction",
    "seeded",
    "sources",
    "state",
    "structured_graph",
    "train",
]
