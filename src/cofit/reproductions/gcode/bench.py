"""Designs as they run: two processes, a socket, a link that takes its time, a slowed device."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from cofit.graphs.points import PointNetwork
from cofit.graphs.points.coinference import (
    CoInference,
    Estimate,
    Inference,
    Slowdown,
    Zoo,
    edge_process,
    run_local,
    typical,
)
from cofit.reproductions.gcode.settings import Settings
from cofit.targets.links import EmulatedLink, Link

PATIENCE_S = 600.0
"""Waits on either side: a busy or suspended machine is not a lost edge."""


@dataclass(frozen=True)
class Setting:
    """Where designs run.

    Attributes:
        link: emulated between device and edge.
        slowdown: of the device.
        frames: timed of each design, one at a time.
    """

    link: Link
    slowdown: float
    frames: int


def setting_of(settings: Settings, bandwidth_Mbps: float | None = None) -> Setting:
    """Where designs are timed; None is the link that is searched for."""
    link = Link(bandwidth_Mbps or settings.bandwidth_Mbps)
    return Setting(link, settings.slowdown, settings.frames)


@dataclass(frozen=True)
class Run:
    """A design as it was timed; times are means without outliers.

    Attributes:
        latency_s: from giving the frame to the result.
        estimate: where the time went.
        differing: logits, of all frames, that are not the bits of one process.
    """

    latency_s: float
    estimate: Estimate
    differing: int


class Edge:
    """One edge process for the whole run, started when it is first needed.

    Its zoo is replaced with every group of designs, since starting a process takes seconds.
    """

    def __init__(self) -> None:
        self._open = ExitStack()
        self._folder: Path | None = None
        self._address: tuple[str, int] | None = None

    def __enter__(self) -> Edge:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def address(self, zoo: Zoo) -> tuple[str, int]:
        """Where the zoo is served."""
        if self._folder is None:
            self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        zoo.save(self._folder)
        if self._address is None:
            self._address = self._open.enter_context(
                edge_process(self._folder, timeout_s=PATIENCE_S)
            ).address
        return self._address

    @contextmanager
    def running(self, networks: Sequence[PointNetwork], setting: Setting) -> Iterator[CoInference]:
        """A device of this process and the edge, with these designs as their zoo."""
        zoo = Zoo.of(networks)
        with CoInference(
            zoo, self.address(zoo), EmulatedLink(setting.link), Slowdown(setting.slowdown),
            timeout_s=PATIENCE_S, fallback=False,
        ) as device:  # fmt: skip
            yield device


def overhead_s(device: CoInference) -> float:
    """What a round trip takes beside its bytes."""
    assert device.link is not None
    found = [device.probe(16) for _ in range(20)]
    return typical([
        each.transfer_s - device.link.link.busy_s(each.bytes_up + each.bytes_down)
        for each in found
    ])  # fmt: skip


def time_designs(
    edge: Edge,
    names: Sequence[str],
    make: Callable[[str], PointNetwork],
    clouds: torch.Tensor,
    setting: Setting,
    chunk: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Run]:
    """Every design's latency, measured end to end; those that the edge holds run in turn.

    A machine that others use is slower for minutes at a time: then all designs are. Each timed
    frame follows one that is not, so that the design's weights are in the caches again.

    Args:
        edge: that they run with.
        names: of the designs.
        make: the network of a name, with its weights; made as they are needed.
        clouds: (clouds, n, d), one frame.
        setting: where they run.
        chunk: designs that the edge holds at a time.
        progress: called with (frames done, all).
    """
    runs: list[Run] = []
    turns = setting.frames
    for start in range(0, len(names), chunk):
        part = [make(name) for name in names[start : start + chunk]]
        found: list[list[Inference]] = [[] for _ in part]
        with edge.running(part, setting) as device:
            overhead = overhead_s(device)
            for turn in range(turns):
                for number, own in enumerate(found):
                    own += [device.infer(clouds, number) for _ in range(2)]
                progress(turns * start + (turn + 1) * len(part), turns * len(names))
        runs += [
            _run(own, run_local(network, clouds), overhead)
            for own, network in zip(found, part, strict=True)
        ]
    return runs


def _run(found: Sequence[Inference], expected: torch.Tensor, overhead: float) -> Run:
    timed = found[1::2]
    differing = sum(int((each.logits != expected).sum()) for each in found)
    nbytes = timed[0].bytes_up + timed[0].bytes_down
    estimate = Estimate(
        typical([each.device_s + each.codec_s for each in timed]),
        typical([each.edge_s for each in timed]),
        nbytes,
        overhead if nbytes else 0.0,
    )
    return Run(typical([each.latency_s for each in timed]), estimate, differing)
