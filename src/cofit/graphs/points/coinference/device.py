"""The device's side of co-inference: computes its segments, and lets the edge do the rest."""

from __future__ import annotations

import itertools
import queue
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import torch

from cofit.core import CofitError, CommunicationError, ConfigError, numpy_generator
from cofit.graphs.points.coinference.channel import Channel
from cofit.graphs.points.coinference.messages import Kind, Message, pack, pack_body, text_tensor
from cofit.graphs.points.coinference.slowdown import Slowdown
from cofit.graphs.points.coinference.split import (
    cuts_of,
    from_wire,
    logits_of,
    run,
    sent_down,
    sent_up,
    to_wire,
)
from cofit.graphs.points.coinference.zoo import Zoo
from cofit.graphs.points.execution import State
from cofit.targets.links import EmulatedLink

Address = tuple[str, int]
PROBE = -1
"""Stands for a design where a message only tries the link."""


@dataclass(frozen=True, eq=False)
class Inference:
    """The result of one frame and where its time went.

    Attributes:
        logits: (clouds, classes).
        design: number in the zoo; PROBE if only the link was tried.
        by_edge: the edge took part; False for device-only designs and after the edge was lost.
        latency_s: from `submit` to the result.
        device_s: computing on the device, both segments, slow-down included.
        codec_s: packing and unpacking on the device, slow-down included.
        edge_s: computing on the edge.
        transfer_s: of the round trip what was not spent at the edge.
        bytes_up: of the message to the edge, header included.
        bytes_down: of the message back.
    """

    logits: torch.Tensor
    design: int
    by_edge: bool
    latency_s: float
    device_s: float
    codec_s: float = 0.0
    edge_s: float = 0.0
    transfer_s: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(eq=False)
class _Frame:
    """One inference on its way; each field is written by one stage before the next reads it."""

    number: int
    design: int
    clouds: torch.Tensor
    result: Future[Inference] = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)
    kept: State | None = None
    answer: Message | None = None
    sent_at: float = 0.0
    device_s: float = 0.0
    codec_s: float = 0.0
    transfer_s: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0


class CoInference:
    """A device that shares its inferences with an edge server.

    Three threads receive, compute and send, so that consecutive frames overlap: throughput is one
    over the longest stage, latency the sum of all. At most `depth` frames are under way; `submit`
    waits for one to end before it takes another.

    When the edge is lost, the frames under way and all later ones are computed on the device, by
    the same networks with the same results; `lost` says why.

    Args:
        zoo: designs, as the edge has them.
        address: of the edge; None has no edge.
        link: emulated on top of the real connection; None adds nothing.
        slowdown: of everything computed on the device.
        depth: frames under way.
        timeout_s: of every wait for the edge.
        fallback: compute on the device when the edge is lost; else such inferences raise.

    Raises:
        CommunicationError: the edge cannot be reached or has another zoo.
        ConfigError: a depth below 1, or a network cut in more than three.
    """

    def __init__(
        self,
        zoo: Zoo,
        address: Address | None,
        link: EmulatedLink | None = None,
        slowdown: Slowdown | None = None,
        depth: int = 8,
        timeout_s: float = 10.0,
        fallback: bool = True,
    ) -> None:
        if depth < 1:
            raise ConfigError(f"{depth} frames under way; give at least 1")
        self._networks = zoo.networks
        self._cuts = [cuts_of(network.genes) for network in zoo.networks]
        self.link, self._slow = link, slowdown or Slowdown()
        self._fallback, self._depth, self._closed = fallback, depth, False
        self._places = threading.BoundedSemaphore(depth)
        self._numbers = itertools.count()
        # a frame is in one queue at a time, so none of them can fill up while `depth` bounds all
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], None] | None]] = (
            queue.PriorityQueue(depth + 1)
        )
        self._outgoing: queue.Queue[_Frame | None] = queue.Queue(depth + 1)
        self._expected: queue.Queue[_Frame | None] = queue.Queue(depth + 1)
        self._changing = threading.Lock()
        self.lost: CommunicationError | None = None
        """Why the edge takes no part any more; None while it does."""
        self._channel = None if address is None else self._connect(address, zoo.digest, timeout_s)
        if self._channel is None:
            self.lost = CommunicationError("there is no edge; give its address")
        self._threads = [
            threading.Thread(target=stage, daemon=True)
            for stage in (self._compute, self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, clouds: torch.Tensor, design: int = 0) -> Future[Inference]:
        """Start an inference; waits while `depth` frames are under way.

        Args:
            clouds: (clouds, n, d) float32 points, the clouds of one frame.
            design: number in the zoo.

        Raises:
            ConfigError: there is no such design, or the device is closed.
        """
        if not 0 <= design < len(self._networks):
            raise ConfigError(f"design {design}; the zoo has 0 to {len(self._networks) - 1}")
        frame = self._frame(design, clouds)
        self._jobs.put((1, frame.number, partial(self._begin, frame)))
        return frame.result

    def probe(self, nbytes: int = 2048) -> Inference:
        """Send bytes that no compression shortens, to see what the link gives; no logits result.

        Raises:
            CommunicationError: the edge is lost.
        """
        noise = torch.from_numpy(numpy_generator(0, "probe").integers(0, 256, nbytes, "uint8"))
        frame = self._frame(PROBE, noise)
        self._outgoing.put(frame)
        return frame.result.result()

    def infer(self, clouds: torch.Tensor, design: int = 0) -> Inference:
        """Do one inference and wait for it; see `submit`.

        Raises:
            CommunicationError: the edge is lost, and the device does not fall back.
        """
        return self.submit(clouds, design).result()

    def close(self) -> None:
        """Let the frames under way end, then stop."""
        if self._closed:
            return
        self._closed = True
        for _ in range(self._depth):
            self._places.acquire()
        self._jobs.put((2, 0, None))
        self._outgoing.put(None)
        self._expected.put(None)
        for thread in self._threads:
            thread.join()
        if self._channel is not None:
            self._channel.close()

    def __enter__(self) -> CoInference:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self, address: Address, digest: str, timeout_s: float) -> Channel:
        host, port = address
        who = f"edge server {host}:{port}"
        try:
            connection = socket.create_connection(address, timeout_s)
        except OSError as error:
            raise CommunicationError(
                f"{who} cannot be reached ({error.strerror or error}); start it, or see whether "
                "address and port are right"
            ) from error
        channel = Channel(connection, timeout_s, who)
        try:
            channel.send(Message(Kind.HELLO, tensors={"text": text_tensor(digest)}))
            found = channel.receive()
            if found is None or found[0].kind is not Kind.HELLO:
                said = found[0].text if found else "it closed the connection"
                raise CommunicationError(f"{who} refused: {said}")
        except CommunicationError:
            channel.close()
            raise
        return channel

    def _frame(self, design: int, clouds: torch.Tensor) -> _Frame:
        """A new frame, once there is a place for it."""
        if self._closed:
            raise ConfigError("the device is closed; make a new one")
        self._places.acquire()
        frame = _Frame(next(self._numbers), design, clouds)
        frame.result.add_done_callback(lambda _: self._places.release())
        return frame

    def _compute(self) -> None:
        torch.set_num_threads(1)
        while (job := self._jobs.get()[2]) is not None:
            with torch.no_grad():
                job()

    def _begin(self, frame: _Frame) -> None:
        """First job of a frame: the device's first segment, or all of it."""
        network, cuts = self._networks[frame.design], self._cuts[frame.design]
        if cuts.mode == "D" or self.lost is not None:
            self._alone(frame)
            return

        def segment() -> State:
            return run(network, network.begin(frame.clouds), 0, cuts.before)

        try:
            frame.kept, seconds = self._slow.run(segment)
        except Exception as error:
            frame.result.set_exception(error)
            return
        frame.device_s += seconds
        self._outgoing.put(frame)

    def _alone(self, frame: _Frame) -> None:
        """The whole network on the device."""
        if frame.design == PROBE or (self._cuts[frame.design].mode != "D" and not self._fallback):
            assert self.lost is not None
            frame.result.set_exception(self.lost)
            return
        network = self._networks[frame.design]

        def whole() -> torch.Tensor:
            scores: torch.Tensor = network(frame.clouds)
            return scores

        self._finish(frame, whole, by_edge=False)

    def _end(self, frame: _Frame) -> None:
        """Last job of a frame whose answer has come."""
        if frame.design == PROBE:
            self._finish(frame, lambda: torch.empty(0), by_edge=True)
            return
        network, cuts = self._networks[frame.design], self._cuts[frame.design]
        answer = frame.answer
        assert answer is not None

        def rest() -> torch.Tensor:
            if cuts.edge_classifies:
                return logits_of(answer.tensors)
            state = from_wire(answer.tensors, sent_down(network.genes), frame.kept)
            return network.finish(run(network, state, cuts.resume, len(network.genes)))

        self._finish(frame, rest, by_edge=True)

    def _finish(self, frame: _Frame, work: Callable[[], torch.Tensor], by_edge: bool) -> None:
        try:
            logits, seconds = self._slow.run(work)
        except CommunicationError as error:  # what the edge sent cannot be used
            self._lose(error)
            self._alone(frame)
            return
        except Exception as error:
            frame.result.set_exception(error)
            return
        answer = frame.answer if by_edge else None
        frame.result.set_result(Inference(
            logits, frame.design, by_edge, time.perf_counter() - frame.since,
            frame.device_s + seconds, frame.codec_s, answer.compute_s if answer else 0.0,
            frame.transfer_s, frame.bytes_up, frame.bytes_down,
        ))  # fmt: skip

    def _send(self) -> None:
        while (frame := self._outgoing.get()) is not None:
            if self.lost is not None:
                self._again(frame)
                continue
            try:
                self._dispatch(frame)
            except CommunicationError as error:
                self._lose(error)
                self._again(frame)
            except (CofitError, ValueError) as error:
                frame.result.set_exception(error)
            else:
                self._expected.put(frame)

    def _dispatch(self, frame: _Frame) -> None:
        state = frame.kept
        assert self._channel is not None
        if frame.design == PROBE:
            blob = pack(Message(Kind.PROBE, frame=frame.number), pack_body({"x": frame.clouds}))
        else:
            assert state is not None
            names = sent_up(self._networks[frame.design].genes)
            body, frame.codec_s = self._slow.run(lambda: pack_body(to_wire(state, names)))
            blob = pack(Message(Kind.FRAME, frame.design, frame.number), body)
        frame.bytes_up, frame.sent_at = len(blob), time.perf_counter()
        if self.link is not None:
            self.link.carry(len(blob))
        self._channel.send_packed(blob)

    def _receive(self) -> None:
        while (frame := self._expected.get()) is not None:
            if self.lost is not None:
                self._again(frame)
                continue
            try:
                self._collect(frame)
            except CommunicationError as error:
                self._lose(error)
                self._again(frame)
            else:
                self._jobs.put((0, frame.number, partial(self._end, frame)))

    def _collect(self, frame: _Frame) -> None:
        channel = self._channel
        assert channel is not None
        found = channel.receive()
        if found is None:
            raise CommunicationError("the edge server closed the connection; start it again")
        answer, frame.bytes_down = found
        if answer.kind is Kind.ERROR:
            raise CommunicationError(f"the edge server refused frame {frame.number}: {answer.text}")
        expected = Kind.PROBE if frame.design == PROBE else Kind.RESULT
        if answer.kind is not expected or answer.frame != frame.number:
            raise CommunicationError(
                f"the edge server answered frame {answer.frame} instead of {frame.number}; "
                "start both sides from one version"
            )
        if self.link is not None:
            self.link.carry(frame.bytes_down)
        frame.answer = answer
        frame.transfer_s = time.perf_counter() - frame.sent_at - answer.stay_s

    def _again(self, frame: _Frame) -> None:
        self._jobs.put((0, frame.number, partial(self._alone, frame)))

    def _lose(self, error: CommunicationError) -> None:
        with self._changing:
            if self.lost is None:
                self.lost = error
        if self._channel is not None:
            self._channel.close()
