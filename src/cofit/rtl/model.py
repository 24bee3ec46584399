"""What an engine computes, in integers: its random numbers, and the sums of both flows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cofit.core import ConfigError
from cofit.rtl.design import SEED_BITS, WEIGHT, Engine

Integers = NDArray[np.int64]
TAP, DRAW_BITS = 6, 96


def normals(seeds: NDArray[np.uint8], count: int, fraction: int) -> NDArray[np.int8]:
    """The first numbers of each generator.

    Args:
        seeds: bits (lanes, 97), see `Engine.seeds`.
        count: per lane.
        fraction: a number's unit is 2**-fraction.

    Returns:
        (lanes, count).
    """
    bits = _stream(seeds, DRAW_BITS * count)
    packed = np.packbits(bits.reshape(len(seeds), count, DRAW_BITS), axis=2, bitorder="little")
    centre = 1530 - (1 << 7 - fraction)
    scaled = (packed.sum(axis=2, dtype=np.int64) - centre) >> (8 - fraction)
    numbers: NDArray[np.int8] = np.clip(scaled, -128, 127).astype(np.int8)
    return numbers


def _stream(seeds: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """s[n + 97] = s[n] ^ s[n + 6] from s[0..96], bits (lanes, length).

    Squaring the polynomial over GF(2) spreads its taps: s[n + 97 k] = s[n] ^ s[n + 6 k] for every
    power of two k, so that what is there gives nearly as much again at once.
    """
    out = np.zeros((len(seeds), max(length, SEED_BITS)), np.uint8)
    out[:, :SEED_BITS] = seeds
    have = SEED_BITS
    while have < length:
        k = 1 << (have // SEED_BITS).bit_length() - 1
        fresh = min((SEED_BITS - TAP) * k, out.shape[1] - have)
        start = have - SEED_BITS * k
        late = start + TAP * k
        out[:, have : have + fresh] = out[:, start : start + fresh] ^ out[:, late : late + fresh]
        have += fresh
    return out[:, :length]


def drawn(engine: Engine, rows: int, columns: int, voters: int, skip: int = 0) -> NDArray[np.int8]:
    """The eps of a layer in the order of the engine (block, voter, row, column).

    Args:
        engine: its lanes, block and seed decide.
        rows: of the layer.
        columns: of the layer.
        voters: of the layer.
        skip: draws per lane that were made before, since the reset.

    Returns:
        (voters, rows, columns).
    """
    groups = -(-rows // engine.lanes)
    count = groups * voters * columns
    stream = normals(engine.seeds(), skip + count, engine.fraction)[:, skip:]
    out = np.empty((voters, groups, engine.lanes, columns), np.int8)
    at = 0
    for first in range(0, groups, engine.block):
        size = min(engine.block, groups - first)
        part = stream[:, at : at + voters * size * columns]
        part = part.reshape(engine.lanes, voters, size, columns)
        out[:, first : first + size] = part.transpose(1, 2, 0, 3)
        at += voters * size * columns
    return out.reshape(voters, groups * engine.lanes, columns)[:, :rows]


def sums(
    engine: Engine,
    mu: NDArray[np.int8],
    sigma: NDArray[np.int8],
    x: NDArray[np.int8],
    eps: NDArray[np.int8],
) -> Integers:
    """Outputs of a layer for every voter, in the engine's unit (see `Engine.unit`).

    Args:
        engine: flow and precision.
        mu: (..., M, N).
        sigma: the same shape, none negative.
        x: (..., N).
        eps: (T, M, N).

    Returns:
        (..., T, M).

    Raises:
        ConfigError: sigma is negative, or shapes do not agree.
    """
    check(mu, sigma, x)
    if eps.shape[1:] != mu.shape[-2:]:
        raise ConfigError(
            f"eps of shape {eps.shape} for weights {mu.shape}; give (voters, rows, columns)"
        )
    wide_mu, wide_sigma, wide_x = (v.astype(np.int64) for v in (mu, sigma, x))
    voters = []
    if engine.memorise:
        beta = wide_sigma * wide_x[..., None, :]
        eta = (wide_mu * wide_x[..., None, :]).sum(-1)
        if engine.drop:
            beta = (beta + (1 << engine.drop - 1)) >> engine.drop
        finer = engine.fraction - engine.drop
        begins = eta << finer if finer >= 0 else eta >> -finer
        voters = [begins + (beta * e).sum(-1) for e in eps.astype(np.int64)]
    else:
        scaled_mu = wide_mu << engine.fraction - engine.shift
        for e in eps.astype(np.int64):
            weight = scaled_mu + (wide_sigma * e >> engine.shift)
            voters.append((weight * wide_x[..., None, :]).sum(-1))
    return np.stack(voters, axis=-2)


def check(mu: NDArray[np.int8], sigma: NDArray[np.int8], x: NDArray[np.int8]) -> None:
    """Refuse what an engine cannot hold."""
    if sigma.shape != mu.shape or x.shape[-1] != mu.shape[-1]:
        raise ConfigError(
            f"mu {mu.shape}, sigma {sigma.shape}, x {x.shape}; sigma must be shaped as mu, and x "
            "as long as its rows"
        )
    for name, value in (("mu", mu), ("sigma", sigma), ("x", x)):
        if value.dtype != np.int8:
            raise ConfigError(f"{name} is {value.dtype}; the engine takes int8")
    if (sigma < 0).any():
        raise ConfigError(f"sigma has {int(sigma.min())}; it must be from 0 to {WEIGHT}")
