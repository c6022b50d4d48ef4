"""UDP: requests and replies in datagrams (protocol.txt, "UDP protocol"). Only with -U."""

from __future__ import annotations

import struct
from typing import Any

from memcache_kv.auth.access import CommandClass, Origin
from memcache_kv.errors import ListenError
from memcache_kv.protocol import Context
from memcache_kv.protocol.binary.frames import REPLY_MAGIC
from memcache_kv.protocol.negotiate import protocol_for
from memcache_kv.protocol.session import Session
from memcache_kv.server.connection import address_text
from memcache_kv.server.listener import POLL_SECONDS, Listener, MemcacheServer
from memcache_kv.stats.connections import ConnectionStatus
from memcache_kv.unpatched import socket, socketserver, threading

HEADER = struct.Struct("!HHHH")
"""A datagram's header: request id, number of this datagram, number of datagrams, reserved."""
PAYLOAD_BYTES = 1400
"""The size of a datagram with its header, as in memcached. It fits into an Ethernet frame."""
UDP_REPLY_LIMIT_BYTES = 1 << 20
"""A longer reply is replaced by an error, as the sender's address may be forged."""
REPLY_BEGINNINGS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" + bytes([REPLY_MAGIC])
"""The first bytes of replies, errors included. No request begins with them, as text commands are in lower case."""

SOMEWHERE = Origin("udp", is_local=False, listener_class=CommandClass.WRITE)
"""The origin of a datagram."""


class UdpServer(Listener, socketserver.UDPServer):
    """Serve datagrams on one address. Each datagram holds complete requests.

    Its thread owns the socket, and also uses the store and the journal. With `--fsync always` it waits for the journal
    before it replies. Raises ListenError if it can't listen.
    """

    transport = "UDP"
    allow_reuse_address = False
    max_packet_size = 65535

    def __init__(self, address: Any, family: int, context: Context) -> None:
        self.address_family = family
        self._context = context
        self.log = context.log
        self._moved = threading.Event()
        if context.journal is not None:
            context.journal.watch(self._moved.set)
        try:
            super().__init__(address, socketserver.BaseRequestHandler)
        except OSError as error:
            raise ListenError(f"can't listen on UDP {MemcacheServer.describe(address)}: {error.strerror}") from None

    def status(self) -> ConnectionStatus:
        """Return the socket's row for `stats conns`."""
        _, _, address = address_text(self.server_address).partition(":")
        kind = "udp6" if self.address_family == socket.AF_INET6 else "udp"
        return ConnectionStatus(self.fileno(), f"{kind}:{address}", "", "conn_read", 0)

    @property
    def port(self) -> int:
        """The port that the server listens on, also if port 0 was requested."""
        return int(self.server_address[1])

    def get_request(self) -> tuple[Any, Any]:
        """Receive a datagram. Logs and raises OSError if that fails."""
        try:
            return super().get_request()
        except OSError:
            self.failed(f"can't receive on UDP {MemcacheServer.describe(self.server_address)}")
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether to carry out a datagram.

        The sender's address may be forged. Replies, and datagrams that seem to come from this socket, are dropped:
        otherwise two servers, or this one alone, could reply to each other endlessly.
        """
        data: bytes = request[0]
        if len(data) <= HEADER.size:
            why = "it holds no request"
        elif data[HEADER.size] in REPLY_BEGINNINGS:
            why = "it is a reply"
        elif client_address[1] == self.port and self._is_local(client_address):
            why = "the address is this server's"
        else:
            return True
        self.log.say_rarely(why, f"dropped a datagram from {MemcacheServer.describe(client_address)}: {why}")
        return False

    def _is_local(self, address: Any) -> bool:
        """Return whether an address belongs to this machine: only then can a socket be bound to it.

        Raises OSError if no descriptor is free.
        """
        host, _, *rest = address
        with socket.socket(self.address_family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((host, 0, *rest))
            except OSError:
                return False
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Carry out one datagram and send the reply."""
        data: bytes = request[0]
        request_id, _, datagrams, _ = HEADER.unpack_from(data)
        if datagrams > 1:
            reply = b"SERVER_ERROR multi-packet request not supported\r\n"
        else:
            origin = SOMEWHERE._replace(address=f"udp:{MemcacheServer.describe(client_address)}")
            reply = self.carry_out(data[HEADER.size :], origin)
        part_bytes = PAYLOAD_BYTES - HEADER.size
        parts = [reply[start : start + part_bytes] for start in range(0, len(reply), part_bytes)]
        for number, part in enumerate(parts):
            header = HEADER.pack(request_id, number, len(parts), 0)
            self.socket.sendto(header + part, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error while a datagram was handled, and continue with the next one."""
        self.failed(f"can't answer a datagram from {MemcacheServer.describe(client_address)}")

    def carry_out(self, data: bytes, origin: Origin = SOMEWHERE) -> bytes:
        """Carry out the requests of one datagram, given without its header; return the reply.

        Admin commands are never allowed, whatever the datagram's address: it may be forged.
        """
        protocol = protocol_for(self._context, self.fileno(), data, origin=origin)
        try:
            return self._reply_of(protocol, data)
        finally:
            protocol.close()

    def _reply_of(self, protocol: Session, data: bytes) -> bytes:
        """Carry out one datagram with this protocol; return the whole reply."""
        context = self._context
        if context.clock.tick():
            context.store.new_second()
        context.counters.bytes_read += len(data)
        before = 0 if context.journal is None else context.journal.own_position()
        protocol.receive(data)
        size = sum(map(len, protocol.out))
        while protocol.paused and size <= UDP_REPLY_LIMIT_BYTES:
            protocol.resume()
            size = sum(map(len, protocol.out))
        if size > UDP_REPLY_LIMIT_BYTES:
            return b"SERVER_ERROR reply too large for UDP\r\n"
        if not self._is_saved(before):
            protocol.take_back()
        reply = b"".join(protocol.out)
        context.counters.bytes_written += len(reply)
        return reply

    def _is_saved(self, before: int) -> bool:
        """Wait until the journal has the datagram's writes. Returns False if the journal rejects them.

        before: the journal's position before the datagram.
        """
        journal = self._context.journal
        if journal is None or (position := journal.own_position()) == before:
            return True
        journal.commit()
        while journal.must_wait(position):
            if journal.refuses:
                return False
            self._moved.wait(POLL_SECONDS)
            self._moved.clear()
        return True
