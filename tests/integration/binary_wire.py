"""A connection that speaks the binary protocol."""

from types import TracebackType
from typing import Self

from tests.integration.wire import RunningServer
from tests.protocol.binary.binary_packets import HEAD, Ids, Packet, Reply, replies_in

MARK = Packet(0x0A, opaque=0x7A11)
ANSWER = Reply(0x0A, opaque=0x7A11)


class BinaryWire:
    """A connection that is written and read in packets; CAS ids are told by their numbers."""

    def __init__(self, server: RunningServer) -> None:
        self.socket = server.connect()
        self.ids = Ids()
        self.is_closed = False
        """Whether the server has closed it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def ask(self, *packets: Packet) -> list[Reply]:
        """Send packets and return all replies to them, however many: their end is known by a noop behind them."""
        self.send(b"".join([self.ids.resolved(packet) for packet in packets]) + MARK.to_bytes())
        return self.receive()

    def send(self, data: bytes) -> None:
        """Send bytes and look at nothing."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            pass  # closed by the server: what it said before is still to be read

    def receive(self) -> list[Reply]:
        """Return what comes up to the answer to a noop that is sent last, or to the end."""
        got = bytearray()
        while not got.endswith(ANSWER.to_bytes()):
            try:
                piece = self.socket.recv(1 << 20)
            except ConnectionError:
                piece = b""
            if not piece:
                self.is_closed = True
                return [self.ids.numbered(reply) for reply in replies_in(bytes(got))]
            got += piece
        return [self.ids.numbered(reply) for reply in replies_in(bytes(got[: -HEAD.size]))]
