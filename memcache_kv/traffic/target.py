"""The server that a recording is replayed against: its connections, and its answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from memcache_kv.errors import MemcacheKVError
from memcache_kv.protocol.binary.frames import HEAD, REQUEST_MAGIC, Opcode
from memcache_kv.server.health import Address
from memcache_kv.traffic.conversation import Call, Conversation
from memcache_kv.traffic.wire import WireRequest
from memcache_kv.unpatched import socket, time

ANSWER_TIMEOUT_SECONDS = 10.0
"""Who has not answered by then does not."""
SHORTEST_TIMEOUT_SECONDS = 0.001
ANSWER_READ_BYTES = 1 << 16
TEXT_FENCE = b"version\r\n"
BINARY_FENCE = HEAD.pack(REQUEST_MAGIC << 8 | Opcode.NOOP, 0, 0, 0, 0xFE9CE, 0)
"""Requests that are always answered. One follows each request that may not be, so that it is known when it is over."""


class Unreachable(MemcacheKVError):
    """No connection to the other server can be made."""


class TargetAnswer(NamedTuple):
    """What the other server answered. trouble: what went wrong, in words; empty if nothing did."""

    reply: bytes
    trouble: str = ""


class TargetConnection:
    """A connection to the other server. Raises Unreachable. Used by one thread."""

    def __init__(self, address: Address, timeout: float = ANSWER_TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        try:
            self._socket = address.connect(timeout)
        except OSError as error:
            raise Unreachable(f"can't connect to {address}: {error.strerror or error}") from None
        with contextlib.suppress(OSError):  # a unix socket does not wait
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._conversation = Conversation()
        self.is_usable = True
        """Whether another request can be sent."""

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, data: bytes) -> TargetAnswer:
        """Send one request and return the answer. Blocks until it is there, or until the timeout."""
        request = self._conversation.asked(data)[0]
        if request.command == "quit":
            return self._quit(data)
        fence = self._fence_behind(request)
        self._conversation.asked(fence)
        calls, trouble = self._exchange(data + fence, 1 + bool(fence))
        if trouble or not self._conversation.is_known:
            self.is_usable = False
            calls += self._conversation.ended()
        if self._conversation.is_known:
            return TargetAnswer(calls[0].reply, trouble)
        return TargetAnswer(b"".join(call.reply for call in calls), trouble or "this is no reply to such a request")

    def _fence_behind(self, request: WireRequest) -> bytes:
        if request.has_reply:
            return b""
        return BINARY_FENCE if self._conversation.protocol == "binary" else TEXT_FENCE

    def _exchange(self, data: bytes, expected: int) -> tuple[list[Call], str]:
        """Send bytes, and read until so many calls are over. Returns them, and why there are no more."""
        calls: list[Call] = []
        try:
            for piece in self._replies_to(data):
                calls += self._conversation.answered(piece)
                if len(calls) >= expected or not self._conversation.is_known:
                    return calls, ""
        except TimeoutError:
            return calls, f"no answer within {self._timeout:g} s"
        return calls, "the connection was closed"

    def _replies_to(self, data: bytes) -> Iterator[bytes]:
        """Send bytes, and yield what comes until the server closes the connection. Raises TimeoutError."""
        ends_at = time.monotonic() + self._timeout
        self._socket.settimeout(self._timeout)
        with contextlib.suppress(ConnectionError):  # closed by the server: what it said before is still to be read
            self._socket.sendall(data)
        while True:
            self._socket.settimeout(max(SHORTEST_TIMEOUT_SECONDS, ends_at - time.monotonic()))
            try:
                piece = self._socket.recv(ANSWER_READ_BYTES)
            except TimeoutError:
                raise
            except OSError:
                return
            if not piece:
                return
            yield piece

    def _quit(self, data: bytes) -> TargetAnswer:
        self.is_usable = False
        said = bytearray()
        try:
            for piece in self._replies_to(data):
                said += piece
        except TimeoutError:
            return TargetAnswer(bytes(said), "the connection stays open")
        return TargetAnswer(bytes(said))
