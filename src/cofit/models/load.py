"""Loading a network: by name, from a user's factory, or from an exported program."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from cofit.core import ModelError, UnknownNameError, derive_seed, read_tensors
from cofit.models.exported import load_exported
from cofit.models.normalise import Normalise
from cofit.models.zoo import known_models, model


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network in evaluation mode and what is known about its inputs.

    Attributes:
        name: what it was loaded by.
        module: the network.
        preprocess: from a data set's values to the network's.
        input_shape: of one input, without the batch axis; None if nobody said.
        fresh: the weights were drawn at random (from the seed), not trained: none were given, and
            a factory called with another seed gives other ones.
        vocabulary: of a network that takes tokens; None for all others.
    """

    name: str
    module: nn.Module
    preprocess: Normalise
    input_shape: tuple[int, ...] | None
    fresh: bool
    vocabulary: int | None = None


def load_model(spec: str, weights: str | Path | None = None, seed: int = 0) -> Loaded:
    """Make a network, initialised by `seed` or filled with trained weights.

    Args:
        spec: a name of `known_models()`; or "package.module:factory", imported with the current
            folder on the path, where `factory()` gives a module that may carry `input_shape`
            (without the batch axis) and `preprocess` (a `Normalise`); or the path of a .pt2 file.
        weights: a safetensors file whose keys are exactly the network's.
        seed: of the initialisation; the global generator is left as it was.

    Raises:
        UnknownNameError: no such name.
        ModelError: the factory, the program or the weights are not acceptable.
        FileError: the weights file is absent, truncated or a pickle.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "models", spec))
        loaded = _make(spec)
    if weights is not None:
        load_weights(loaded.module, Path(weights))
        loaded = replace(loaded, fresh=False)
    else:
        _check_finite(spec, loaded.module.state_dict())
    return loaded


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill `module` from a safetensors file whose keys and shapes are exactly the module's.

    Batch norm's step counters may be absent. Nothing is changed if anything does not fit.

    Raises:
        ModelError: naming at most three keys that are missing, unexpected or of another shape,
            or the first tensor that holds NaN or infinity.
        FileError: the file is absent, truncated or a pickle.
    """
    found = read_tensors(path)
    wanted = module.state_dict()
    missing = [
        key for key in wanted if key not in found and not key.endswith(".num_batches_tracked")
    ]
    unexpected = [key for key in found if key not in wanted]
    mismatched = [
        f"{key} {_kind(found[key])} instead of {_kind(wanted[key])}"
        for key in wanted
        if key in found and _kind(found[key]) != _kind(wanted[key])
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("mismatched", mismatched))
    faults = [f"{word} {_first(keys)}" for word, keys in kinds if keys]
    if faults:
        raise ModelError(
            f"weights {str(path)!r} do not fit the network: {'; '.join(faults)}; "
            "give the weights of this very network"
        )
    _check_finite(str(path), found)
    module.load_state_dict(found, strict=False)


def _kind(tensor: torch.Tensor) -> str:
    return f"{'float' if tensor.is_floating_point() else 'integer'} {tuple(tensor.shape)}"


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more


def _check_finite(source: str, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(
                f"{source!r}: {name} contains NaN or infinity; the training diverged, "
                "use an earlier checkpoint"
            )


def _make(spec: str) -> Loaded:
    if spec.endswith(".pt2"):
        exported = load_exported(Path(spec))
        return Loaded(spec, exported, Normalise(), exported.input_shape, fresh=False)
    if ":" in spec:
        return _from_factory(spec)
    try:
        entry = model(spec)
    except UnknownNameError as error:
        names = [entry.name for entry in known_models()]
        raise UnknownNameError("model", spec, [*names, "MODULE:FACTORY", "FILE.pt2"]) from error
    module = entry.build().eval()
    return Loaded(spec, module, entry.preprocess, entry.input_shape, True, entry.vocabulary)


def _from_factory(spec: str) -> Loaded:
    module_name, _, attribute = spec.partition(":")
    with _current_folder_on_path():
        try:
            source = importlib.import_module(module_name)
        except Exception as error:  # importing runs the user's code, which may fail in any way
            raise ModelError(
                f"cannot import {module_name!r} of model {spec!r} ({_line(error)}); "
                "write package.module:factory and start from the folder that holds the package"
            ) from error
        factory = getattr(source, attribute, None)
        if factory is None:
            raise ModelError(
                f"module {module_name!r} has no {attribute!r}; write package.module:factory"
            )
        if not callable(factory):
            raise ModelError(f"{spec!r} is a {type(factory).__name__}; give a function or class")
        try:
            module = factory()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(torch.initial_seed() ^ 1)
                other = factory()
        except Exception as error:
            raise ModelError(
                f"{spec!r} failed: {_line(error)}; it must work without arguments"
            ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{spec!r} gave a {type(module).__name__}; it must give a torch.nn.Module")
    shape = getattr(module, "input_shape", None)
    preprocess = getattr(module, "preprocess", Normalise())
    if not isinstance(preprocess, Normalise):
        raise ModelError(f"{spec!r}: preprocess must be a cofit.models.Normalise")
    return Loaded(
        spec,
        module.eval(),
        preprocess,
        None if shape is None else _shape(spec, shape),
        _differ(module, other),
    )


def _differ(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=False)
    return any(not torch.equal(a, b) for a, b in pairs)


def _shape(spec: str, value: object) -> tuple[int, ...]:
    if isinstance(value, tuple | list | torch.Size):
        sizes = tuple(value)
        if sizes and all(isinstance(size, int) and size > 0 for size in sizes):
            return sizes
    raise ModelError(
        f"{spec!r}: input_shape is {value!r}; give positive sizes without the batch, "
        "for example (3, 32, 32)"
    )


def _line(error: BaseException) -> str:
    text = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def _current_folder_on_path() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
