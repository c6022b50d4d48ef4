"""One client's connection through the tap, and the connection to the server that belongs to it."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from memcache_kv.server.poller import NOTHING, READABLE, WRITABLE, Poller
from memcache_kv.testing.wire.feed import Feed, Portion
from memcache_kv.testing.wire.lane import Lane, Piece, moment
from memcache_kv.testing.wire.passage import Direction, Ending, Passage, Rule
from memcache_kv.testing.wire.stand_in import stand_in_for
from memcache_kv.traffic.conversation import Call, Conversation
from memcache_kv.traffic.wire import WireRequest
from memcache_kv.unpatched import socket

TAKEN_BYTES = 1 << 16
"""How much is read at once."""
READS_AT_ONCE = 64
"""How many times a client's socket is read at most to take all that has come."""
DISCARDED_READS = 1024
"""How many times what a client has sent is read before its connection is closed, as unread bytes cause a reset."""
LINGER_NOT = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing sends a reset."""
BROKEN = ~(READABLE | WRITABLE | NOTHING)
"""Events that mean an error or a hang-up."""


class Switchboard(Protocol):
    """What a link needs from the tap."""

    poller: Poller
    waiting: set[Link]
    """The links on which something waits to be sent."""

    @property
    def rules(self) -> Mapping[Direction, Sequence[Rule]]:
        """The rules that are in force for each direction, in the order in which they began."""

    def watch(self, fd: int, handler: Callable[[int], None], events: int) -> None:
        """Have a function called with the events of a descriptor."""

    def unwatch(self, fd: int) -> None:
        """Watch a descriptor no longer."""

    def report(self, call: Call) -> None:
        """Tell the listeners about a call."""

    def closed(self, link: Link) -> None:
        """Note that a link is closed."""


class Side:
    """One of a link's two sockets, and what waits to be sent to it."""

    def __init__(self, sock: socket.socket, watched_for: int) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.watched_for = watched_for
        self.lane = Lane()
        self.feed = Feed()
        """What comes from this side."""
        self.has_ended = False
        """Whether nothing more comes from it."""
        self.is_gone = False
        """Whether nothing more can be sent to it."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def put(self, piece: Piece) -> None:
        """Have something sent to it."""
        if not self.is_gone and (piece or piece.ending is not None):
            self.lane.put(piece)

    def discard_input(self) -> None:
        """Read what has come, so that closing the socket sends no reset."""
        with contextlib.suppress(OSError):
            for _ in range(DISCARDED_READS):
                if not self.sock.recv(TAKEN_BYTES):
                    return


class Link:
    """Passes bytes between a client and the server, knows the calls, and applies the rules. For the tap's thread.

    client, server: the two sockets; the second one may still be connecting.
    """

    def __init__(self, number: int, client: socket.socket, server: socket.socket, board: Switchboard) -> None:
        self._number = number
        self._client, self._server = Side(client, READABLE), Side(server, WRITABLE)
        self._board = board
        self._conversation = Conversation(number, moment)
        self._answers: dict[int, tuple[WireRequest, bytes]] = {}
        """By the identity of a request that stands in for another one: that one, and what the client is answered."""
        self._barriers: dict[int, Callable[[], None]] = {}
        """By the identity of a request of the tap itself: what is called when it is answered."""
        self._at_the_end: list[Callable[[], None]] = []
        """What is called when the link is closed."""
        self._unanswered = 0
        """How many requests await their reply."""
        self._had_silent = False
        """Whether requests were passed on that need no reply, since the last one of the tap itself."""
        self._is_connecting = True
        self._is_closed = False
        board.watch(self._client.fd, self._client_ready, READABLE)
        board.watch(self._server.fd, self._server_ready, WRITABLE)

    @property
    def due_at(self) -> float:
        """The moment at which something that a rule has delayed is to be sent; infinite if nothing is."""
        upstream = math.inf if self._is_connecting else self._server.lane.due_at
        return min(upstream, self._client.lane.due_at)

    # What the poller reports

    def _client_ready(self, events: int) -> None:
        if events & (READABLE | BROKEN) and (data := self._read(self._client)) is not None:
            self._asked(data)
        self.go_on()

    def _server_ready(self, events: int) -> None:
        if self._is_connecting:
            if self._server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.close(is_reset=True)
                return
            self._is_connecting = False
        elif events & (READABLE | BROKEN) and (data := self._read(self._server)) is not None:
            self._answered(data)
        self.go_on()

    def _read(self, side: Side) -> bytes | None:
        """Read from a side; return None if nothing has come. If it has broken, close the link."""
        if self._is_closed or side.has_ended:
            return None
        try:
            return side.sock.recv(TAKEN_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            self.close(is_reset=True)
            return None

    def go_on(self) -> None:
        """Send what is due in both directions."""
        for side in (self._server, self._client):
            if side.lane and not self._is_closed and not (side is self._server and self._is_connecting):
                self._send_to(side)
        if self._is_closed:
            return
        self._watch(self._client, self._server.lane, READABLE)
        self._watch(self._server, self._client.lane, WRITABLE if self._is_connecting else READABLE)
        if self._client.lane or self._server.lane:
            self._board.waiting.add(self)
        else:
            self._board.waiting.discard(self)

    def release(self) -> None:
        """Send what was held back by rules that have ended."""
        for direction, source, target in (
            (Direction.UPSTREAM, self._client, self._server),
            (Direction.DOWNSTREAM, self._server, self._client),
        ):
            if not self._board.rules[direction] and (data := source.feed.let_go()):
                target.put(Piece(data))
        self.go_on()

    def settle(self, settled: Callable[[], None]) -> None:
        """Call a function once the server has carried out all that the client has sent so far.

        The function is called at once where that is known already, and where it can't be known: in the middle of a
        request, and in a conversation of an unknown form.
        """
        self._take_what_has_come()
        if self._is_closed or not (self._unanswered or self._had_silent or self._client.has_ended):
            settled()
        elif self._client.has_ended:
            self._at_the_end.append(settled)
        elif self._conversation.incomplete or not self._conversation.is_known:
            settled()
        else:
            (request,) = self._conversation.asked(stand_in_for(self._conversation.protocol))
            self._barriers[id(request)] = settled
            self._unanswered += 1
            self._had_silent = False
            self._server.put(Piece(request.data))
            self.go_on()

    def _take_what_has_come(self) -> None:
        for _ in range(READS_AT_ONCE):
            if self._is_closed or self._client.has_ended or self._server.lane.is_full:
                break
            if (data := self._read(self._client)) is None:
                break
            self._asked(data)
        self.go_on()

    def _send_to(self, side: Side) -> None:
        try:
            ending = side.lane.send_to(side.sock, moment())
        except OSError:
            if side is self._client:
                self.close(is_reset=True)
            else:  # its last words may still be there to be read
                side.is_gone, side.lane = True, Lane()
            return
        if ending is Ending.HALF_CLOSE:
            with contextlib.suppress(OSError):
                side.sock.shutdown(socket.SHUT_WR)
        elif ending is not None:
            self.close(is_reset=ending is Ending.RESET)

    def _watch(self, side: Side, output: Lane, reads: int) -> None:
        """Watch a side for what can be done with it. output: where goes what is read from it."""
        events = reads if not side.has_ended and not output.is_full else 0
        events = (events | (WRITABLE if side.lane.is_blocked else 0)) or NOTHING
        if events != side.watched_for:
            self._board.poller.modify(side.fd, events)
            side.watched_for = events

    def close(self, is_reset: bool = False) -> None:
        """Close both sides. is_reset: whether the client gets a reset."""
        if self._is_closed:
            return
        self._is_closed = True
        for side in (self._client, self._server):
            self._board.unwatch(side.fd)
        for call in self._conversation.ended():
            if id(call.request) not in self._barriers:
                self._board.report(self._as_the_client_sees(call))
        self._server.sock.close()
        if is_reset:
            self._client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        else:
            self._client.discard_input()
        self._client.sock.close()
        self._board.closed(self)
        for settled in (*self._barriers.values(), *self._at_the_end):
            settled()

    def forget(self) -> None:
        """Close the inherited sockets in a forked child: nothing is sent, as the parent has them too."""
        for side in (self._client, self._server):
            side.sock.close()

    # Requests and replies

    def _asked(self, data: bytes) -> None:
        """Take bytes from the client; none mean that it sends no more."""
        if not data:
            self._client.has_ended = True
            self._server.put(Piece(self._client.feed.let_go(), Ending.HALF_CLOSE))
            return
        requests = self._conversation.asked(data)
        self._unanswered += len(requests)
        self._had_silent = self._had_silent or not all(request.has_reply for request in requests)
        lengths = [len(request.data) for request in requests]
        feed, rules = self._client.feed, self._board.rules[Direction.UPSTREAM]
        if rules:
            for request, portion in zip(requests, feed.cut(data, lengths), strict=True):
                self._send_up(request, portion, rules)
        else:
            self._server.put(Piece(feed.pass_through(data, lengths)))
        if not all(request.has_reply for request in requests):
            self._answered(b"", is_end=False)

    def _answered(self, data: bytes, is_end: bool = True) -> None:
        """Take bytes from the server. is_end: whether none mean that it sends no more."""
        if not data and is_end:
            self._server.has_ended = True
            self._client.put(Piece(self._server.feed.let_go(), Ending.CLOSE))
            return
        calls = self._conversation.answered(data)
        self._unanswered -= len(calls)
        lengths = [len(call.reply) for call in calls]
        feed, rules = self._server.feed, self._board.rules[Direction.DOWNSTREAM]
        if rules or self._answers or self._barriers:
            for call, portion in zip(calls, feed.cut(data, lengths), strict=True):
                if settled := self._barriers.pop(id(call.request), None):
                    settled()
                else:
                    self._send_down(self._as_the_client_sees(call), portion, rules)
        else:
            self._client.put(Piece(feed.pass_through(data, lengths)))
            for call in calls:
                self._board.report(call)

    def _send_up(self, request: WireRequest, portion: Portion, rules: Sequence[Rule]) -> None:
        passage = Passage(self._number, Direction.UPSTREAM, request, portion.data)
        if portion.is_whole:
            self._meet(passage, rules)
        if passage.answer is not None and self._conversation.is_known:
            passage.data = stand_in_for(self._conversation.protocol)
            instead = self._conversation.replace(request, passage.data)
            self._answers[id(instead)] = request, passage.answer
        elif not passage.data:
            self._conversation.withdraw(request)
        self._put(self._server, passage)

    def _as_the_client_sees(self, call: Call) -> Call:
        """Return a call with what the client has asked and is answered, where something else stood in for it."""
        request, answer = self._answers.pop(id(call.request), (call.request, call.reply))
        return replace(call, request=request, reply=answer) if request is not call.request else call

    def _send_down(self, call: Call, portion: Portion, rules: Sequence[Rule]) -> None:
        self._board.report(call)
        data = call.reply if portion.is_whole else portion.data
        passage = Passage(self._number, Direction.DOWNSTREAM, call.request, data)
        if portion.is_whole and data:
            self._meet(passage, rules)
        self._put(self._client, passage)

    @staticmethod
    def _meet(passage: Passage, rules: Sequence[Rule]) -> None:
        for rule in rules:
            if passage.data and passage.answer is None and passage.ending is None:
                rule.meet(passage)

    @staticmethod
    def _put(side: Side, passage: Passage) -> None:
        side.put(Piece(passage.data, passage.ending, passage.delays, passage.paces))
