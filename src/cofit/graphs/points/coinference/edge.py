"""The edge server: computes its segment of every frame that devices send."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable

import torch

from cofit.core import CofitError, CommunicationError, ConfigError
from cofit.graphs.points.coinference.channel import Channel
from cofit.graphs.points.coinference.messages import Kind, Message, pack, pack_body, text_tensor
from cofit.graphs.points.coinference.split import (
    cuts_of,
    from_wire,
    run,
    sent_down,
    sent_up,
    to_wire,
)
from cofit.graphs.points.coinference.zoo import Zoo

_END = None
_Arrived = tuple[Message, float]
_Ready = tuple[Message, float]


class EdgeServer:
    """Listens for devices; every connection has threads that receive, compute and send.

    Frames of one device are answered in their order. All connections share one processor: one
    frame is computed at a time.

    Args:
        zoo: designs, which devices name by number.
        host: to listen on. There is no authentication: keep it on a network you trust.
        port: 0 takes a free one.
        depth: frames of a device that wait before each stage.
        timeout_s: of every wait within a message.
        reload: gives the zoo anew when a device comes with another one; None refuses it.

    Raises:
        CommunicationError: the address cannot be used.
        ConfigError: a depth below 1.
    """

    def __init__(
        self,
        zoo: Zoo,
        host: str = "127.0.0.1",
        port: int = 0,
        depth: int = 8,
        timeout_s: float = 10.0,
        reload: Callable[[], Zoo] | None = None,
    ) -> None:
        if depth < 1:
            raise ConfigError(f"queues of {depth} frames; give at least 1")
        self._zoo, self._reload = zoo, reload
        self._depth, self._timeout_s = depth, timeout_s
        self._processor = threading.Lock()
        self._closed = False
        self._channels: set[Channel] = set()
        self.most_waiting = 0
        """Most frames that waited before one stage of one connection."""
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise CommunicationError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another address"
            ) from error
        self.address: tuple[str, int] = self._listener.getsockname()[:2]

    def serve(self) -> None:
        """Answer devices until `close` is called from another thread.

        Raises:
            CommunicationError: no more connections can be taken.
        """
        while True:
            try:
                connection, (host, port, *_) = self._listener.accept()
            except OSError as error:
                if self._closed:
                    return
                raise CommunicationError(
                    f"no more devices can be attended ({error.strerror}); start the edge anew"
                ) from error
            channel = Channel(connection, self._timeout_s, f"device {host}:{port}")
            self._channels.add(channel)
            threading.Thread(target=self._attend, args=(channel,), daemon=True).start()

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._closed = True
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not supported everywhere for a listener; closing it is enough there
        self._listener.close()
        for channel in list(self._channels):
            channel.close()

    def _attend(self, channel: Channel) -> None:
        """One connection, this thread receiving."""
        arrived: queue.Queue[_Arrived | None] = queue.Queue(self._depth)
        ready: queue.Queue[_Ready | None] = queue.Queue(self._depth)
        stages = [
            threading.Thread(target=self._compute, args=(arrived, ready, channel), daemon=True),
            threading.Thread(target=self._send, args=(ready, channel), daemon=True),
        ]
        for stage in stages:
            stage.start()
        try:
            while (found := channel.receive(idle=True)) is not None:
                self._put(arrived, (found[0], time.perf_counter()))
        except CommunicationError as error:
            self._put(ready, (_refusal(str(error)), time.perf_counter()))
        arrived.put(_END)
        for stage in stages:
            stage.join()
        channel.close()
        self._channels.discard(channel)

    def _compute(
        self,
        arrived: queue.Queue[_Arrived | None],
        ready: queue.Queue[_Ready | None],
        channel: Channel,
    ) -> None:
        torch.set_num_threads(1)
        zoo = None
        while (found := arrived.get()) is not None:
            message, since = found
            try:
                if message.kind is Kind.HELLO:
                    zoo = self._zoo_of(message.text)
                answer = self._answer(message, zoo)
            except CofitError as error:
                answer = _refusal(str(error), message.frame)
            except Exception as error:  # whatever a frame does, the server goes on
                answer = _refusal(f"{type(error).__name__}: {error}", message.frame)
            self._put(ready, (answer, since))
        ready.put(_END)

    def _send(self, ready: queue.Queue[_Ready | None], channel: Channel) -> None:
        alive = True
        while (found := ready.get()) is not None:
            message, since = found
            if not alive:
                continue  # the device is gone; what is left is dropped
            try:
                body = pack_body(message.tensors)
                stay_s = time.perf_counter() - since
                stamped = Message(
                    message.kind, message.design, message.frame, message.compute_s, stay_s
                )
                channel.send_packed(pack(stamped, body))
            except CommunicationError:
                alive = False
                channel.close()
            else:
                if message.kind is Kind.ERROR:
                    alive = False
                    channel.close()

    def _zoo_of(self, digest: str) -> Zoo:
        """What the device has; it stays that of its connection."""
        if digest != self._zoo.digest and self._reload is not None:
            self._zoo = self._reload()
        if digest != self._zoo.digest:
            raise ConfigError(
                "the edge server holds other networks than the device; give both the same zoo"
            )
        return self._zoo

    def _answer(self, message: Message, zoo: Zoo | None) -> Message:
        if message.kind is Kind.PROBE:
            return Message(Kind.PROBE, frame=message.frame)
        if zoo is None:
            raise ConfigError("a frame came before a greeting; start with HELLO and the zoo's mark")
        if message.kind is Kind.HELLO:
            return Message(Kind.HELLO, tensors={"text": text_tensor(zoo.digest)})
        if message.kind is not Kind.FRAME or message.design >= len(zoo.networks):
            raise ConfigError(
                f"a {message.kind.name} of design {message.design}; send frames of designs 0 to "
                f"{len(zoo.networks) - 1}"
            )
        network = zoo.networks[message.design]
        cuts = cuts_of(network.genes)
        if cuts.mode == "D":
            raise ConfigError(f"design {message.design} runs on the device only")
        genes = network.genes
        with self._processor, torch.no_grad():
            start = time.perf_counter()
            state = from_wire(message.tensors, sent_up(genes))
            state = run(network, state, cuts.start, cuts.stop)
            if cuts.edge_classifies:
                tensors = {"logits": network.finish(state)}
            else:
                tensors = to_wire(state, sent_down(genes))
            seconds = time.perf_counter() - start
        return Message(Kind.RESULT, message.design, message.frame, seconds, tensors=tensors)

    def _put(self, into: queue.Queue[_Arrived | None], item: _Arrived) -> None:
        into.put(item)
        self.most_waiting = max(self.most_waiting, into.qsize())


def _refusal(text: str, frame: int = 0) -> Message:
    return Message(Kind.ERROR, frame=frame, tensors={"text": text_tensor(text)})
