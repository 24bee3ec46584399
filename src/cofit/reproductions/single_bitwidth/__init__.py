"""One bit-width for all weights, and the saved bits spent on width, at equal size.

T.-W. Chin, P. I.-J. Chuang, V. Chandra, D. Marculescu, "One Weight Bitwidth to Rule Them All", ECCV
2020 workshops, arXiv 2008.09916. The abstract and introduction could be read; the ranking of
bit-widths by kind of network is from memory, its accuracies are not known.
"""

from __future__ import annotations

from cofit.reproductions.harness import Reproduction
from cofit.reproductions.single_bitwidth.allocation import choose_bitwidth
from cofit.reproductions.single_bitwidth.experiment import SCALES, SEEDS, run

REPRODUCTION = Reproduction(
    name="single-bitwidth",
    title="one weight bit-width with a width multiplier, at equal size",
    source="Chin, Chuang, Chandra, Marculescu, ECCV 2020 workshops, arXiv 2008.09916",
    scales=SCALES,
    seeds=SEEDS,
    run=run,
)

__all__ = ["REPRODUCTION", "choose_bitwidth"]
