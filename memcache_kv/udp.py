"""The text protocol in datagrams (protocol.txt, "UDP protocol"). Off unless asked for with -U."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from typing import Any

from memcache_kv.connection import address_text
from memcache_kv.errors import ListenError
from memcache_kv.protocol import ConnectionFacts, Context, TextProtocol
from memcache_kv.protocol.binary import BinaryProtocol
from memcache_kv.protocol.binary_frames import REQUEST_MAGIC
from memcache_kv.server import POLL_SECONDS, Listener, MemcacheServer

HEADER = struct.Struct("!HHHH")
"""Request id, number of this datagram, number of datagrams, reserved."""
PAYLOAD_BYTES = 1400
"""A datagram's size with its header, as in memcached: it passes an Ethernet without being cut up."""
REPLY_LIMIT_BYTES = 1 << 20
"""A longer reply is refused: what asks for it may have a forged address."""


class UdpServer(Listener, socketserver.UDPServer):
    """Answer datagrams on one address, each a whole request of its own.

    Its thread owns the socket; of shared things it uses the store and the journal. Under `--fsync always` it
    waits for the journal before it answers. Raises ListenError.
    """

    transport = "UDP"
    allow_reuse_address = False
    max_packet_size = 65535

    def __init__(self, address: Any, family: int, context: Context) -> None:
        self.address_family = family
        self._context = context
        self._moved = threading.Event()
        if context.journal is not None:
            context.journal.watch(self._moved.set)
        try:
            super().__init__(address, socketserver.BaseRequestHandler)
        except OSError as error:
            raise ListenError(f"can't listen on UDP {MemcacheServer.describe(address)}: {error.strerror}") from None

    def facts(self) -> ConnectionFacts:
        """Tell about the socket, for `stats conns`."""
        _, _, address = address_text(self.server_address).partition(":")
        kind = "udp6" if self.address_family == socket.AF_INET6 else "udp"
        return ConnectionFacts(self.fileno(), f"{kind}:{address}", "", "conn_read", 0)

    @property
    def port(self) -> int:
        """The port it really listens on."""
        return int(self.server_address[1])

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer one datagram; one that is not of the protocol is passed over."""
        data: bytes = request[0]
        if len(data) <= HEADER.size:
            return
        request_id, _, datagrams, _ = HEADER.unpack_from(data)
        if datagrams > 1:
            reply = b"SERVER_ERROR multi-packet request not supported\r\n"
        else:
            reply = self._carry_out(data[HEADER.size :])
        part_bytes = PAYLOAD_BYTES - HEADER.size
        parts = [reply[start : start + part_bytes] for start in range(0, len(reply), part_bytes)]
        for number, part in enumerate(parts):
            header = HEADER.pack(request_id, number, len(parts), 0)
            self.socket.sendto(header + part, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over what could not be answered: whoever sent it does not count on an answer."""

    def _carry_out(self, data: bytes) -> bytes:
        protocol = self._protocol_for(data)
        try:
            return self._reply_of(protocol, data)
        finally:
            protocol.close()

    def _reply_of(self, protocol: TextProtocol | BinaryProtocol, data: bytes) -> bytes:
        """Let a protocol carry out one datagram; return all that it answers."""
        context = self._context
        if context.clock.tick():
            context.store.new_second()
        context.counters.bytes_read += len(data)
        before = 0 if context.journal is None else context.journal.mine()
        protocol.receive(data)
        size = sum(map(len, protocol.out))
        while protocol.paused and size <= REPLY_LIMIT_BYTES:
            protocol.resume()
            size = sum(map(len, protocol.out))
        if size > REPLY_LIMIT_BYTES:
            return b"SERVER_ERROR reply too large for UDP\r\n"
        if not self._is_saved(before):
            protocol.take_back()
        reply = b"".join(protocol.out)
        context.counters.bytes_written += len(reply)
        return reply

    def _protocol_for(self, data: bytes) -> TextProtocol | BinaryProtocol:
        """Make what reads this datagram: its first byte tells."""
        binding = self._context.settings.binding_protocol
        if binding == "binary" or (binding == "auto" and data[0] == REQUEST_MAGIC):
            return BinaryProtocol(self._context, self.fileno())
        return TextProtocol(self._context, self.fileno())

    def _is_saved(self, before: int) -> bool:
        """Wait for the journal where a datagram has changed something; tell whether that was of use."""
        journal = self._context.journal
        if journal is None or (position := journal.mine()) == before:
            return True
        journal.commit()
        while journal.holds(position):
            if journal.refuses:
                return False
            self._moved.wait(POLL_SECONDS)
            self._moved.clear()
        return True
