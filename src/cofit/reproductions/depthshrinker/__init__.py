"""DepthShrinker: remove activations, merge each inverted residual into one dense convolution."""

from cofit.reproductions.depthshrinker.gains import Gain, all_linear, all_merged, gains, refused
from cofit.reproductions.depthshrinker.network import to_merge, units
from cofit.reproductions.depthshrinker.stages import Settings, prune_channels
from cofit.reproductions.depthshrinker.study import REPRODUCTION

__all__ = [
    "REPRODUCTION",
    "Gain",
    "Settings",
    "all_linear",
    "all_merged",
    "gains",
    "prune_channels",
    "refused",
    "to_merge",
    "units",
]
