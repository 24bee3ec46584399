"""Our programs and other runtimes on the dense network, timed in turn in one run."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.codegen import Program
from cofit.fit.precision import Lowering, reference_scores
from cofit.fit.runtimes import Array, Call, Runtime, runtimes
from cofit.fit.subject import Subject
from cofit.fit.summary import Peer
from cofit.ir import Graph

ROUNDS = 201
"""Series of each contender; odd, so that the median is one of them."""

SERIES_S = 0.002
"""Length of a series: short beside a time slice of the scheduler, long beside the clock's step."""

SAMPLES = 64
"""Inputs on which decisions are compared."""


def time_peers(given: Graph, subject: Subject, dense: Program, fitted: Program) -> tuple[Peer, ...]:
    """Time both programs of a fit on this machine and every other runtime, one thread each.

    All calls go from a float32 array in Python to another, so that each pays for its own
    conversions. A note says on how many inputs the runtime decides as the given network: int8
    kernels of others may saturate where the CPU has no VNNI.

    Args:
        given: the float network.
        subject: gives inputs, and calibration where `dense` computes in floats.
        dense: our program of the given network, for this machine; the graph of an int8 one is
            what int8 peers get.
        fitted: our program of the fitted network.

    Returns:
        A row per runtime, without a latency where it is absent.
    """
    integer = dense.graph
    if not integer.is_integer:
        integer = Lowering("int8", subject.calibration).lower(given)
    inputs = np.ascontiguousarray(subject.calibration[:SAMPLES].numpy())
    decisions = reference_scores(given)(inputs).argmax(axis=1)
    with one_torch_thread():
        others = runtimes(given, integer)
        calls = {other.name: other.call for other in others if other.call is not None}
        seconds = race({"dense": dense.run, "fitted": fitted.run, **calls}, inputs[:1])
        notes = [_note(other, inputs, decisions) for other in others]
    return tuple(
        Peer(
            name=other.name,
            latency_s=seconds.get(other.name),
            dense_s=seconds["dense"],
            fitted_s=seconds["fitted"],
            note=note,
        )
        for other, note in zip(others, notes, strict=True)
    )


def race(calls: Mapping[str, Call], x: Array, rounds: int = ROUNDS) -> dict[str, float]:
    """Median over short series, A/B/A/B, of the seconds of one call, by name.

    Within a series too the median counts: on a machine that others use, the mean of a series is
    that of its interruptions, and longer calls are interrupted more often.

    Args:
        calls: the contenders.
        x: (1, ...).
        rounds: series of each contender.
    """
    repeats = {n: max(1, math.ceil(SERIES_S / _series(c, x, 3))) for n, c in calls.items()}
    found = [{n: _series(c, x, repeats[n]) for n, c in calls.items()} for _ in range(rounds)]
    return {name: statistics.median(times[name] for times in found) for name in calls}


def _series(call: Call, x: Array, repeats: int) -> float:
    """Median seconds of a call; an untimed one brings code and weights back into the caches."""
    call(x)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call(x)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _note(runtime: Runtime, inputs: Array, decisions: NDArray[np.intp]) -> str:
    if runtime.call is None:
        return runtime.note
    found = np.array([runtime.call(x[None])[0].argmax() for x in inputs])
    same = int((found == decisions).sum())
    return f"{runtime.note}; decides as the given network on {same} of {len(inputs)} inputs"


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Within, torch computes on one thread, as the programs do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
