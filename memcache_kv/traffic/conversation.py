"""One connection's conversation: its bytes in both directions, cut into calls, with no socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from memcache_kv.protocol.binary.frames import REQUEST_MAGIC
from memcache_kv.traffic.binary_packets import BinaryFraming
from memcache_kv.traffic.text_requests import TextFraming
from memcache_kv.traffic.wire import UNKNOWN_NAME, ExpectedReply, Framing, Silence, UnknownForm, WireRequest
from memcache_kv.unpatched import time


@dataclass(frozen=True, slots=True)
class Call:
    """One request and what was answered.

    reply: all bytes of the reply; empty if there was none. asked_at, answered_at: when the request was complete, and
    when the reply was, in monotonic seconds. connection: the number of the connection.
    """

    request: WireRequest
    reply: bytes
    asked_at: float
    answered_at: float
    connection: int = 0


class _Pending(NamedTuple):
    """A request that waits for its reply. form: None if the request is of no known form."""

    request: WireRequest
    form: ExpectedReply | None
    asked_at: float


class Conversation:
    """Cuts what passes on one connection into requests and calls. It finds the protocol by the first byte.

    connection: a number for the calls; clock: gives monotonic seconds.

    Pass each direction's bytes as they arrive, cut anywhere: `asked` before the server can see them, `answered` in the
    order of the replies. Nothing raises. Once bytes have no known form, all further ones pass as they come: each piece
    that is asked is a request of the command "?" without a reply, and each piece that is answered is a call of such a
    request without data. Takes one thread at a time, and never blocks.
    """

    def __init__(self, connection: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.connection = connection
        self._clock = clock
        self._framing: Framing | None = None
        self.is_known = True
        """Whether all bytes so far have a known form, so that calls can be told apart."""
        self._held = bytearray()
        self._replies = bytearray()
        self._pending: deque[_Pending] = deque()

    @property
    def protocol(self) -> str:
        """The protocol's name: text (which includes meta) or binary; empty before the first byte."""
        if self._framing is None:
            return ""
        return "binary" if isinstance(self._framing, BinaryFraming) else "text"

    @property
    def incomplete(self) -> bytes:
        """What was asked and is no complete request yet."""
        return bytes(self._held)

    def asked(self, data: bytes) -> list[WireRequest]:
        """Take bytes of the client, and return the requests that are complete now, in their order."""
        self._held += data
        if self._framing is None and self._held:
            self._framing = BinaryFraming() if self._held[0] == REQUEST_MAGIC else TextFraming()
        now = self._clock()
        found = self._cut(now)
        if not self.is_known and self._held:
            found.append(_Pending(WireRequest(UNKNOWN_NAME, (), bytes(self._held), False), None, now))
            self._held.clear()
        self._pending += found
        return [pending.request for pending in found]

    def replace(self, request: WireRequest, data: bytes) -> WireRequest:
        """Expect the reply to another request in place of one that was asked and is not answered yet.

        For who sends the server something else than the client did. data: the bytes of the other request, of the same
        protocol. Returns that request.
        """
        assert self._framing is not None
        cut = self._framing.next_request(bytearray(data), 0)
        assert cut is not None
        place = self._place_of(request)
        self._pending[place] = _Pending(*cut, self._pending[place].asked_at)
        return cut[0]

    def withdraw(self, request: WireRequest) -> None:
        """Expect no reply to a request that was asked and is not answered yet, as the server does not get it."""
        del self._pending[self._place_of(request)]

    def _place_of(self, request: WireRequest) -> int:
        places = (place for place, pending in enumerate(self._pending) if pending.request is request)
        return next(places)

    def _cut(self, now: float) -> list[_Pending]:
        """Cut all complete requests off the input."""
        found: list[_Pending] = []
        position = 0
        while self.is_known and self._framing is not None:
            try:
                cut = self._framing.next_request(self._held, position)
            except UnknownForm:
                self.is_known = False
                break
            if cut is None:
                break
            found.append(_Pending(*cut, now))
            position += len(cut[0].data)
            if cut[0].command == "watch":  # from here on the server sends lines, and reads nothing
                self.is_known = False
        del self._held[:position]
        return found

    def answered(self, data: bytes) -> list[Call]:
        """Take bytes of the server, and return the calls that are over now, in the order of their requests.

        Calls without a reply are among them, so it is of use to call it with no bytes after `asked`. A quiet request is
        over once a later one is answered.
        """
        self._replies += data
        now = self._clock()
        calls: list[Call] = []
        while self._pending and (call := self._next_call(now)) is not None:
            calls.append(call)
        if not self._pending and self._replies and (not self._held or not self.is_known):
            self.is_known = False  # the server says something unasked
            calls.append(self._unasked(now))
        return calls

    def _next_call(self, now: float) -> Call | None:
        """Return the call of the first request that waits, if it is over."""
        first = self._pending[0]
        if first.form is None:
            is_last = len(self._pending) == 1
            return self._take(now, len(self._replies) if is_last else 0)
        if first.form.silence is Silence.ALWAYS:
            return self._take(now, 0)
        fits = first.form.fits(self._replies) if self._replies else None
        if fits is None:
            return None
        if fits:
            end = first.form.end(self._replies)
            return None if end is None else self._take(now, end)
        if first.form.silence is Silence.NEVER:
            self._lose_track()
            return self._next_call(now)
        return self._take(now, 0)

    def _lose_track(self) -> None:
        """Take what was answered, and all that follows on the connection, for bytes of no known form."""
        self.is_known = False
        self._pending = deque(pending._replace(form=None) for pending in self._pending)

    def _take(self, now: float, reply_bytes: int) -> Call:
        """Return the call of the first request that waits, with so many bytes of what was answered."""
        request, _, asked_at = self._pending.popleft()
        reply = bytes(self._replies[:reply_bytes])
        del self._replies[:reply_bytes]
        return Call(request, reply, asked_at, now, self.connection)

    def _unasked(self, now: float) -> Call:
        reply = bytes(self._replies)
        self._replies.clear()
        return Call(WireRequest(UNKNOWN_NAME, (), b"", False), reply, now, now, self.connection)

    def ended(self) -> list[Call]:
        """Return the calls that are left when the connection is closed: the first with what came of its reply."""
        now = self._clock()
        calls = self.answered(b"")
        while self._pending:
            calls.append(self._take(now, len(self._replies)))
        if self._held:
            request = WireRequest(UNKNOWN_NAME, (), bytes(self._held), False)
            self._held.clear()
            calls.append(Call(request, bytes(self._replies), now, now, self.connection))
            self._replies.clear()
        return calls
