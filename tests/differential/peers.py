"""The two sides: memcached (or our server) behind a socket, and our protocol in this process."""

import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from memcache_kv.config.settings import Settings
from tests.differential.differences import Normaliser
from tests.differential.streams import Move, Stream
from tests.differential.words import SIZE_LIMIT
from tests.integration.known_differences import has_rewritten_parser
from tests.integration.wire import MEMCACHED, OURS, RunningServer
from tests.protocol.context_factory import Conversation, Surroundings

PATIENCE_SECONDS = 0.5
"""Who has not answered by then does not."""
OLD_SIZE_LIMIT = 1 << 19
"""Of the old memcached: with a smaller one it crashes."""
FIRST_CAS = 1000
"""CAS ids begin here, so that a literal 1 is lower than any."""
LONGEST_LIFE_SECONDS = 50_000_000
"""A memcached whose clock was moved further is started anew: its times have 32 bits."""
MARK = re.compile(rb"VERSION \d+\.\d+\.\d+\r\n\Z")
PLACEHOLDER = re.compile(rb"<(id|now)([+-]\d+)>")


class Peer(Protocol):
    """One side of the comparison."""

    is_memcached: bool
    now: int

    def begin(self) -> None:
        """Forget all that streams before did."""

    def move(self, seconds: int) -> None:
        """Let time pass."""

    def ask(self, pieces: list[bytes], filling: bytes) -> bytes:
        """Send a batch and return all of the reply, `<closed>` or `<silent>` behind it where the other side is."""


def resolved(data: bytes, ids: list[int], now: int) -> bytes:
    """Fill in what stands for ids seen and for times."""

    def number(match: re.Match[bytes]) -> bytes:
        offset = int(match[2])
        if match[1] == b"now":
            return b"%d" % (now + offset)
        return b"%d" % (ids[offset] if len(ids) >= -offset else 1)

    return PLACEHOLDER.sub(number, data)


def cut(data: bytes, sizes: tuple[int, ...]) -> list[bytes]:
    """Pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in (*pieces, data) if piece]


def transcript(peer: Peer, stream: Stream) -> list[bytes]:
    """What a side answers to each batch, normalised."""
    normalise = Normaliser(peer.is_memcached)
    replies = []
    peer.begin()
    for step in stream:
        if isinstance(step, Move):
            peer.move(step.seconds)
            continue
        data = resolved(step.sent, normalise.ids, peer.now)
        replies.append(normalise(peer.ask(cut(data, step.pieces), step.filling)))
        if replies[-1].endswith((b"<closed>", b"<silent>")):
            break
    return replies


class Inside:
    """Our protocol without a socket, a server of its own for each stream."""

    is_memcached = False

    def __init__(self, gives_cas: bool = True) -> None:
        self.now = 0
        self.size_limit = SIZE_LIMIT
        self.gives_cas = gives_cas
        self.begin()

    def begin(self) -> None:
        self.around = Surroundings(Settings(max_item_size=self.size_limit, disable_cas=not self.gives_cas))
        self.around.store.start_cas_at(FIRST_CAS)
        self.around.clock.now = self.now
        self.around.clock.started = self.now
        self.conversation = Conversation(self.around)

    def move(self, seconds: int) -> None:
        self.now += seconds
        self.around.clock.advance(seconds)
        self.around.store.new_second()

    def ask(self, pieces: list[bytes], filling: bytes) -> bytes:
        reply = self.conversation.feed_pieces(*pieces, filling)
        mark = self.conversation.feed(b"version\r\n")
        if self.conversation.protocol.closing:
            return reply + mark + b"<closed>"
        if not MARK.fullmatch(mark):
            return reply + mark + b"<silent>"
        return reply


class Outside:
    """A server process behind a socket: memcached, or ours."""

    def __init__(self, kind: str, *flags: str, size_limit: int | None = None) -> None:
        """Start a server; `is_old` is whether it is a memcached from before the rewritten parser.

        size_limit: the largest item (-I); None is the usual one for a server of this kind and age.
        """
        self.kind = kind
        self.flags = flags
        with closing(RunningServer(kind)) as probe:
            self.is_old = not has_rewritten_parser(probe)
        self.size_limit = size_limit or (OLD_SIZE_LIMIT if self.is_old else SIZE_LIMIT)
        self.is_memcached = kind == MEMCACHED
        self.server: RunningServer | None = None
        self.socket: socket.socket | None = None
        self.now = self.began = 0
        self.moved = 0
        self.last_move = 0
        self.can_move = False
        self.died = 0
        self.start()

    def start(self) -> None:
        """Start the process, anew where there is one."""
        self.close()
        chunks = ["-o", f"slab_chunk_max={self.size_limit // 1024}"] if self.is_memcached else []
        self.server = RunningServer(self.kind, ["-I", str(self.size_limit), *chunks, *self.flags])
        self.moved = self.last_move = 0
        self.connect()
        self.can_move = self.kind == MEMCACHED and self._told(b"debugtime p\r\n") == b"OK\r\n"
        for _ in range(FIRST_CAS // 100):
            self._told(b"set a 0 0 1\r\nx\r\n" * 100)
            self._told(b"gets a\r\n")
        self._read_time()

    def _read_time(self) -> None:
        numbers = dict(line.split(b" ")[1:3] for line in self._told(b"stats\r\n").split(b"\r\n")[:-2])
        self.now = int(numbers[b"time"])
        self.began = self.now - int(numbers[b"uptime"]) - 60  # where memcached's own count of seconds begins

    def connect(self) -> None:
        """Open a new connection in place of the present one."""
        assert self.server is not None
        if self.socket is not None:
            self.socket.close()
        self.socket = self.server.connect()
        self.socket.settimeout(PATIENCE_SECONDS)

    def close(self) -> None:
        """Stop the process."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        if self.server is not None:
            server, self.server = self.server, None
            server.kill()
            server.close()

    def begin(self) -> None:
        if self.died or self.server is None or self.moved > LONGEST_LIFE_SECONDS:
            self.died = 0
            self.start()
        self.connect()
        self._empty()
        if not self.can_move:
            self._read_time()

    def _empty(self) -> None:
        """Forget all items.

        A plain flush_all leaves memcached some, and a later one with a delay brings them back; one due a second after
        it began removes all that are there.
        """
        due = b" %d" % (self.began + 2) if self.is_memcached else b""
        if self._told(b"verbosity 0\r\nflush_all%b\r\n" % due) != b"OK\r\nOK\r\n":
            raise AssertionError(f"{self.kind} does not start over")

    def move(self, seconds: int) -> None:
        """Move memcached's clock: `debugtime` adds to a shift, and that sum to the time."""
        reply = self._told(b"debugtime %d\r\n" % (seconds - self.last_move))
        assert reply == b"OK\r\n", reply
        self.last_move = seconds
        self.moved += seconds
        self.now += seconds

    @contextmanager
    def with_running_clock(self) -> Iterator[None]:
        """Let memcached's clock go on, beside a server's whose clock can't be stopped."""
        was_able, self.can_move = self.can_move, False
        if was_able:
            self._told(b"debugtime r\r\n")
        yield
        if was_able:
            self._told(b"debugtime p\r\n")
        self.can_move = was_able

    def _told(self, request: bytes) -> bytes:
        return self.ask([request], b"")

    def ask(self, pieces: list[bytes], filling: bytes) -> bytes:
        assert self.socket is not None
        try:
            for piece in pieces:
                self.socket.sendall(piece)
            self.socket.sendall(filling + b"version\r\n")
        except ConnectionError:
            pass  # closed: what it said before is still to be read
        got = bytearray()
        try:
            for piece in iter(self._receive, b""):
                got += piece
                if MARK.search(got):
                    return MARK.sub(b"", bytes(got))
        except TimeoutError:
            self.connect()
            return bytes(got) + b"<silent>"
        self._reconnect()
        return bytes(got) + b"<closed>"

    def _receive(self) -> bytes:
        assert self.socket is not None
        try:
            return self.socket.recv(1 << 20)
        except ConnectionError:
            return b""

    def _reconnect(self) -> None:
        """Connect again after the server closed; where it died, `begin` starts it anew."""
        try:
            self.connect()
        except OSError:
            self.died += 1


__all__ = ["MEMCACHED", "OURS", "Inside", "Outside", "Peer", "cut", "resolved", "transcript"]
