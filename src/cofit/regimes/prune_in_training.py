"""Pruning inside one ordinary training: plain, then a group lasso on what will go, then masks.

The mode table of ClickTrain (ICS 2021, arXiv 2011.10170), for any structures: what stays is chosen
once, by Taylor importance instead of magnitude, when the early phase of large steps is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cofit.core import ConfigError, StructureError
from cofit.regimes.attachment import latent, require_finite
from cofit.regimes.contract import Context, Handle, Regime, Role, Slot
from cofit.regimes.group_lasso import GroupLasso
from cofit.regimes.importance import TaylorImportance
from cofit.regimes.masked import Support
from cofit.structures import Structure, parse, support

Choice = Mapping[str, Sequence[Structure]]
Chooser = Callable[[Mapping[str, torch.Tensor]], Choice]
"""From importance by name to the structures each weight is to end in."""


class PruneInTraining(Regime):
    """Chooses after `lasso_epoch` has begun, shrinks until `mask_epoch`, then trains what is left.

    Each structure of a weight marks its complement on its own (connectivity the kernels of least
    importance, a pattern the positions outside the best shape of every kernel). Each complement is
    a group lasso, their union is masked. The steps that estimate importance are ordinary ones.

    Args:
        names: of the weights to prune.
        choose: which structures; it may make a library from the importance. On `attach` it is
            tried with the squared weights, so that what does not fit is refused at once.
        lasso_epoch: first epoch with the group lasso (e1).
        mask_epoch: first epoch with masks (e2).
        strength: of the group lasso (lambda).
        batches: over which importance is averaged, the first ones of `lasso_epoch`.

    Attributes:
        structures: those chosen; empty before.
        removed_norm: L2 norm of what is removed, when chosen and just before it is masked.
    """

    def __init__(
        self,
        names: Iterable[str],
        choose: Chooser,
        *,
        lasso_epoch: int,
        mask_epoch: int,
        strength: float = 2.5e-4,
        batches: int = 8,
    ) -> None:
        if not 0 <= lasso_epoch < mask_epoch or strength < 0 or batches < 1:
            raise ConfigError(
                f"pruning in training got lasso_epoch={lasso_epoch}, mask_epoch={mask_epoch}, "
                f"strength={strength}, batches={batches}; it needs 0 <= lasso_epoch < mask_epoch, "
                "a strength from 0 up and at least one batch"
            )
        self.structures: dict[str, tuple[Structure, ...]] = {}
        self.removed_norm: tuple[float, ...] = ()
        self._names = tuple(names)
        self._choose = choose
        self._lasso_epoch = lasso_epoch
        self._mask_epoch = mask_epoch
        self._strength = strength
        self._batches = batches
        self._epoch = 0
        self._model: nn.Module = nn.Identity()
        self._weights: dict[str, nn.Parameter] = {}
        self._importance = TaylorImportance({})
        self._removed: dict[str, tuple[torch.Tensor, ...]] = {}
        self._lasso = GroupLasso({}, strength)
        self._support: Support | None = None

    def slots(self) -> frozenset[Slot]:
        """One mask slot per weight."""
        return frozenset(Slot(name, Role.MASK) for name in self._names)

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Bind to the weights; the model is not changed.

        Raises:
            UnknownNameError: a weight the model does not have.
            StructureError: a structure does not fit its weight, which is named.
        """
        self._model = model
        self._weights = {name: latent(model, name) for name in self._names}
        for name, weight in self._weights.items():
            require_finite(name, weight)
        self._importance = TaylorImportance(self._weights)
        self._chosen({name: w.detach().square() for name, w in self._weights.items()})
        return Handle()

    def on_epoch(self, epoch: int) -> None:
        """Mask when `mask_epoch` begins."""
        self._epoch = epoch
        if epoch >= self._mask_epoch and self._support is None:
            self._mask()

    def loss(self, context: Context) -> Mapping[str, torch.Tensor]:
        """The term "lasso" between the choice and the masks."""
        return self._lasso.loss(context) if self._removed and self._support is None else {}

    def after_backward(self) -> None:
        """Estimate and choose when due; later mask the gradients."""
        if self._support is not None:
            self._support.clear_gradients()
        elif self._epoch >= self._lasso_epoch and not self._removed:
            self._importance.add()
            if self._importance.batches == self._batches:
                self._choose_now()

    def after_step(self) -> None:
        """Mask the weights again: momentum from before must not revive what was removed."""
        if self._support is not None:
            self._support.clear_weights()

    def finalize(self, model: nn.Module) -> nn.Module:
        """Mask if training ended before `mask_epoch`.

        Raises:
            ConfigError: training ended before `lasso_epoch`.
        """
        if self._support is None:
            self._mask()
        return model

    def state_dict(self) -> dict[str, Any]:
        """The epoch, the estimate, what was chosen, the masks."""
        return {
            "epoch": self._epoch,
            "importance": self._importance.state_dict(),
            "structures": {n: [s.text for s in sets] for n, sets in self.structures.items()},
            "removed": {name: list(marks) for name, marks in self._removed.items()},
            "norms": list(self.removed_norm),
            "masked": self._support is not None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._epoch = state["epoch"]
        self._importance.load_state_dict(state["importance"])
        self.structures = {n: tuple(map(parse, s)) for n, s in state["structures"].items()}
        self.removed_norm = tuple(state["norms"])
        self._bind({name: tuple(marks) for name, marks in state["removed"].items()})
        self._support = self._held() if state["masked"] else None

    def _chosen(self, importance: Mapping[str, torch.Tensor]) -> dict[str, tuple[Structure, ...]]:
        choice = self._choose(importance)
        found = {}
        for name in self._names:
            found[name] = tuple(choice[name])
            for structure in found[name]:
                reason = structure.applies(tuple(importance[name].shape))
                if reason is not None:
                    raise StructureError(f"{structure.text} does not apply to {name!r}: {reason}")
        return found

    def _choose_now(self) -> None:
        importance = self._importance.mean()
        self.structures = self._chosen(importance)
        removed = {}
        for name, structures in self.structures.items():
            require_finite(name, importance[name])
            # a structure keeps the units of largest sum of squares; in double, the root is exact
            # enough that equal importances stay equal
            root = importance[name].double().sqrt()
            removed[name] = tuple(~support(structure, root) for structure in structures)
        self._bind(removed)
        self.removed_norm = (self._lasso.norm(),)

    def _bind(self, removed: dict[str, tuple[torch.Tensor, ...]]) -> None:
        self._removed = removed
        self._lasso = GroupLasso(removed, self._strength)
        self._lasso.attach(self._model, torch.empty(0))

    def _mask(self) -> None:
        if not self._removed:
            if not self._importance.batches:
                raise ConfigError(
                    f"training ended before epoch {self._lasso_epoch}, so nothing was chosen to be "
                    "pruned; train longer or choose earlier"
                )
            self._choose_now()
        self.removed_norm += (self._lasso.norm(),)
        self._support = self._held()
        self._support.clear_weights()

    def _held(self) -> Support:
        held = Support(self._weights)
        held.choose({name: ~torch.stack(marks).any(0) for name, marks in self._removed.items()})
        return held
