"""Finding parameters by name, and reading them through a transform that can be undone exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize

from cofit.core import StructureError, UnknownNameError
from cofit.structures import Structure


def latent(model: nn.Module, name: str) -> nn.Parameter:
    """The trained parameter of a name, beneath any parametrisation.

    Raises:
        UnknownNameError: listing the parameters the model has.
    """
    known = latents(model)
    if name not in known:
        raise UnknownNameError("parameter", name, known)
    return known[name]


def latent_weight(model: nn.Module, name: str) -> nn.Parameter:
    """As `latent`, of a weight of two or more dimensions and finite values.

    Raises:
        UnknownNameError: listing the parameters the model has.
        StructureError: it is no weight, or holds NaN or infinity; naming it.
    """
    found = latent(model, name)
    if found.dim() < 2 or found.numel() == 0:
        raise StructureError(
            f"{name!r} has shape {tuple(found.shape)}; it is no weight, name one of two or more "
            "dimensions"
        )
    require_finite(name, found)
    return found


def suited_weight(model: nn.Module, name: str, *structures: Structure) -> nn.Parameter:
    """As `latent_weight`, of a shape that carries the structures.

    Raises:
        UnknownNameError: listing the parameters the model has.
        StructureError: a structure does not apply, or the weight is not finite; naming it.
    """
    found = latent(model, name)
    for structure in structures:
        reason = structure.applies(tuple(found.shape))
        if reason is not None:
            raise StructureError(f"{structure.text} does not apply to {name!r}: {reason}")
    require_finite(name, found)
    return found


def require_finite(name: str, weight: torch.Tensor) -> None:
    """Refuse a weight that has diverged.

    Raises:
        StructureError: it holds NaN or infinity, naming it.
    """
    if not bool(torch.isfinite(weight).all()):
        raise StructureError(
            f"{name!r} holds NaN or infinite values; find the training step that made them, or "
            "lower the learning rate"
        )


def latents(model: nn.Module) -> dict[str, nn.Parameter]:
    """All parameters by the names they have without parametrisation."""
    found: dict[str, nn.Parameter] = {}
    for key, parameter in model.named_parameters(remove_duplicate=False):
        before, transformed, after = key.partition("parametrizations.")
        if not transformed or after.endswith(".original"):  # others belong to a transform
            found[before + after.removesuffix(".original")] = parameter
    return found


def parametrise(model: nn.Module, name: str, transform: nn.Module) -> Callable[[], None]:
    """Read a parameter through `transform` from now on; returns the inverse.

    The parameter object stays the one that is trained. The inverse also restores the order of the
    module's parameters, which decides their order in optimisers and state dicts; inverses of
    several transforms of one parameter are called last first.
    """
    latent(model, name)
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    order = list(module._parameters)
    parametrize.register_parametrization(module, attribute, transform, unsafe=True)

    def undo() -> None:
        if not parametrize.is_parametrized(module, attribute):
            return
        transforms = module.get_submodule(f"parametrizations.{attribute}")
        assert isinstance(transforms, nn.ModuleList)
        found = [i for i, other in enumerate(transforms) if other is transform]
        if len(transforms) > len(found):
            for i in found:
                del transforms[i]
            return
        parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
        for key in order:
            module._parameters[key] = module._parameters.pop(key)

    return undo
