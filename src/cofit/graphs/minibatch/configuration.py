"""How a graph network is trained in mini-batches, as one record, and published systems as points.

Sources: W. Hamilton et al., NeurIPS 2017 (fan-outs); Z. Lin et al., "PaGraph", SoCC 2020 (features
of nodes of high degree stay on the device); L. Zhang et al., "2PGraph", CLUSTER 2021 (sampling that
prefers what is cached); J. Yang et al., "GNNLab", EuroSys 2022 (cache by measured visits).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cofit.core import ConfigError, UnknownNameError

FAMILIES = ("node", "layer", "subgraph")
"""Of sampling: up to `fanouts[l]` neighbours per node; `fanouts[l]` nodes per seed and layer; or
all edges among the nodes of a node-wise sample, the same for every layer."""
STATIC = ("degree", "frequency")
"""Caches that are filled once."""
DYNAMIC = ("fifo", "lru")
"""Caches that take in what they miss."""
POLICIES = ("none", *STATIC, *DYNAMIC)
FEATURE_BITS = (16, 32)


@dataclass(frozen=True)
class Configuration:
    """One way of training.

    Args:
        batch_size: training nodes per step.
        fanouts: per layer, the first layer's first; None takes all neighbours.
        family: of sampling, one of `FAMILIES`.
        bias: from 0 to 1, how much cached neighbours are preferred: their odds of being drawn are
            1 + 4 bias times those of others.
        unbiased: weigh edges by the inverse of their probability, so that sums stay unbiased;
            otherwise what is drawn counts alike. Without bias both are the same. A subgraph has no
            such probabilities: there a mean is always that of the neighbours that are in it.
        cache_policy: one of `POLICIES`.
        cache_ratio: cached rows over nodes.
        model: kind of layer; see `build_gnn`.
        layers: of the network; one fan-out each.
        hidden: width.
        prefetch: batches that are prepared while another computes; 0 for one after the other.
        feature_bits: of features in host memory, on the link and in the cache.

    Raises:
        ConfigError: a value out of range, or values that do not fit each other.
        UnknownNameError: no such family or policy.
    """

    batch_size: int
    fanouts: tuple[int | None, ...]
    family: str = "node"
    bias: float = 0.0
    unbiased: bool = True
    cache_policy: str = "none"
    cache_ratio: float = 0.0
    model: str = "sage"
    layers: int = 2
    hidden: int = 64
    prefetch: int = 0
    feature_bits: int = 32

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UnknownNameError("family of sampling", self.family, FAMILIES)
        if self.cache_policy not in POLICIES:
            raise UnknownNameError("cache policy", self.cache_policy, POLICIES)
        if len(self.fanouts) != self.layers:
            raise ConfigError(
                f"{len(self.fanouts)} fan-outs {list(self.fanouts)} for {self.layers} layers; "
                "give one per layer"
            )
        if self.batch_size < 1 or self.hidden < 1 or self.layers < 1 or self.prefetch < 0:
            raise ConfigError(
                f"batch size {self.batch_size}, width {self.hidden}, {self.layers} layers, "
                f"prefetch {self.prefetch}; the first three must be positive, the last not below 0"
            )
        if any(fanout is not None and fanout < 1 for fanout in self.fanouts):
            raise ConfigError(f"fan-outs {list(self.fanouts)}; give positive ones or None for all")
        for name in ("cache_ratio", "bias"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; choose from 0 to 1")
        if (self.cache_policy == "none") != (self.cache_ratio == 0):
            raise ConfigError(
                f"cache policy {self.cache_policy!r} with a ratio of {self.cache_ratio:g}; "
                "'none' goes with 0, every other policy with more"
            )
        if self.bias > 0 and self.cache_policy == "none":
            raise ConfigError(f"bias {self.bias:g} towards a cache of nothing; give a cache, or 0")
        if self.feature_bits not in FEATURE_BITS:
            raise ConfigError(f"{self.feature_bits} bits per feature; choose from {FEATURE_BITS}")

    @property
    def odds(self) -> float:
        """Of drawing a cached neighbour against drawing another one."""
        return 1 + CACHED_ODDS * self.bias

    @property
    def text(self) -> str:
        """For people, in one line."""
        shown = "-".join("all" if fanout is None else str(fanout) for fanout in self.fanouts)
        words = [f"batch {self.batch_size}", f"{self.family}-wise {shown}"]
        if self.cache_policy == "none":
            words.append("no cache")
        else:
            words.append(f"{self.cache_policy} cache {self.cache_ratio:g}")
        if self.bias:
            words.append(f"bias {self.bias:g}" + ("" if self.unbiased else " not reweighted"))
        words.append(f"{self.model} {self.layers}x{self.hidden}")
        if self.prefetch:
            words.append(f"prefetch {self.prefetch}")
        return ", ".join([*words, f"fp{self.feature_bits}"])

    def document(self) -> dict[str, Any]:
        """JSON values by field; `Configuration.of` is the inverse."""
        return {**asdict(self), "fanouts": list(self.fanouts)}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Configuration:
        """The configuration of a document."""
        return cls(**{**document, "fanouts": tuple(document["fanouts"])})


CACHED_ODDS = 4.0
"""Added to the odds of a cached neighbour at full bias; our choice."""
TEMPLATES: dict[str, Configuration] = {
    "PyG": Configuration(1024, (10, 25)),
    "PaGraph": Configuration(1024, (10, 25), cache_policy="degree", cache_ratio=0.5),
    "PaGraph low": Configuration(1024, (10, 25), cache_policy="degree", cache_ratio=0.05),
    "2PGraph": Configuration(
        1024, (10, 25), cache_policy="degree", cache_ratio=0.2, bias=0.75, unbiased=False
    ),
    "GNNLab": Configuration(1024, (10, 25), cache_policy="frequency", cache_ratio=0.2),
}
"""Published systems as points of this space: their strategies, not their code. Fan-outs and batch
are those of PyG's GraphSAGE example, the same for all; ratios and bias are our choice."""
