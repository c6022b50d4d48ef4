"""Packets of the binary protocol as tests write and read them, and a conversation in them."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from memcache_kv.auth.users import Credentials
from memcache_kv.protocol.binary.framing import BinaryProtocol
from tests.protocol.context_factory import Surroundings

HEAD = struct.Struct("!BBHBBHIIQ")
OPAQUE = 0xDEADBEEF


class Packet(NamedTuple):
    """A request. `cas` n is the n-th CAS id that was seen; lengths that are given stand in place of the true ones."""

    opcode: int
    key: bytes = b""
    extras: bytes = b""
    value: bytes = b""
    cas: int = 0
    opaque: int = OPAQUE
    magic: int = 0x80
    key_bytes: int | None = None
    extras_bytes: int | None = None
    body_bytes: int | None = None

    def to_bytes(self, cas: int | None = None) -> bytes:
        """The packet as it is sent, with this CAS id."""
        key, extras = len(self.key), len(self.extras)
        head = HEAD.pack(
            self.magic,
            self.opcode,
            key if self.key_bytes is None else self.key_bytes,
            extras if self.extras_bytes is None else self.extras_bytes,
            0,
            0,
            key + extras + len(self.value) if self.body_bytes is None else self.body_bytes,
            self.opaque,
            self.cas if cas is None else cas,
        )
        return head + self.extras + self.key + self.value


class Reply(NamedTuple):
    """A reply; `cas` n is the n-th CAS id that was seen."""

    opcode: int
    status: int = 0
    key: bytes = b""
    extras: bytes = b""
    value: bytes = b""
    cas: int = 0
    opaque: int = OPAQUE

    def to_bytes(self) -> bytes:
        """The packet as it is received."""
        size = len(self.key) + len(self.extras) + len(self.value)
        head = HEAD.pack(
            0x81, self.opcode, len(self.key), len(self.extras), 0, self.status, size, self.opaque, self.cas
        )
        return head + self.extras + self.key + self.value


def replies_in(data: bytes) -> Iterator[Reply]:
    """Read replies. Raises ValueError for what is none, or not whole."""
    position = 0
    while position < len(data):
        if len(data) < position + HEAD.size:
            raise ValueError(f"half a head: {data[position:]!r}")
        magic, opcode, key, extras, kind, status, body, opaque, cas = HEAD.unpack_from(data, position)
        position += HEAD.size
        if magic != 0x81 or kind or key + extras > body or len(data) < position + body:
            raise ValueError(f"no reply, or half a one: {data[position - HEAD.size :][:80]!r}")
        content = data[position : position + body]
        position += body
        yield Reply(
            opcode, status, content[extras : extras + key], content[:extras], content[extras + key :], cas, opaque
        )


def numbered(data: bytes) -> list[Reply]:
    """Read replies, with their ids' numbers in place of the ids."""
    ids = Ids()
    return [ids.numbered(reply) for reply in replies_in(data)]


class Ids:
    """The CAS ids seen, in the order in which they came: two servers' replies are compared by these numbers."""

    def __init__(self) -> None:
        self._seen: list[int] = []

    def numbered(self, reply: Reply) -> Reply:
        """The reply with its id's number in place of the id."""
        if not reply.cas:
            return reply
        if reply.cas not in self._seen:
            self._seen.append(reply.cas)
        return reply._replace(cas=self._seen.index(reply.cas) + 1)

    def resolved(self, packet: Packet) -> bytes:
        """The packet with the id that its number stands for; one that no value has where it was not seen."""
        if not packet.cas:
            return packet.to_bytes()
        known = packet.cas <= len(self._seen)
        return packet.to_bytes(self._seen[packet.cas - 1] if known else (1 << 63) + packet.cas)


class BinaryConversation:
    """A binary protocol driven as a worker drives it: fed, sent from, resumed while it is paused."""

    def __init__(self, around: Surroundings | None = None, users: Credentials | None = None) -> None:
        self.around = around if around is not None else Surroundings()
        self.protocol = BinaryProtocol(self.around.context, 30, users)
        self.turns: list[bytes] = []
        """What each turn sent."""

    def feed(self, data: bytes) -> bytes:
        """Give it these bytes at once; return what it answers."""
        protocol, first = self.protocol, len(self.turns)
        if protocol.closing or not data:
            return b""
        protocol.receive(data)
        self._send()
        while protocol.paused and not protocol.closing:
            protocol.resume()
            self._send()
        return b"".join(self.turns[first:])

    def feed_pieces(self, *pieces: bytes) -> bytes:
        """Give it bytes in several reads."""
        return b"".join([self.feed(piece) for piece in pieces])

    def ask(self, *packets: Packet) -> list[Reply]:
        """Send packets at once; return the replies."""
        return list(replies_in(self.feed(b"".join([packet.to_bytes() for packet in packets]))))

    def _send(self) -> None:
        self.turns.append(b"".join(self.protocol.out))
        self.protocol.out.clear()

    @property
    def held_bytes(self) -> int:
        """Input that it keeps."""
        return self.protocol.held_bytes
