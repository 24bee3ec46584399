"""Finding parameters by name, and reading them through a transform that can be undone exactly."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.utils import parametrize

from cofit.core import UnknownNameError


def latent(model: nn.Module, name: str) -> nn.Parameter:
    """The trained parameter of a name, beneath any parametrisation.

    Raises:
        UnknownNameError: listing the parameters the model has.
    """
    known = latents(model)
    if name not in known:
        raise UnknownNameError("parameter", name, known)
    return known[name]


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
