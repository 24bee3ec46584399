"""One end of a connection: whole messages, or one clear error."""

from __future__ import annotations

import socket

from cofit.core import CommunicationError
from cofit.graphs.points.coinference.messages import (
    HEADER_BYTES,
    Message,
    pack,
    pack_body,
    unpack,
    unpack_header,
)


class Channel:
    """Sends and receives messages on a connected socket; one thread may do each at a time.

    Args:
        connection: closed by `close`.
        timeout_s: of every wait for the peer.
        peer: how errors call it.
    """

    def __init__(self, connection: socket.socket, timeout_s: float, peer: str) -> None:
        self._socket, self._timeout_s, self._peer = connection, timeout_s, peer
        connection.settimeout(timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, message: Message) -> int:
        """Send a message; gives its bytes.

        Raises:
            CommunicationError: the peer is gone or takes nothing any more.
        """
        return self.send_packed(pack(message, pack_body(message.tensors)))

    def send_packed(self, blob: bytes) -> int:
        """Send what `pack` made; see `send`."""
        try:
            self._socket.sendall(blob)
        except OSError as error:
            raise self._lost(error) from error
        return len(blob)

    def receive(self, idle: bool = False) -> tuple[Message, int] | None:
        """The next message and its bytes; None if the peer closed the connection before it.

        Args:
            idle: wait for its beginning without end.

        Raises:
            CommunicationError: the peer is gone, does not answer in time, or sends no messages.
        """
        head = self._read(HEADER_BYTES, begins=True, idle=idle)
        if head is None:
            return None
        header = unpack_header(head)
        body = self._read(header.length)
        assert body is not None
        return unpack(header, body), HEADER_BYTES + header.length

    def close(self) -> None:
        """End the connection; a wait of another thread for the peer ends too."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended already
        self._socket.close()

    def _read(self, count: int, begins: bool = False, idle: bool = False) -> bytes | None:
        found = bytearray(count)
        view, place = memoryview(found), 0
        try:
            while place < count:
                try:
                    got = self._socket.recv_into(view[place:])
                except TimeoutError:
                    if idle and place == 0:
                        continue
                    raise
                if got == 0:
                    if begins and place == 0:
                        return None
                    raise ConnectionResetError("it closed the connection within a message")
                place += got
        except OSError as error:
            raise self._lost(error) from error
        return bytes(found)

    def _lost(self, error: OSError) -> CommunicationError:
        if isinstance(error, TimeoutError):
            why = f"did not answer within {self._timeout_s:g} s"
        else:
            why = f"is gone ({error.strerror or error})"
        return CommunicationError(
            f"{self._peer} {why}; see whether it runs and the link is up, then connect again"
        )
