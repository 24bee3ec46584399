"""Energy of the multiply-accumulate by how many bits of its operands toggle: gate-level means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import numpy_generator
from cofit.rtl.mac import SUM_BITS, Integers, stream_mac

OPERAND_BITS = 8
PAIRS = 4096
"""Transitions behind each mean, where so many are found."""

POOL = 1 << 18
"""Transitions to find them in."""

WEIGHT_SCALE, SUM_SCALE = 14.0, 4096.0
"""Of the Laplace distributions that weights and sums are drawn from; activations are uniform."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MacEnergy:
    """Joules of a transition by the bits that toggle in one operand while the others are held.

    A bit of a factor that toggles adds or takes a multiple of the other one, as many gates as that
    has ones.

    Attributes:
        weight, x: (9,).
        sum: (25,).
        weight_factor: (9,) what a toggling weight costs by the ones of the activation, relative.
        x_factor: (9,) what a toggling activation costs by the ones of the weight.
        top: what a transition of all operands tends to: with chances e / top that are taken for
            independent, several operands that toggle cost top * (1 - product of (1 - e / top)).
    """

    weight: Floats
    x: Floats
    sum: Floats
    weight_factor: Floats
    x_factor: Floats
    top: float


def measured_energy(seed: int = 0) -> MacEnergy:
    """Stream random operands through the netlist.

    Raises:
        MissingDependencyError: Yosys is not installed.
    """
    rng = numpy_generator(seed, "mac", "energy")
    pools = {
        "weight": _laplace(rng, WEIGHT_SCALE, 127),
        "x": rng.integers(-128, 128, (2, POOL)),
        "sum": _laplace(rng, SUM_SCALE, (1 << (SUM_BITS - 1)) - 1),
    }
    alone = {
        name: np.array([_mean(pools, rng, name, flips) for flips in range(bits + 1)])
        for name, bits in (("weight", OPERAND_BITS), ("x", OPERAND_BITS), ("sum", SUM_BITS))
    }
    weight_factor = _factor(pools, rng, "weight", "x")
    return MacEnergy(
        **alone,
        weight_factor=weight_factor,
        x_factor=_factor(pools, rng, "x", "weight"),
        top=_top(pools, alone, weight_factor),
    )


def flips_of(before: Integers, after: Integers, bits: int) -> NDArray[np.uint8]:
    """Bits of two's complement words that differ."""
    found: NDArray[np.uint8] = np.bitwise_count(
        (before.astype(np.int64) ^ after) & ((1 << bits) - 1)
    )
    return found


def ones_of(values: Integers) -> NDArray[np.uint8]:
    """Ones of 8-bit two's complement words."""
    return flips_of(np.zeros_like(values), values, OPERAND_BITS)


def _laplace(rng: np.random.Generator, scale: float, most: int) -> Integers:
    drawn: Integers = np.clip(np.rint(rng.laplace(0, scale, (2, POOL))), -most, most).astype(
        np.int64
    )
    return drawn


def _mean(pools: dict[str, Integers], rng: np.random.Generator, name: str, flips: int) -> float:
    """Mean energy of transitions of one operand in which so many bits toggle."""
    pairs = pools[name]
    bits = SUM_BITS if name == "sum" else OPERAND_BITS
    places = np.flatnonzero(flips_of(pairs[0], pairs[1], bits) == flips)[:PAIRS]
    others = {n: np.repeat(pool[:1, : len(places)], 2, axis=0) for n, pool in pools.items()}
    chosen = others | {name: pairs[:, places]}
    return stream_mac(chosen["weight"], chosen["x"], chosen["sum"]).logic_j


def _factor(pools: dict[str, Integers], rng: np.random.Generator, moving: str, held: str) -> Floats:
    """Mean energy by the ones of the operand that is held, relative to that of its pool."""
    pairs, sums = pools[moving][:, :PAIRS], np.repeat(pools["sum"][:1, :PAIRS], 2, axis=0)

    def energy(values: Integers) -> float:
        chosen = {moving: pairs, held: np.stack([values, values]), "sum": sums}
        return stream_mac(chosen["weight"], chosen["x"], chosen["sum"]).logic_j

    every = np.arange(-128, 128)
    groups = [every[ones_of(every) == ones] for ones in range(OPERAND_BITS + 1)]
    found = np.array([energy(rng.choice(group, PAIRS)) for group in groups])
    return found / energy(pools[held][0, :PAIRS])


def _top(pools: dict[str, Integers], alone: dict[str, Floats], factor: Floats) -> float:
    """Where weights and sums toggle together, activations held: what the rule has to give."""
    weights, sums = (pools[name][:, :PAIRS] for name in ("weight", "sum"))
    held = pools["x"][0, :PAIRS]
    wanted = stream_mac(weights, np.stack([held, held]), sums).logic_j
    a = alone["weight"][flips_of(weights[0], weights[1], OPERAND_BITS)] * factor[ones_of(held)]
    b = alone["sum"][flips_of(sums[0], sums[1], SUM_BITS)]
    # the mean of a + b - a b / top
    return float((a * b).mean() / ((a + b).mean() - wanted))
