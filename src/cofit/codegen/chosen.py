"""A kernel that is taken for an op in place of the one the formulas take."""

from __future__ import annotations

from dataclasses import dataclass

from cofit.codegen.kernel import Kernel


@dataclass(frozen=True)
class Times:
    """What was measured of one op alone, in seconds.

    Attributes:
        seconds: with the kernel that won.
        formula_s: with the kernel taken without measuring.
        tried: number of kernels that were timed.
    """

    seconds: float
    formula_s: float
    tried: int

    @property
    def text(self) -> str:
        """For the header of the generated function."""
        return (
            f"tuned: {self.seconds * 1e6:.1f} us, best of {self.tried}, "
            f"untuned {self.formula_s * 1e6:.1f} us"
        )


@dataclass(frozen=True)
class Chosen:
    """A kernel, and why it was chosen, if by its time."""

    kernel: Kernel
    times: Times | None = None
