"""Frames in a row: how far they overlap, and what the dispatcher does when the link breaks down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from cofit.graphs.points import PointNetwork, parse, spell
from cofit.graphs.points.coinference import (
    CoInference,
    Dispatcher,
    Entry,
    Estimate,
    Inference,
    cuts_of,
    typical,
)
from cofit.reproductions.gcode.bench import Edge, Setting, overhead_s
from cofit.targets.links import Link

Results = dict[str, Any]
DEPTH = 8
"""Frames under way, as `CoInference` has it."""
PHASE = 16
"""Frames of each phase of the trace."""


def stages_s(found: Sequence[Inference], link: Link) -> dict[str, float]:
    """Seconds that each stage holds a frame; the link carries one message at a time."""
    up, down = found[0].bytes_up, found[0].bytes_down
    codec_s = typical([each.codec_s for each in found])
    return {
        "device": typical([each.device_s for each in found]),
        "sending": codec_s + link.transfer_s(up),
        "link": link.busy_s(up + down),
        "edge": typical([each.edge_s for each in found]),
    }


def pipeline(
    edge: Edge, net: PointNetwork, clouds: torch.Tensor, setting: Setting, frames: int
) -> Results:
    """Seconds between results when as many frames are under way as fit, and what stages took."""
    with edge.running([net], setting) as device:
        alone = [device.infer(clouds) for _ in range(3 + setting.frames)][3:]
        ends: list[float] = []
        futures = []
        for _ in range(frames):
            future = device.submit(clouds)
            future.add_done_callback(lambda _: ends.append(time.perf_counter()))
            futures.append(future)
        together = [future.result() for future in futures]
    first, last = DEPTH, frames - DEPTH  # the last ones have no others behind them
    interval_s = (ends[last] - ends[first]) / (last - first)
    stages = stages_s(together[first:last], setting.link)
    return {
        "interval_s": interval_s, "stages_s": stages, "longest_s": max(stages.values()),
        "latency_s": typical([each.latency_s for each in alone]),
        "queued_s": typical([each.latency_s for each in together]), "genes": spell(net.genes),
    }  # fmt: skip


def predicted_switches(
    entries: Sequence[Entry], bound_s: float, trace: Sequence[float]
) -> list[tuple[int, int]]:
    """What the dispatcher would do if every frame took exactly what its entry says."""
    dispatcher = Dispatcher(entries, bound_s, Link(trace[0]))
    for bandwidth in trace:
        expected = entries[dispatcher.choose()].estimate
        nbytes = expected.nbytes or PROBED.nbytes  # device-only frames try the link now and then
        seen = Estimate(0.0, 0.0, nbytes, expected.overhead_s)
        dispatcher.monitor.observe(
            expected, int(nbytes), seen.transfer_s(Link(bandwidth)), expected.edge_s
        )
    return dispatcher.switches


PROBED = Estimate(0.0, nbytes=2048)


def follow(
    edge: Edge,
    nets: Sequence[PointNetwork],
    accuracies: Sequence[float],
    clouds: torch.Tensor,
    setting: Setting,
    phases: Sequence[float],
) -> Results:
    """Run the zoo on a link that breaks down and comes back.

    The bound is halfway between what the most accurate entry takes before and during the breakdown.
    """
    before = setting.link
    with edge.running(nets, setting) as device:
        hop_s = overhead_s(device)
        entries = [
            _entry(device, number, clouds, accuracy, hop_s)
            for number, accuracy in enumerate(accuracies)
        ]
        best = max(entries, key=lambda entry: entry.accuracy).estimate
        bound_s = (best.latency_s(before) + best.latency_s(Link(min(phases)))) / 2
        trace = [bandwidth for bandwidth in phases for _ in range(PHASE)]
        dispatcher = Dispatcher(entries, bound_s, before)
        latencies = []
        for bandwidth in trace:
            assert device.link is not None
            device.link.link = Link(bandwidth)
            latencies.append(dispatcher.infer(device, clouds).latency_s)
    return {
        "bound_s": bound_s, "latencies_s": latencies, "trace_Mbps": trace,
        "switches": dispatcher.switches,
        "predicted": predicted_switches(entries, bound_s, trace),
        "entries": [[e.name, e.accuracy, *vars(e.estimate).values()] for e in entries],
    }  # fmt: skip


def _entry(
    device: CoInference, number: int, clouds: torch.Tensor, accuracy: float, hop_s: float
) -> Entry:
    found = [device.infer(clouds, number) for _ in range(9)][2:]
    nbytes = found[0].bytes_up + found[0].bytes_down
    estimate = Estimate(
        typical([each.device_s + each.codec_s for each in found]),
        typical([each.edge_s for each in found]),
        nbytes,
        hop_s if nbytes else 0.0,
    )
    return Entry(f"design {number}", accuracy, estimate)


def chosen_zoo(
    designs: Sequence[Sequence[Any]], alone: str, most: int = 3
) -> tuple[list[str], list[float]]:
    """Designs for the dispatcher: of different modes or bytes, accurate ones, and device-only.

    Args:
        designs: (text, accuracy, ...) of those that a search evaluated.
        alone: device-only design of the fastest architecture.
        most: designs that use the edge.
    """
    ranked = sorted(designs, key=lambda d: -d[1])
    texts: list[str] = []
    accuracies: list[float] = []
    modes: set[str] = set()
    for text, accuracy, *_ in ranked:
        mode = cuts_of(parse(text)).mode
        if mode not in modes and mode != "D" and len(texts) < most:
            modes.add(mode)
            texts.append(text)
            accuracies.append(accuracy)
    return [*texts, alone], [*accuracies, 0.0]
