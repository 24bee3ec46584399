"""What a fit asks of a target: precisions, structures worth trying, prices, costs of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from cofit.core import Cost, CostRow
from cofit.fit.precision import Precision
from cofit.fit.products import Product
from cofit.fit.progress import Progress
from cofit.ir import Graph


class Device(Protocol):
    """A target as plans see it, whether it runs programs or is modelled."""

    @property
    def name(self) -> str:
        """Of the target."""
        ...

    @property
    def measured(self) -> bool:
        """Whether its costs are read off a clock, so that they differ by percents next time."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Words that a budget for it may use beside accuracy_drop."""
        ...

    def precisions(self, wanted: str) -> list[Precision]:
        """Precisions to consider; the first is that of the dense reference.

        Raises:
            ConfigError: the target does not compute in it.
        """
        ...

    def families(self, precision: Precision, kind: str = "conv2d") -> tuple[str, ...]:
        """Structure families that make ops of a kind faster on the target."""
        ...

    def weight_bits(self, precision: Precision) -> tuple[int, ...]:
        """Bits of a stored weight, the usual first."""
        ...

    @property
    def narrows_structures(self) -> bool:
        """Whether weights in structures may have fewer bits too."""
        ...

    def price(
        self,
        graph: Graph,
        asked: Sequence[tuple[Product, str | None, int]],
        precision: Precision,
        progress: Progress,
    ) -> list[CostRow]:
        """Cost of the ops of products, each alone: (product, structure text, weight bits).

        The product has the structure; the other one of a recurrent op is dense.
        """
        ...

    def cost(self, graph: Graph) -> Cost:
        """Cost of a whole network, also of one that is too large for the device."""
        ...

    def cost_beside(self, graph: Graph, reference: Graph, known: Cost) -> Cost:
        """As `cost`, on the clock by which a reference took what is known of it."""
        ...

    def memory(self) -> dict[str, float]:
        """What the device has, by budget word; absent where it is not limited."""
        ...

    def ready(self) -> None:
        """Check what this machine needs for it.

        Raises:
            BuildError: there is no compiler.
        """
        ...

    def check(self, graph: Graph) -> None:
        """Check that the target can carry every op.

        Raises:
            UnsupportedOpError: naming the op that has no kernel.
            TargetError: naming what the hardware cannot do.
        """
        ...

    def within(self, ram_bytes: float, graph: Graph, cost: Cost) -> Self:
        """The device whose programs spare RAM where whole layers need more than this."""
        ...

    def describe(self) -> dict[str, str]:
        """Facts about the hardware for the report."""
        ...
