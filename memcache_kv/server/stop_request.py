"""The request to stop a server."""

from __future__ import annotations

import contextlib
import os

from memcache_kv.errors import StoppedEarly
from memcache_kv.unpatched import select


class StopRequest:
    """A request to stop the server. Any thread and any signal handler may make it.

    Unlike that of an Event, `set` takes no lock, which an interrupted thread might hold.
    """

    def __init__(self) -> None:
        self._set = False
        self.is_graceful = False
        """Whether the items are to be saved where --memory-file says."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def set(self, is_graceful: bool = False) -> None:
        """Make the request. The stop is graceful if the first request, or what led to it, was."""
        if not self._set:
            self.is_graceful = self.is_graceful or is_graceful
            self._set = True
            with contextlib.suppress(OSError):  # it is closed: nobody waits any more
                os.write(self._write, b"s")

    def fileno(self) -> int:
        """Return a descriptor for `signal.set_wakeup_fd`.

        A signal that comes just before `wait` blocks then ends `wait`, so that its handler runs.
        """
        return self._write

    def is_set(self) -> bool:
        """Return whether the request was made."""
        return self._set

    def wait_for_input(self, fd: int) -> None:
        """Block until a descriptor has input. Raises StoppedEarly if the request is made before."""
        while not self._set:
            ready = self._poll(None, fd)
            if self._read in ready:
                os.read(self._read, 64)
            elif ready:
                return
        raise StoppedEarly("stopped while data was read")

    def wait(self, seconds: float | None = None) -> bool:
        """Block until the request is made or a signal was received, and return whether the request was made.

        seconds: the longest wait; None is no limit. For one thread only, in a process with signals the main one.
        """
        if not self._set and self._poll(seconds):
            os.read(self._read, 64)
        return self._set

    def _poll(self, seconds: float | None, *others: int) -> list[int]:
        """Block until the request is made, or another descriptor has input; return the descriptors with input."""
        poll = select.poll()  # not `select`, which takes no descriptor above 1,023
        for fd in (self._read, *others):
            poll.register(fd, select.POLLIN)
        return [fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)]

    def close(self) -> None:
        """Close the descriptors. To be called when nobody waits any more."""
        os.close(self._read)
        os.close(self._write)
