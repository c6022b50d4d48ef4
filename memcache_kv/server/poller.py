"""Readiness of file descriptors: epoll on Linux, the `selectors` module elsewhere; and a pipe to wake a poller up."""

from __future__ import annotations

import os
from typing import Protocol

from memcache_kv.unpatched import select, selectors

READABLE = 1  # EPOLLIN
WRITABLE = 4  # EPOLLOUT
NOTHING = 1 << 30  # EPOLLONESHOT: epoll always reports a hang-up; with this flag, only once


class Poller(Protocol):
    """The part of `select.epoll` that a worker uses. An event mask is READABLE, WRITABLE, both or NOTHING."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Begin to watch a descriptor."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Change what a descriptor is watched for."""

    def unregister(self, fd: int, /) -> None:
        """Stop watching a descriptor."""

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """Wait at most `timeout` seconds; return the ready descriptors with their event masks."""

    def close(self) -> None:
        """Release the poller."""


class SelectorPoller:
    """A poller that uses the standard library's default selector. Used by one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._silent: set[int] = set()

    def register(self, fd: int, eventmask: int, /) -> None:
        """Begin to watch a descriptor."""
        self._selector.register(fd, self._events(eventmask))

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Change what a descriptor is watched for. For NOTHING, it is removed from the selector."""
        if fd not in self._silent:
            self._selector.unregister(fd)
        self._silent.discard(fd)
        if self._events(eventmask):
            self._selector.register(fd, self._events(eventmask))
        else:
            self._silent.add(fd)

    def unregister(self, fd: int, /) -> None:
        """Stop watching a descriptor."""
        if fd in self._silent:
            self._silent.discard(fd)
        else:
            self._selector.unregister(fd)

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """Wait at most `timeout` seconds; return the ready descriptors with their event masks."""
        return [
            (
                key.fd,
                (READABLE if ready & selectors.EVENT_READ else 0) | (WRITABLE if ready & selectors.EVENT_WRITE else 0),
            )
            for key, ready in self._selector.select(timeout)
        ]

    def close(self) -> None:
        """Release the selector."""
        self._selector.close()

    @staticmethod
    def _events(mask: int) -> int:
        return (selectors.EVENT_READ if mask & READABLE else 0) | (selectors.EVENT_WRITE if mask & WRITABLE else 0)


class WakeUp:
    """A pipe with which other threads wake a poller up. Any thread may call `set`."""

    def __init__(self, poller: Poller) -> None:
        self.fd, self._write_fd = os.pipe()
        """The descriptor that the poller reports after a call of `set`."""
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        poller.register(self.fd, READABLE)

    def set(self) -> None:
        """End the current wait, or the next one. Returns at once."""
        try:
            os.write(self._write_fd, b"w")
        except BlockingIOError:
            pass  # the pipe is already full of wake-ups

    def clear(self) -> None:
        """Empty the pipe, so that the poller waits again."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the pipe. No thread may call `set` afterwards."""
        os.close(self.fd)
        os.close(self._write_fd)


def new_poller() -> Poller:
    """Return a new poller: epoll if the system has it, otherwise a selector."""
    return select.epoll() if hasattr(select, "epoll") else SelectorPoller()
