"""Sessions with all commands of the three protocols, on several connections, generated from a seed."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from random import Random

from memcache_kv.protocol.binary.frames import Opcode
from memcache_kv.traffic.conversation import Conversation
from tests.closing import Closing
from tests.protocol.binary.binary_packets import Packet, replies_in

KEYS = (b"a", b"b", b"n", b"key:with:parts", b"\xc3\xa9t\xc3\xa9", b"k" * 250)
NUMBER = 50_000_000
"""Numbers never become shorter: memcached pads them with spaces then, or not, depending on timing."""
COUNTED_KEYS = (b"n", b"a")
"""Only their items are counted, and never stale: memcached may forget that they are, depending on timing."""
VALUES = (b"", b"%d" % NUMBER, b"%d" % NUMBER, b"hello\r\nworld", b"END\r\n", b"\xff\x00\x80", b"x" * 3000)
TIMES = (b"0", b"100", b"1000", b"-1")
WRONG_ID = 1 << 40
PATIENCE_SECONDS = 5
MARK = Packet(Opcode.NOOP, opaque=0x1234)


class Client(Closing):
    """A connection on which all that is asked is answered before it goes on."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def ask(self, data: bytes, fence: bytes) -> bytes:
        """Send requests, and a fence if the last one may have no reply; return the replies before the fence's."""
        conversation = Conversation()
        requests = conversation.asked(data)
        fences = conversation.asked(b"" if requests[-1].has_reply else fence)
        expected = len(requests + fences)
        calls = conversation.answered(b"")
        self._socket.sendall(data + b"".join(request.data for request in fences))
        while len(calls) < expected:
            piece = self._socket.recv(1 << 16)
            assert piece, f"closed after {data!r}"
            calls += conversation.answered(piece)
            assert conversation.is_known, (data, calls)
        return b"".join(call.reply for call in calls[: len(requests)])

    def quit(self, data: bytes) -> None:
        """Ask the server to close the connection."""
        self._socket.sendall(data)
        while self._socket.recv(1 << 16):
            pass


class TextSession:
    """Requests of the text and meta protocols."""

    def __init__(self, random: Random, has_me: bool) -> None:
        self.random = random
        self.has_me = has_me
        self.ids: dict[bytes, int] = {}
        self._kinds: list[Callable[[bytes], bytes]] = [
            *[self.store] * 4, self.cas, self.get, self.gets, self.gat, self.change, self.meta_get, self.meta_get,
            self.meta_set, self.meta_set, self.meta_delete, self.meta_count, self.quiet, self.about_the_server,
        ]  # fmt: skip

    def request(self) -> bytes:
        return self.random.choice(self._kinds)(self.random.choice(KEYS))

    def learn(self, reply: bytes) -> None:
        """Remember the CAS ids in the reply to a gets."""
        for line in reply.split(b"\r\n"):
            words = line.split()
            if words[:1] == [b"VALUE"] and len(words) == 5:
                self.ids[words[1]] = int(words[4])

    def _silence(self) -> bytes:
        return self.random.choice((b"", b"", b" noreply"))

    def store(self, key: bytes) -> bytes:
        value = self.random.choice(VALUES)
        command = self.random.choice((b"set", b"set", b"set", b"add", b"replace", b"append", b"prepend"))
        head = (command, key, self.random.choice((0, 5, 1 << 31)), self.random.choice(TIMES), len(value))
        return b"%b %b %d %b %d" % head + self._silence() + b"\r\n" + value + b"\r\n"

    def cas(self, key: bytes) -> bytes:
        value = self.random.choice(VALUES)
        known = self.ids.get(key, WRONG_ID)
        number = self.random.choice((known, known, WRONG_ID))
        return b"cas %b 1 0 %d %d" % (key, len(value), number) + self._silence() + b"\r\n" + value + b"\r\n"

    def _some(self) -> bytes:
        return b" ".join(self.random.sample(KEYS, self.random.randint(1, 4)))

    def get(self, key: bytes) -> bytes:
        return b"get " + self._some() + b"\r\n"

    def gets(self, key: bytes) -> bytes:
        return b"gets " + self._some() + b"\r\n"

    def gat(self, key: bytes) -> bytes:
        return self.random.choice((b"gat ", b"gats ")) + self.random.choice(TIMES) + b" " + self._some() + b"\r\n"

    def change(self, key: bytes) -> bytes:
        n = self.random.choice(COUNTED_KEYS)
        words = self.random.choice(
            ((b"incr", n, b"3"), (b"decr", n, b"2"), (b"delete", key), (b"touch", key, self.random.choice(TIMES)))
        )
        return b" ".join(words) + self._silence() + b"\r\n"

    def _flags(self, letters: bytes) -> bytes:
        chosen = self.random.sample(letters.split(), self.random.randint(0, len(letters.split())))
        return b"".join(b" " + flag for flag in chosen)

    def meta_get(self, key: bytes) -> bytes:
        return b"mg " + key + self._flags(b"c f k s t v Oab N100 T200 R5") + b"\r\n"

    def meta_set(self, key: bytes) -> bytes:
        value = self.random.choice(VALUES)
        ids = b" C%d" % self.ids[key] if key in self.ids else b""
        flags = self._flags(b"c k O1 F7 T100" + self._staleness(key) + ids) + self.random.choice(
            (b"", b"", b" ME", b" MA", b" MP", b" MR")
        )
        return b"ms %b %d" % (key, len(value)) + flags + b"\r\n" + value + b"\r\n"

    def meta_delete(self, key: bytes) -> bytes:
        return b"md " + key + self._flags(b"k O2 T30" + self._staleness(key)) + b"\r\n"

    @staticmethod
    def _staleness(key: bytes) -> bytes:
        return b"" if key in COUNTED_KEYS else b" I"

    def meta_count(self, key: bytes) -> bytes:
        key = self.random.choice(COUNTED_KEYS)
        return b"ma " + key + self._flags(b"c k t v O3 N90 J50000000 D2") + self.random.choice((b"", b" MD")) + b"\r\n"

    def quiet(self, key: bytes) -> bytes:
        """Several quiet requests, and what ends them."""
        asked = [b"mg %b v k q O%d\r\n" % (self.random.choice(KEYS), number) for number in range(4)]
        asked += [b"ms %b 2 q O9\r\nhi\r\n" % key, b"md %b q O8\r\n" % self.random.choice(KEYS)]
        return b"".join(asked) + b"mn\r\n"

    def about_the_server(self, key: bytes) -> bytes:
        return self.random.choice(
            (
                b"version\r\n", b"verbosity 0\r\n", b"verbosity 0 noreply\r\n", b"stats\r\n", b"stats items\r\n",
                b"stats settings\r\n", b"stats nonsense\r\n", b"stats detail off\r\n", b"lru_crawler metadump all\r\n",
                b"lru_crawler enable\r\n", b"lru mode segmented\r\n", b"nonsense\r\n",
                b"me %b\r\n" % key if self.has_me else b"mn\r\n",
                b"slabs reassign 1 1\r\n", b"slabs automove 0\r\n", b"cache_memlimit 64\r\n", b"stats reset\r\n",
                b"incr %b nonsense\r\n" % key, b"mn\r\n",
            )
        )  # fmt: skip


class BinarySession:
    """Requests of the binary protocol."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.ids: dict[bytes, int] = {}
        self._opaque = 0
        self._kinds: list[Callable[[bytes], Packet]] = [
            *[self.store] * 3, self.join, self.get, self.get, self.touch, self.delete, self.count, self.other,
        ]  # fmt: skip

    def request(self) -> bytes:
        self._opaque += 1
        packet = self.random.choice(self._kinds)(self.random.choice(KEYS))
        return packet._replace(opaque=self._opaque).to_bytes()

    def learn(self, reply: bytes) -> None:
        """Remember the CAS ids of items that were read with their keys."""
        for packet in replies_in(reply):
            if packet.cas and packet.key:
                self.ids[packet.key] = packet.cas

    def _number(self, number: int, size: int = 4) -> bytes:
        return number.to_bytes(size, "big")

    def _time(self) -> bytes:
        return self._number(int(self.random.choice(TIMES[:3])))

    def store(self, key: bytes) -> Packet:
        opcode = self.random.choice((Opcode.SET, Opcode.SET, Opcode.SETQ, Opcode.ADD, Opcode.ADDQ, Opcode.REPLACE))
        cas = 0 if opcode in (Opcode.ADD, Opcode.ADDQ) else self.random.choice((0, self.ids.get(key, 0)))
        return Packet(opcode, key, self._number(9) + self._time(), self.random.choice(VALUES), cas)

    def join(self, key: bytes) -> Packet:
        opcode = self.random.choice((Opcode.APPEND, Opcode.APPENDQ, Opcode.PREPEND, Opcode.PREPENDQ))
        return Packet(opcode, key, b"", b"x")

    def get(self, key: bytes) -> Packet:
        return Packet(self.random.choice((Opcode.GET, Opcode.GETQ, Opcode.GETK, Opcode.GETKQ)), key)

    def touch(self, key: bytes) -> Packet:
        opcode = self.random.choice((Opcode.TOUCH, Opcode.GAT, Opcode.GATQ, Opcode.GATK, Opcode.GATKQ))
        return Packet(opcode, key, self._time())

    def delete(self, key: bytes) -> Packet:
        return Packet(self.random.choice((Opcode.DELETE, Opcode.DELETEQ)), key)

    def count(self, key: bytes) -> Packet:
        opcode = self.random.choice((Opcode.INCREMENT, Opcode.INCREMENTQ, Opcode.DECREMENT, Opcode.DECREMENTQ))
        extras = (
            self._number(2, 8) + self._number(NUMBER, 8) + self.random.choice((self._number(0xFFFFFFFF), self._time()))
        )
        return Packet(opcode, self.random.choice(COUNTED_KEYS), extras)

    def other(self, key: bytes) -> Packet:
        return self.random.choice(
            (
                Packet(Opcode.NOOP), Packet(Opcode.VERSION), Packet(Opcode.STAT), Packet(Opcode.STAT, b"settings"),
                Packet(0x70),
            )
        )  # fmt: skip


def run_session(
    address: tuple[str, int], seed: int, requests: int, has_me: bool = True, can_flush: bool = False
) -> None:
    """Ask a server this many things on five connections, in an order that the seed decides.

    has_me: whether `me` is among them, whose `exp=` has the wrong sign in old releases of memcached. can_flush: whether
    some flushes are among them, in a second of their own, as servers differ in that second.
    """
    random = Random(seed)
    sessions: list[TextSession | BinarySession] = [TextSession(random, has_me) for _ in range(3)]
    sessions += [BinarySession(random) for _ in range(2)]
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(Client(address)) for _ in sessions]
        for number in range(requests):
            index = random.randrange(len(sessions))
            session = sessions[index]
            fence = b"mn\r\n" if isinstance(session, TextSession) else MARK.to_bytes()
            session.learn(clients[index].ask(session.request(), fence))
            if can_flush and number % 1000 == 999:
                time.sleep(1.1)
                clients[0].ask(b"flush_all\r\n", b"mn\r\n")
                time.sleep(1.1)
        clients[0].quit(b"quit\r\n")
        clients[-1].quit(Packet(Opcode.QUIT).to_bytes())
