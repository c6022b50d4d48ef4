"""Readiness of file descriptors: epoll on Linux, the `selectors` module elsewhere. And a pipe that ends the wait."""

from __future__ import annotations

import os
import select
import selectors
from typing import Protocol

READABLE = 1  # EPOLLIN
WRITABLE = 4  # EPOLLOUT
NOTHING = 1 << 30  # EPOLLONESHOT: epoll always reports a hang-up; with this, once and not again and again


class Poller(Protocol):
    """The part of `select.epoll` that a worker uses."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Watch a descriptor."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Watch a descriptor for something else, or for NOTHING for now."""

    def unregister(self, fd: int, /) -> None:
        """Watch a descriptor no longer."""

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """Wait this many seconds at most; return which descriptors are ready, and for what."""

    def close(self) -> None:
        """Release the poller."""


class SelectorPoller:
    """A poller on the standard library's best selector. Used by one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._silent: set[int] = set()

    def register(self, fd: int, eventmask: int, /) -> None:
        """Watch a descriptor."""
        self._selector.register(fd, self._events(eventmask))

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Watch a descriptor for something else, or for NOTHING, which a selector does by forgetting it."""
        if fd not in self._silent:
            self._selector.unregister(fd)
        self._silent.discard(fd)
        if self._events(eventmask):
            self._selector.register(fd, self._events(eventmask))
        else:
            self._silent.add(fd)

    def unregister(self, fd: int, /) -> None:
        """Watch a descriptor no longer."""
        if fd in self._silent:
            self._silent.discard(fd)
        else:
            self._selector.unregister(fd)

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """Wait this many seconds at most; return which descriptors are ready, and for what."""
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
    """A pipe by which other threads end a poller's wait. Any thread may call `set`."""

    def __init__(self, poller: Poller) -> None:
        self.fd, self._write_fd = os.pipe()
        """The descriptor that the poller reports once somebody has called `set`."""
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        poller.register(self.fd, READABLE)

    def set(self) -> None:
        """End the present wait, or the next one. Returns at once."""
        try:
            os.write(self._write_fd, b"w")
        except BlockingIOError:
            pass  # it is full of wake-ups already

    def clear(self) -> None:
        """Let the poller wait again."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the pipe, once nobody calls `set` any more."""
        os.close(self.fd)
        os.close(self._write_fd)


def new_poller() -> Poller:
    """Make the best poller that this system has."""
    return select.epoll() if hasattr(select, "epoll") else SelectorPoller()
