"""ADMM that finds its pattern library while it trains (Ma et al., ECCV 2020, section 4).

It starts from a large library. Whenever a stage begins, the patterns that the kernels use least
are dropped, so that pattern selection, library and weights come out of one training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from cofit.core import ConfigError
from cofit.regimes.admm import ADMM, ROUND_STEPS
from cofit.structures import Connectivity, Pattern, PatternLibrary, Structure, extract_library


class PatternADMM(ADMM):
    """ADMM over stages of which each has a smaller library, one for the whole network.

    Args:
        structures: by parameter name; the patterns among them have one and the same library.
        sizes: patterns of the second, third, ... stage, falling: 56 may go to 32, 16 and 8.
        rho: penalty of the first stage.
        growth: factor of rho from stage to stage.
        stage_epochs: epochs per stage.
        round_steps: see `ADMM`.

    Attributes:
        library: the present one.
    """

    def __init__(
        self,
        structures: Mapping[str, Sequence[Structure]],
        sizes: Sequence[int] = (32, 16, 8),
        *,
        rho: float = 1e-3,
        growth: float = 10.0,
        stage_epochs: int = 2,
        round_steps: int = ROUND_STEPS,
    ) -> None:
        super().__init__(
            structures, rho=rho, growth=growth, stages=len(sizes) + 1,
            stage_epochs=stage_epochs, round_steps=round_steps,
        )  # fmt: skip
        libraries = {
            structure.library for _, structure in self._pairs() if isinstance(structure, Pattern)
        }
        if len(libraries) != 1:
            raise ConfigError(
                f"the weights have {len(libraries)} pattern libraries; give one that all share"
            )
        (self.library,) = libraries
        falling = [len(self.library.masks), *sizes]
        if any(later >= earlier for earlier, later in pairwise(falling)) or falling[-1] < 1:
            raise ConfigError(
                f"libraries of {', '.join(map(str, falling))} patterns; each must be smaller than "
                "the one before and hold at least one"
            )
        self._sizes = tuple(sizes)

    def on_epoch(self, epoch: int) -> None:
        """See `ADMM`; when a stage begins, shrink the library first."""
        before = self._stage
        super().on_epoch(epoch)
        if self._stage > before:
            self._shrink(self._sizes[self._stage - 1])

    def state_dict(self) -> dict[str, Any]:
        """See `ADMM`, and the library."""
        return {**super().state_dict(), "library": list(self.library.masks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        super().load_state_dict(state)
        self._use(PatternLibrary(tuple(state["library"])))

    def _shrink(self, size: int) -> None:
        """Keep the patterns that the kernels kept by connectivity use most."""
        voting = []
        with torch.no_grad():
            for name, sets in self.structures.items():
                if any(isinstance(structure, Pattern) for structure in sets):
                    weight = self._weights[name].detach()
                    for structure in sets:
                        if isinstance(structure, Connectivity):
                            weight = structure.project(weight)
                    voting.append(weight)
            self._use(extract_library(voting, size, self.library))
            for name, sets in self.structures.items():
                for i, structure in enumerate(sets):
                    if isinstance(structure, Pattern):
                        weight = self._weights[name].detach()
                        self._z[name][i] = structure.project(weight + self._u[name][i])

    def _use(self, library: PatternLibrary) -> None:
        self.library = library
        self.structures = {
            name: tuple(replace(s, library=library) if isinstance(s, Pattern) else s for s in sets)
            for name, sets in self.structures.items()
        }
