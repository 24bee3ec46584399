"""The software twin: the same profile and order on this CPU, with wall-clock times."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cofit.codegen import build, machine
from cofit.codegen.build import WARNINGS
from cofit.core import ConfigError, numpy_generator
from cofit.targets.memory import Bags, packets

Floats = NDArray[np.float32]
AHEAD = 16
"""Lookups that are prefetched ahead."""

COMPACT_BYTES = 256 << 10
"""Of the table of hot rows: it stays in the second-level cache."""

MOST_COUNTS, OWNERS = 18, 14
"""Places of the profile's counts and of the rows that it copies, as powers of two."""

VARIANTS = ("plain", "prefetch", "packed", "table-aware")
FLUSH_BYTES = 128 << 20
_SOURCE = Path(__file__).with_name("twin.c")


@dataclass(frozen=True, eq=False)
class Twin:
    """All tables as one, and lookups by their row in it, batch by batch.

    Attributes:
        table: (R, D) float32.
        bags: interleaved as they would come.
        threshold: count from which on a row is hot.
    """

    table: Floats
    bags: Bags
    threshold: int

    def run(self, variant: str) -> tuple[Floats, float, float]:
        """Pool all bags: the results, in the order of `bags`, seconds, and those of the profile.

        "plain", "prefetch", and "packed", which prefetches and has its hot rows packed batch by
        batch, take the bags as they come; "table-aware" is "packed" with tables back to back.

        Raises:
            ConfigError: no such variant.
        """
        if variant not in VARIANTS:
            raise ConfigError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
        order = packets(self.bags, 1, "table-aware").source if variant == "table-aware" else None
        bags = self.bags if order is None else self.bags.take(order)
        rows, offsets = bags.ids, bags.offsets
        width = self.table.shape[1]
        library = _library(width)
        out = np.empty((len(bags), width), np.float32)
        profile_s = 0.0
        if variant in ("plain", "prefetch"):
            extra = () if variant == "plain" else (AHEAD,)
            pooled = getattr(library, f"cofit_pool_{variant}")
            took = pooled(
                len(bags), _at(offsets), _at(rows), _at(self.table), _at(out), *extra
            )  # fmt: skip
        else:
            took = 0.0
            for first, last in _runs(bags.batch):
                pool_s, counted_s = self._packed(
                    library, rows[offsets[first] : offsets[last]],
                    offsets[first : last + 1] - offsets[first], out[first:last],
                )  # fmt: skip
                took, profile_s = took + pool_s + counted_s, profile_s + counted_s
        if order is not None:
            back = np.empty_like(out)
            back[order] = out
            out = back
        return out, float(took), profile_s

    def _packed(
        self, library: ctypes.CDLL, rows: NDArray[np.int64], offsets: NDArray[np.int64], out: Floats
    ) -> tuple[float, float]:
        width = self.table.shape[1]
        room = COMPACT_BYTES // (4 * width)
        bits = min(max(int(2 * len(rows)).bit_length(), 10), MOST_COUNTS)
        count = np.empty(1 << bits, np.uint8)
        owner, slot = np.empty((2, 1 << OWNERS), np.int64)
        compact, address = np.zeros((room, width), np.float32), np.empty_like(rows)
        counted = ctypes.c_double()
        library.cofit_profile(
            len(rows), _at(rows), _at(self.table), _at(count), bits, _at(owner), _at(slot), OWNERS,
            self.threshold, room, _at(address), _at(compact), ctypes.byref(counted),
        )  # fmt: skip
        took = library.cofit_pool_packed(
            len(offsets) - 1, _at(offsets), _at(address), _at(out), AHEAD
        )
        return float(took), counted.value


def race_variants(twin: Twin, repeats: int) -> dict[str, Any]:
    """Seconds of all variants, which take turns, with caches warm and flushed before each run.

    Returns:
        By "variant/warm" and "variant/cold" the seconds of all repeats; "profile" the shares of the
        profile in packed runs; "differing" values that are not the plain kernel's, bit by bit.
    """
    expected, _, _ = twin.run("plain")
    flush = np.zeros(FLUSH_BYTES // 8, np.int64)
    found: dict[str, Any] = {"profile": [], "differing": 0}
    for state in ("warm", "cold"):
        for _ in range(repeats):
            for variant in VARIANTS:
                if state == "cold":
                    flush += 1
                out, took, profile_s = twin.run(variant)
                found.setdefault(f"{variant}/{state}", []).append(took)
                found["differing"] += int((out.view(np.int32) != expected.view(np.int32)).sum())
                if variant == "table-aware":
                    found["profile"].append(profile_s / took)
    return found


def random_table(rows: int, width: int, seed: int) -> Floats:
    """(rows, width) values of a table, drawn block by block from a small pool."""
    drawn = numpy_generator(seed, "recnmp", "table").standard_normal((1024, width), np.float32)
    return np.resize(drawn, (rows, width))


def _runs(batch: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last bag of every run of bags of one batch."""
    cuts = np.flatnonzero(np.diff(batch)) + 1
    edges = [0, *cuts.tolist(), len(batch)]
    return list(itertools.pairwise(edges))


def _at(array: NDArray[Any]) -> int:
    assert array.flags.c_contiguous
    return array.ctypes.data


@functools.cache
def _library(width: int) -> ctypes.CDLL:
    text = _SOURCE.read_text(encoding="utf-8")
    flags = (
        *WARNINGS, "-D_POSIX_C_SOURCE=200809L", "-O3", *machine("host").flags, "-shared", "-fPIC",
        f"-DDIM={width}",
    )  # fmt: skip
    library = ctypes.CDLL(str(build({"twin.c": text}, flags, "twin.so")))
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    common: list[Callable[..., Any]] = [integer, pointer, pointer, pointer]
    signatures: dict[str, tuple[list[Callable[..., Any]], Callable[..., Any]]] = {
        "cofit_pool_plain": ([*common, pointer], real),
        "cofit_pool_prefetch": ([*common, pointer, integer], real),
        "cofit_pool_packed": ([integer, pointer, pointer, pointer, integer], real),
        "cofit_profile": (
            [
                integer,
                pointer,
                pointer,
                pointer,
                ctypes.c_int,
                pointer,
                pointer,
                ctypes.c_int,
                integer,
                integer,
                pointer,
                pointer,
                pointer,
            ],
            integer,
        ),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library
