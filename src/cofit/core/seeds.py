"""Generators derived from one seed by name, so that no draw depends on the order of others."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and `names` only (stable across processes)."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the purpose that `names` spell."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for the purpose that `names` spell."""
    return np.random.default_rng(derive_seed(seed, *names))
