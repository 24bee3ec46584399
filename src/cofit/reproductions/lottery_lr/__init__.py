"""Lottery tickets and learning rate: correlation indicator, arms, verdict."""

from cofit.reproductions.lottery_lr.arms import ARMS, Arm, Phase, Trial, fingerprint
from cofit.reproductions.lottery_lr.check import Grid, TicketReport, ticket_check
from cofit.reproductions.lottery_lr.masks import MaskSource, mask_source
from cofit.reproductions.lottery_lr.overlap import Overlap, layerwise, overlap, pooled
from cofit.reproductions.lottery_lr.study import REPRODUCTION
from cofit.reproductions.lottery_lr.verdict import Margins, verdict

__all__ = [
    "ARMS",
    "REPRODUCTION",
    "Arm",
    "Grid",
    "Margins",
    "MaskSource",
    "Overlap",
    "Phase",
    "TicketReport",
    "Trial",
    "fingerprint",
    "layerwise",
    "mask_source",
    "overlap",
    "pooled",
    "ticket_check",
    "verdict",
]
