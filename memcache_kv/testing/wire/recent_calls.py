"""The last calls that passed."""

from __future__ import annotations

from collections import deque

from memcache_kv.traffic.conversation import Call
from memcache_kv.unpatched import threading

KEPT_CALLS = 500
KEPT_BYTES = 4 << 20


class RecentCalls:
    """Keeps the last calls: so many at most, and as many as have so many bytes together, but always the last one.

    Any thread may call any method.
    """

    def __init__(self, limit: int = KEPT_CALLS, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._calls: deque[Call] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        """Keep a call, and drop the oldest ones beyond the limits."""
        with self._lock:
            self._calls.append(call)
            self._bytes += _size(call)
            while len(self._calls) > self._limit or (self._bytes > self._limit_bytes and len(self._calls) > 1):
                self._bytes -= _size(self._calls.popleft())

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._calls.clear()
            self._bytes = 0

    def all(self) -> list[Call]:
        """Return the calls, the oldest first."""
        with self._lock:
            return list(self._calls)


def _size(call: Call) -> int:
    return len(call.request.data) + len(call.reply)
