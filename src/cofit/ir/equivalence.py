"""Whether two computations are the same function: both run in float64 on inputs made to disagree.

For merges, surgery and tracing. A rewrite that is right inside but wrong at borders, right in eval
but wrong in training, or right only at BatchNorm's initial statistics is caught by `probes`,
`training` and `randomise_statistics_`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from cofit.core import VerificationError
from cofit.ir.execute import run_float
from cofit.ir.types import Graph

Computation = nn.Module | Graph | Callable[..., Any]
Inputs = tuple[torch.Tensor, ...]

_SCALE_FLOOR = 1e-6  # below this, outputs are rounding noise and have no relative error


@dataclass(frozen=True)
class Equivalence:
    """Largest differences found.

    Attributes:
        max_abs_error: over all elements of all outputs.
        max_rel_error: error over the largest magnitude of its output, the largest of all.
        samples: number of inputs tried.
        equal: whether `max_rel_error` is within the tolerance.
    """

    max_abs_error: float
    max_rel_error: float
    samples: int
    equal: bool


def compare(
    a: Computation,
    b: Computation,
    inputs: Iterable[Inputs],
    *,
    tolerance: float = 1e-9,
    training: bool = False,
) -> Equivalence:
    """Run two computations in float64 on each input.

    Modules are left as they were: parameters and buffers are doubled aside, modes are restored.

    Args:
        a: a module, a float graph or any callable; the reference of the relative error.
        b: likewise.
        inputs: argument tuples, see `probes`.
        tolerance: largest relative error called equal.
        training: run modules in training mode (BatchNorm with batch statistics).

    Raises:
        VerificationError: the outputs differ in number or shape, so they cannot be compared.
    """
    worst_abs = worst_rel = 0.0
    samples = 0
    for sample in inputs:
        # a copy for each: either may change its arguments in place
        first, second = (_run(each, tuple(map(_copied, sample)), training) for each in (a, b))
        shapes = [[tuple(y.shape) for y in outputs] for outputs in (first, second)]
        if shapes[0] != shapes[1]:
            raise VerificationError(
                f"outputs have shapes {shapes[0]} and {shapes[1]}; they cannot be compared"
            )
        for x, y in zip(first, second, strict=True):
            error, scale = _difference(x, y)
            worst_abs, worst_rel = max(worst_abs, error), max(worst_rel, error / scale)
        samples += 1
    return Equivalence(worst_abs, worst_rel, samples, samples > 0 and worst_rel <= tolerance)


def assert_equivalent(
    a: Computation,
    b: Computation,
    inputs: Iterable[Inputs],
    *,
    tolerance: float = 1e-9,
    training: bool = False,
    what: str = "the rewritten network",
) -> Equivalence:
    """`compare`, demanding equality.

    Raises:
        VerificationError: naming `what` and the error found.
    """
    found = compare(a, b, inputs, tolerance=tolerance, training=training)
    if not found.equal:
        raise VerificationError(
            f"{what} does not compute what it should: relative error {found.max_rel_error:.3g} "
            f"(absolute {found.max_abs_error:.3g}) over {found.samples} inputs, "
            f"allowed is {tolerance:g}"
        )
    return found


def probes(example: Sequence[torch.Tensor], generator: torch.Generator) -> list[Inputs]:
    """Inputs of the example's shapes that tell rewrites apart.

    The example; normal noise; noise on the outermost ring only, and within it only; zeros; an
    alternating field of magnitude 1e4; a constant.
    """

    def noise(x: torch.Tensor) -> torch.Tensor:
        return torch.randn(x.shape, generator=generator, dtype=torch.float64)

    def alternating(x: torch.Tensor) -> torch.Tensor:
        return (1e4 * (1 - 2 * (torch.arange(x.numel()) % 2)).double()).reshape(x.shape)

    makers: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda x: x.to(torch.float64),
        noise,
        lambda x: 3 * noise(x) * _ring(x),
        lambda x: 3 * noise(x) * (1 - _ring(x)),
        lambda x: torch.zeros(x.shape, dtype=torch.float64),
        alternating,
        lambda x: torch.ones(x.shape, dtype=torch.float64),
    )
    return [tuple(make(x) for x in example) for make in makers]


def randomise_statistics_(module: nn.Module, generator: torch.Generator) -> None:
    """Give every BatchNorm statistics and affine values far from their initial ones, in place.

    Initial BatchNorms are near the identity and hide wrong folds; call this before a rewrite.
    """
    for layer in module.modules():
        if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
            continue
        with torch.no_grad():
            if layer.running_mean is not None and layer.running_var is not None:
                layer.running_mean.normal_(generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
            if layer.affine:
                layer.weight.uniform_(-1.5, 1.5, generator=generator)
                layer.bias.normal_(generator=generator)


@contextmanager
def mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put a module and all below it in one mode; each gets its own mode back."""
    before = {part: part.training for part in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for part, flag in before.items():
            part.training = flag


def _run(computation: Computation, inputs: Inputs, training: bool) -> list[torch.Tensor]:
    with torch.no_grad():
        if isinstance(computation, Graph):
            named = dict(zip(computation.inputs, inputs, strict=True))
            results = run_float(computation, named, torch.float64)
            return [results[name] for name in computation.outputs]
        if isinstance(computation, nn.Module):
            with mode(computation, training), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the network's own; its author has seen them
                outputs = functional_call(computation, _doubled(computation), inputs)
        else:
            outputs = computation(*inputs)
    return [y.to(torch.float64) for y in pytree.tree_leaves(outputs)]


def _copied(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.float64, copy=True) if x.is_floating_point() else x.clone()


def _doubled(module: nn.Module) -> dict[str, torch.Tensor]:
    state = [*module.named_parameters(), *module.named_buffers()]
    return {
        name: value.detach().to("cpu", torch.float64, copy=True)
        if value.is_floating_point()
        else value.detach().clone()
        for name, value in state
    }


def _difference(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Largest error and the scale to judge it by; infinite where finiteness differs."""
    finite = x.isfinite()
    same = torch.equal(finite, y.isfinite()) and torch.equal(
        x[~finite].nan_to_num(), y[~finite].nan_to_num()
    )
    if not same:
        return math.inf, 1.0
    x, y = x[finite], y[finite]
    if x.numel() == 0:
        return 0.0, 1.0
    return float((x - y).abs().max()), max(float(x.abs().max()), _SCALE_FLOOR)


def _ring(x: torch.Tensor) -> torch.Tensor:
    """Ones on the outermost positions of every axis after batch and channel, zeros within."""
    inside = torch.ones(x.shape, dtype=torch.float64)
    for axis in range(min(2, x.ndim - 1), x.ndim):
        inside.index_fill_(axis, torch.tensor([0, x.shape[axis] - 1]), 0.0)
    return 1 - inside
