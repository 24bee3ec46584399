"""Which halo rows travel, what factor they get, and how old the rows are that a step reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from cofit.core import ConfigError, torch_generator

DRAWS = ("bernoulli", "floor")


class Policy:
    """Everything travels and is used in the same step: the exact exchange."""

    delay: int = 0
    """Steps between sending and use."""
    gamma_feat: float | None = None
    """Momentum of the moving average of received features."""
    gamma_grad: float | None = None
    """Momentum of the moving average of received gradients."""

    def rows(self, step: int, owner: int, peer: int, count: int) -> torch.Tensor | None:
        """Ascending positions of the rows that `owner` sends `peer` at a step; None is all.

        Both ranks call this and get the same.

        Args:
            step: from 0; a delayed policy also asks for step -1.
            owner: rank that holds the rows.
            peer: rank whose halo they are in.
            count: rows that could be sent.
        """
        return None

    def factor(self, count: int, drawn: int) -> float:
        """What features and gradients are multiplied by, of `drawn` rows out of `count`."""
        return 1.0

    @property
    def text(self) -> str:
        """As `parse_policy` reads it."""
        return "exact"


@dataclass(frozen=True)
class Exact(Policy):
    """The exact exchange: partition-parallel training equal to that of one process."""


@dataclass(frozen=True)
class Sampled(Policy):
    """Random rows of each halo, drawn anew every step, one draw for all layers.

    Both ends derive the draw from the seed, so that no positions travel.

    Source: C. Wan et al., "BNS-GCN", MLSys 2022.

    Args:
        p: share of the rows, from 0 to 1.
        seed: of the draws.
        draw: "bernoulli", each row with probability p and factor 1/p; or "floor", exactly
            floor(p count) rows and the factor count / floor(p count), which never sends anything
            from halos of fewer than 1/p rows.
        scale: multiply by the factor, which makes sums and means unbiased; no for attention.

    Raises:
        ConfigError: p out of range, or another draw.
    """

    p: float
    seed: int = 0
    draw: str = "bernoulli"
    scale: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ConfigError(f"sampling share p={self.p}; choose from 0 to 1")
        if self.draw not in DRAWS:
            raise ConfigError(f"draw {self.draw!r}; choose one of {', '.join(DRAWS)}")

    def rows(self, step: int, owner: int, peer: int, count: int) -> torch.Tensor | None:
        """See `Policy.rows`."""
        if self.p == 1:
            return None
        generator = torch_generator(self.seed, "halo", owner, peer, step)
        if self.draw == "floor":
            drawn = torch.randperm(count, generator=generator)[: int(self.p * count)]
            return drawn.sort().values
        return torch.nonzero(torch.rand(count, generator=generator) < self.p).squeeze(1)

    def factor(self, count: int, drawn: int) -> float:
        """See `Policy.factor`."""
        if not (self.scale and drawn):
            return 1.0
        return count / drawn if self.draw == "floor" else 1 / self.p

    @property
    def text(self) -> str:
        """For example "sampled:0.1"."""
        return f"sampled:{self.p:g}"


@dataclass(frozen=True)
class Stale(Policy):
    """Features and gradients of the previous step, while the new ones travel.

    At step 0 features and gradients of others count as zero.

    Source: C. Wan et al., "PipeGCN", ICLR 2022.

    Args:
        gamma_feat: of the moving average avg = gamma avg + (1 - gamma) received, from zero; None
            takes what was received.
        gamma_grad: the same of gradients.

    Raises:
        ConfigError: a gamma is not from 0 to below 1.
    """

    gamma_feat: float | None = None
    gamma_grad: float | None = None
    delay: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        for gamma in (self.gamma_feat, self.gamma_grad):
            if gamma is not None and not 0 <= gamma < 1:
                raise ConfigError(f"gamma {gamma} of a moving average; choose from 0 to below 1")

    @property
    def text(self) -> str:
        """For example "stale" or "stale:0.5:0.95"."""
        if self.gamma_feat is None and self.gamma_grad is None:
            return "stale"
        return f"stale:{self.gamma_feat or 0:g}:{self.gamma_grad or 0:g}"


@dataclass(frozen=True)
class Composed(Policy):
    """Sampled rows that are used one step late, in the graph of the sample they belong to.

    Args:
        sampled: which rows.
        stale: how late; without moving averages, which would mix rows of different samples.

    Raises:
        ConfigError: moving averages.
    """

    sampled: Sampled
    stale: Stale
    delay: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.stale != Stale():
            raise ConfigError(
                "a moving average of sampled rows would mix different samples; compose with "
                "'stale' without gammas"
            )

    def rows(self, step: int, owner: int, peer: int, count: int) -> torch.Tensor | None:
        """See `Policy.rows`."""
        return self.sampled.rows(step, owner, peer, count)

    def factor(self, count: int, drawn: int) -> float:
        """See `Policy.factor`."""
        return self.sampled.factor(count, drawn)

    @property
    def text(self) -> str:
        """For example "sampled:0.1+stale"."""
        return f"{self.sampled.text}+{self.stale.text}"


def parse_policy(text: str, seed: int = 0, attention: bool = False) -> Policy:
    """Read "exact", "sampled:0.1", "stale", "stale:0.5" or "sampled:0.1+stale".

    Args:
        text: "stale:G" has one gamma for both directions, "stale:F:G" one for features and one for
            gradients.
        seed: of sampling.
        attention: sampled rows are not scaled.

    Raises:
        ConfigError: it cannot be read.
    """
    words = [word.split(":") for word in text.split("+")]
    try:
        match words:
            case [["exact"]]:
                return Exact()
            case [["sampled", share]]:
                return Sampled(float(share), seed, scale=not attention)
            case [["stale", *gammas]] if len(gammas) < 3:
                values = [float(gamma) for gamma in gammas]
                return Stale(values[0], values[-1]) if values else Stale()
            case [["sampled", share], ["stale"]]:
                return Composed(Sampled(float(share), seed, scale=not attention), Stale())
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
    raise ConfigError(
        f"exchange {text!r}; give exact, sampled:P, stale, stale:GAMMA or sampled:P+stale"
    )
