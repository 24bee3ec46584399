"""Which blocks to merge, by dynamic programming over a latency budget.

A network is a chain of blocks. A segment is a run of neighbouring blocks in one form (as it is, or
merged), with what it costs in time and what it damages; segments that cover the chain add up. The
programme goes along the chain and keeps, at every block, the covers so far of which no other is
both faster and less damaging, so its result is exact for any real numbers.

Source: Kim et al., "Efficient Latency-Aware CNN Depth Compression via Two-Stage Dynamic
Programming", ICML 2023, arXiv 2301.12187. Here segments are single blocks: every inverted residual
ends in an activation of its own once it is merged, which ends a run.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError, InfeasibleError
from cofit.data import Split
from cofit.reproductions.depthshrinker.gains import Gain
from cofit.reproductions.depthshrinker.network import units
from cofit.reproductions.harness.training import EVALUATION_BATCH


@dataclass(frozen=True)
class Segment:
    """Blocks `start` to `stop` - 1 of a chain in one form.

    Attributes:
        start, stop: of the run.
        latency_s: of the form.
        damage: to the network, in any unit.
    """

    start: int
    stop: int
    latency_s: float
    damage: float


@dataclass(frozen=True)
class _Cover:
    latency_s: float
    damage: float
    segments: tuple[Segment, ...]


def cover(segments: Sequence[Segment], blocks: int, budget_s: float) -> tuple[Segment, ...]:
    """Segments of least total damage that cover all blocks once within the budget.

    Args:
        segments: candidates; several may cover the same run.
        blocks: of the chain.
        budget_s: limit of the sum of latencies.

    Returns:
        In the order of the chain; among covers of equal damage the fastest.

    Raises:
        ConfigError: a segment that is empty or not inside the chain.
        InfeasibleError: every cover takes longer, or there is none.
    """
    for segment in segments:
        if not 0 <= segment.start < segment.stop <= blocks:
            raise ConfigError(
                f"segment {segment} of a chain of {blocks} blocks; it must lie inside and hold at "
                "least one"
            )
    fronts: list[list[_Cover]] = [[_Cover(0.0, 0.0, ())], *([] for _ in range(blocks))]
    for stop in range(1, blocks + 1):
        fronts[stop] = _front([
            _Cover(
                before.latency_s + segment.latency_s, before.damage + segment.damage,
                (*before.segments, segment),
            )
            for segment in segments if segment.stop == stop
            for before in fronts[segment.start]
        ])  # fmt: skip
    able = [found for found in fronts[blocks] if found.latency_s <= budget_s]
    if not able:
        fastest = min((found.latency_s for found in fronts[blocks]), default=None)
        reached = "no segments cover it" if fastest is None else f"the least is {fastest:.3g} s"
        raise InfeasibleError(
            f"no cover of {blocks} blocks takes {budget_s:.3g} s or less; {reached}"
        )
    return min(able, key=lambda found: (found.damage, found.latency_s)).segments


def by_programming(
    gains: Mapping[str, Gain], damages: Mapping[str, float], budget_s: float
) -> tuple[str, ...]:
    """Blocks to merge: those of least total damage with which the chain takes `budget_s`.

    Args:
        gains: time of every block before and after, in the order of the chain.
        damages: of merging them, those of blocks that only lose left out.
        budget_s: of all blocks together.

    Raises:
        InfeasibleError: even the fastest choice takes longer.
    """
    segments = []
    for number, (block, gain) in enumerate(gains.items()):
        segments.append(Segment(number, number + 1, gain.before_s, 0.0))
        if block in damages:
            segments.append(Segment(number, number + 1, gain.after_s, damages[block]))
    chosen = set(cover(segments, len(gains), budget_s))
    return tuple(
        block
        for number, (block, gain) in enumerate(gains.items())
        if block in damages and Segment(number, number + 1, gain.after_s, damages[block]) in chosen
    )


def damages_of(model: nn.Module, blocks: Sequence[str], split: Split) -> dict[str, float]:
    """Rise of the mean cross-entropy when a block alone loses its activations, untrained.

    Args:
        model: trained; not changed.
        blocks: paths of inverted residuals.
        split: held out of training.

    Returns:
        By block; negative where the loss falls.
    """
    whole = _loss(model, split)
    found = {}
    for block in blocks:
        changed = copy.deepcopy(model)
        for name in units(changed)[block]:
            owner, _, attribute = name.rpartition(".")
            setattr(changed.get_submodule(owner), attribute, nn.Identity())
        found[block] = _loss(changed, split) - whole
    return found


def _front(covers: list[_Cover]) -> list[_Cover]:
    """Those of which no other is at least as fast and less damaging, fastest first."""
    kept: list[_Cover] = []
    for found in sorted(covers, key=lambda each: (each.latency_s, each.damage)):
        if not kept or found.damage < kept[-1].damage:
            kept.append(found)
    return kept


def _loss(model: nn.Module, split: Split) -> float:
    model.eval()
    total = 0.0
    with torch.no_grad():
        for x, y in zip(
            split.inputs.split(EVALUATION_BATCH), split.targets.split(EVALUATION_BATCH), strict=True
        ):
            total += float(F.cross_entropy(model(x), y, reduction="sum"))
    return total / len(split)
