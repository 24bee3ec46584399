"""FPGAs, phones and microcontrollers by their data sheets: frames per joule, with error bars.

`parameters("zcu102")` are a platform's numbers, each with a tag of provenance. `works_of` says what
a compressed network asks of it, `estimate` gives time and energy over many draws of all numbers
that are not published, `rank` an order with the frequency at which it holds.
"""

from cofit.targets.platforms.compare import (
    DRAWS,
    MEASURES,
    Entry,
    Ranking,
    draw,
    entry,
    implied_power_w,
    pareto,
    power_statement,
    rank,
)
from cofit.targets.platforms.model import (
    PRUNED_SHARE,
    Estimate,
    LayerEstimate,
    estimate,
    layer_time,
)
from cofit.targets.platforms.tables import (
    KINDS,
    PRECISIONS,
    Parameters,
    describe,
    known_platforms,
    parameters,
    read_parameters,
)
from cofit.targets.platforms.target import Platform
from cofit.targets.platforms.tiles import (
    Tile,
    balance,
    best_tile,
    buffer_bits,
    cycles,
    utilisation,
)
from cofit.targets.platforms.work import SCHEMES, LayerWork, total_macs, works_of

__all__ = [
    "DRAWS",
    "KINDS",
    "MEASURES",
    "PRECISIONS",
    "PRUNED_SHARE",
    "SCHEMES",
    "Entry",
    "Estimate",
    "LayerEstimate",
    "LayerWork",
    "Parameters",
    "Platform",
    "Ranking",
    "Tile",
    "balance",
    "best_tile",
    "buffer_bits",
    "cycles",
    "describe",
    "draw",
    "entry",
    "estimate",
    "implied_power_w",
    "known_platforms",
    "layer_time",
    "parameters",
    "pareto",
    "power_statement",
    "rank",
    "read_parameters",
    "total_macs",
    "utilisation",
    "works_of",
]
