"""Blocks of weights that share one magnitude, or are zero, learned by ADMM.

S. Lin, W. Jiang, W. Wang, K. Xu, Y. Wang, S. Liu, S. Li, arXiv 2106.08301, 2021. The abstract and
secondary summaries could be read, the tables of results could not: what is compared here is ours.
"""

from __future__ import annotations

from cofit.reproductions.harness import Reproduction
from cofit.reproductions.micro_unification.experiment import SCALES, SEEDS, run

REPRODUCTION = Reproduction(
    name="micro-unification",
    title="blocks of weights share one magnitude, or are pruned, learned by ADMM",
    source="Lin, Jiang, Wang, Xu, Wang, Liu, Li, arXiv 2106.08301, 2021",
    scales=SCALES,
    seeds=SEEDS,
    run=run,
)
