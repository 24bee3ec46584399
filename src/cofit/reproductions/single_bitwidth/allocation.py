"""Bits per layer, by zero degradation or sensitivity, and the choice of one bit-width for all."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError, InfeasibleError
from cofit.core.allocate import Choice, allocate
from cofit.data import Split
from cofit.ir.quantise_layer import weight_scales
from cofit.regimes.learned_steps import BITS, most_level
from cofit.reproductions.harness import accuracy
from cofit.reproductions.single_bitwidth.size import packed_bytes


def rounded(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """A weight (K, ...) rounded without training: per channel, at the scale of least squares.

    The scale is exact at one bit (mean|w|) and found by a search over clips elsewhere.
    """
    if bits == 1:
        scale = weight.flatten(1).abs().mean(1).reshape(-1, *[1] * (weight.dim() - 1))
        return torch.where(weight < 0, -scale, scale)
    found = torch.from_numpy(weight_scales(weight.double().numpy(), bits))
    steps = found.clamp(min=1e-12).reshape(-1, *[1] * (weight.dim() - 1))
    top = most_level(bits)
    return ((weight.double() / steps).round().clamp(-top, top) * steps).to(weight.dtype)


def zero_degradation(
    model: nn.Module, split: Split, bits: Sequence[int], tolerance: float = 0.0
) -> dict[str, int]:
    """The fewest bits of each layer that cost no accuracy, layer after layer.

    Layers that lose least when they alone take the fewest bits come first.

    Args:
        model: trained in floats.
        split: examples held out of training.
        bits: choices.
        tolerance: accuracy that may be lost in all.
    """
    order = sorted(bits)
    weights = {name: p.detach() for name, p in model.named_parameters() if p.dim() > 1}
    names = list(weights)
    forms = {(n, b): rounded(weight, b) for n, weight in weights.items() for b in order}
    changed = copy.deepcopy(model)

    def reached(chosen: Mapping[str, int]) -> float:
        with torch.no_grad():
            for name, number in chosen.items():
                changed.get_parameter(name).copy_(forms[name, number])
        return accuracy(changed, split)

    whole = dict.fromkeys(names, order[-1])
    floor = reached(whole) - tolerance
    alone = {n: reached(whole | {n: order[0]}) for n in names}
    chosen = dict(whole)
    for name in sorted(names, key=lambda n: -alone[n]):
        for fewer in order:
            if fewer >= chosen[name]:
                break
            if reached(chosen | {name: fewer}) >= floor:
                chosen[name] = fewer
                break
    return chosen


def at_random(
    shapes: Mapping[str, tuple[int, ...]],
    bits: Sequence[int],
    budget: int,
    generator: torch.Generator,
) -> dict[str, int]:
    """Bits of each layer drawn alike, raised or lowered at random until they fill a budget.

    Args:
        shapes: of the weights, by name.
        bits: choices.
        budget: bytes.
        generator: of the draw.

    Raises:
        InfeasibleError: even the fewest bits take more.
    """
    order, names = sorted(bits), list(shapes)
    least = packed_bytes(shapes, order[0])
    if least > budget:
        raise InfeasibleError(
            f"{order[0]} bits take {least} bytes, the budget is {budget}; allow fewer bits or more "
            "bytes"
        )
    drawn = torch.randint(len(order), (len(names),), generator=generator).tolist()
    places = dict(zip(names, drawn, strict=True))

    def size(at: Mapping[str, int]) -> int:
        return packed_bytes(shapes, {n: order[i] for n, i in at.items()})

    turns = [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]
    while size(places) > budget:
        for name in turns:
            if places[name] and size(places) > budget:
                places[name] -= 1
    for name in turns:
        while places[name] + 1 < len(order) and size(places | {name: places[name] + 1}) <= budget:
            places[name] += 1
    return {name: order[place] for name, place in places.items()}


def by_sensitivity(
    losses: Mapping[str, Mapping[int, float]],
    shapes: Mapping[str, tuple[int, ...]],
    budget: int,
) -> dict[str, int]:
    """Bits of least total loss whose packed size is within a budget, exactly.

    Args:
        losses: by weight name and bits.
        shapes: of the weights.
        budget: bytes.

    Raises:
        InfeasibleError: even the fewest bits take more.
    """
    names = list(losses)
    options = [sorted(losses[name]) for name in names]
    items = [
        [
            Choice(losses[name][bits], {"flash": float(packed_bytes({name: shapes[name]}, bits))})
            for bits in choices
        ]
        for name, choices in zip(names, options, strict=True)
    ]
    picks = allocate(items, {"flash": float(budget)}).picks
    return {n: choices[p] for n, choices, p in zip(names, options, picks, strict=True)}


def sensitivities(
    model: nn.Module, split: Split, bits: Sequence[int]
) -> dict[str, dict[int, float]]:
    """Omega_l ||Q_b(W_l) - W_l||^2 by weight name and bits.

    Omega is the mean squared gradient of the loss, the diagonal of the Fisher matrix, which stands
    for the Hessian of HAWQ-like methods.
    """
    model = copy.deepcopy(model).eval()
    squares: dict[str, list[float]] = {}
    for x, y in zip(split.inputs.split(32), split.targets.split(32), strict=True):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for name, p in model.named_parameters():
            if p.dim() > 1 and p.grad is not None:
                squares.setdefault(name, []).append(float(p.grad.square().mean()))
    return {
        name: {b: float(np.mean(found)) * float((rounded(p, b) - p).square().sum()) for b in bits}
        for name, found in squares.items()
        for p in [model.get_parameter(name).detach()]
    }


@dataclass(frozen=True)
class Choosing:
    """What `choose_bitwidth` found.

    Attributes:
        bits: chosen.
        probes: score of each short run, by bits.
        finals: score of the finalists' whole runs.
    """

    bits: int
    probes: Mapping[int, float]
    finals: Mapping[int, float]


def choose_bitwidth(
    bits: Sequence[int],
    probe: Callable[[int], float],
    finish: Callable[[int], float],
    finalists: int = 2,
) -> Choosing:
    """One bit-width by successive halving: short runs rank all, whole runs decide between the best.

    Args:
        bits: candidates, each trained at the width that gives it the budget.
        probe: validation score of a short run.
        finish: validation score of a whole run.
        finalists: whole runs.

    Raises:
        ConfigError: no candidates, or bits that cannot be stored.
    """
    wrong = [b for b in bits if b not in BITS]
    if wrong or not bits:
        raise ConfigError(f"bit-widths {list(bits)}; give one or more from 1 to {BITS[-1]}")
    probes = {b: probe(b) for b in bits}
    best = sorted(bits, key=lambda b: -probes[b])[:finalists]
    finals = {b: finish(b) for b in best}
    return Choosing(max(best, key=lambda b: finals[b]), probes, finals)
