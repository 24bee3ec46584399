"""How many samples each layer draws, and in which flow: standard, or memorised (DM).

Source: Jia et al., "Efficient computation reduction in Bayesian neural networks through feature
decomposition and memorization", TNNLS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cofit.core import ConfigError

Flow = Literal["standard", "memorised", "local"]
FLOWS: tuple[Flow, ...] = ("standard", "memorised")
"""Those that draw weights."""


@dataclass(frozen=True)
class Work:
    """Size of a layer: outputs, inputs, positions (1 of a linear layer), whether it has a bias."""

    rows: int
    columns: int
    positions: int = 1
    bias: bool = False

    def multiplications(self, flow: Flow, inputs: int, samples: int) -> int:
        """Multiplications of `samples` weight samples for each of several distinct inputs.

        Standard: form each weight, then multiply it at each position. Memorised: mu x and sigma x
        once per input, then one per weight and position. Local: outputs are drawn, not weights;
        the squares of x, then variances.
        """
        weights = self.rows * self.columns
        if flow == "standard":
            each = samples * weights * (1 + self.positions)
        elif flow == "memorised":
            each = (2 + samples) * weights * self.positions
        else:
            each = (2 * weights + self.columns + samples * self.rows) * self.positions
            return inputs * each
        return inputs * (each + samples * self.rows * self.bias)


@dataclass(frozen=True)
class Plan:
    """Samples and flow per layer.

    Attributes:
        samples: drawn by each layer for every distinct input; their product is the voters. Voters
            that share early samples are correlated.
        flows: of each layer.
    """

    samples: tuple[int, ...]
    flows: tuple[Flow, ...]

    def __post_init__(self) -> None:
        if not self.samples or len(self.flows) != len(self.samples):
            raise ConfigError(
                f"{len(self.samples)} sample counts and {len(self.flows)} flows; give one of each "
                "per layer"
            )
        for samples in self.samples:
            if samples < 1:
                raise ConfigError(f"a layer with {samples} samples; it must draw at least 1")

    @property
    def voters(self) -> int:
        """Samples of the whole network."""
        return math.prod(self.samples)

    def multiplications(self, works: Sequence[Work]) -> int:
        """Closed form of all layers; `count_multiplications` counts what is executed."""
        self.check_layers(len(works))
        total = 0
        for layer, work in enumerate(works):
            inputs = math.prod(self.samples[:layer])
            total += work.multiplications(self.flows[layer], inputs, self.samples[layer])
        return total

    def check_layers(self, layers: int) -> None:
        """Refuse another number of layers."""
        if layers != len(self.samples):
            raise ConfigError(
                f"a plan for {len(self.samples)} layers, a network of {layers}; give one sample "
                "count per layer"
            )


def _shared(voters: int, layers: int, first: Flow, others: Flow) -> Plan:
    """Voters that share the network's input only."""
    flows: list[Flow] = [first, *[others] * (layers - 1)]
    return Plan((voters, *[1] * (layers - 1)), tuple(flows))


def standard(voters: int, layers: int) -> Plan:
    """Independent voters, each with weights of its own formed in every layer."""
    return _shared(voters, layers, "standard", "standard")


def hybrid(voters: int, layers: int) -> Plan:
    """The same voters with the first layer, whose input all share, memorised."""
    return _shared(voters, layers, "memorised", "standard")


def local(voters: int, layers: int) -> Plan:
    """Independent voters by local reparameterisation: outputs are drawn instead of weights."""
    return _shared(voters, layers, "local", "local")


def tree(samples: Sequence[int], voters: int | None = None) -> Plan:
    """Memorisation in every layer.

    Args:
        samples: per layer.
        voters: their product, to be checked if given.

    Raises:
        ConfigError: a count below 1, or another product.
    """
    flows: list[Flow] = ["memorised"] * len(samples)
    found = Plan(tuple(samples), tuple(flows))
    if voters is not None and found.voters != voters:
        text = " x ".join(map(str, samples))
        raise ConfigError(f"{text} samples make {found.voters} voters, not {voters}; change either")
    return found


def cheapest(samples: Sequence[int], works: Sequence[Work]) -> Plan:
    """Per layer whichever of standard and memorised multiplies less; at a tie, standard.

    Memorising pays from more than twice as many samples as positions on: never for one sample,
    from 3 in a linear layer, and hardly ever in a convolution, which forms a weight only once.
    """
    flows: list[Flow] = []
    for count, work in zip(samples, works, strict=True):
        costs = {flow: work.multiplications(flow, 1, count) for flow in FLOWS}
        flows.append(min(costs, key=costs.__getitem__))
    return Plan(tuple(samples), tuple(flows))
