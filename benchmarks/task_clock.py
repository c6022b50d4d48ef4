"""Whether a thread of another process is on a core right now, by the kernel's counter of its time there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Iterator, Sequence

SYSTEM_CALLS = {"x86_64": 298, "aarch64": 241}
"""perf_event_open has no function in the C library."""
ATTRIBUTES = struct.Struct("IIQQQQQ80x")
SOFTWARE, TASK_CLOCK = 1, 1
USER_ONLY = 1 << 5 | 1 << 6
"""The kernel lets anybody count their own processes so; this counter counts the time in the kernel all the same."""
CLOSE_ON_EXEC = 8


class TaskClocks:
    """The counters of several threads. Raises OSError where the kernel does not allow them."""

    def __init__(self, threads: Sequence[int]) -> None:
        with contextlib.ExitStack() as stack:
            self._counters = [_open(thread, stack) for thread in threads]
            self._stack = stack.pop_all()

    def read(self) -> list[bytes]:
        """Read all counters. Of a thread on a core, the next reading differs; of another one, it does not."""
        return [os.read(counter, 8) for counter in self._counters]

    def close(self) -> None:
        """Close the counters."""
        self._stack.close()


@contextlib.contextmanager
def task_clocks(threads: Sequence[int]) -> Iterator[TaskClocks | None]:
    """Count the time of threads while the block runs; None where the kernel does not allow it."""
    try:
        clocks = TaskClocks(threads)
    except OSError:
        yield None
        return
    try:
        yield clocks
    finally:
        clocks.close()


def _open(thread: int, stack: contextlib.ExitStack) -> int:
    number = SYSTEM_CALLS.get(platform.machine())
    if number is None:
        raise OSError(f"perf_event_open has no known number on {platform.machine()}")
    attributes = ATTRIBUTES.pack(SOFTWARE, ATTRIBUTES.size, TASK_CLOCK, 0, 0, 0, USER_ONLY)
    call = ctypes.CDLL(None, use_errno=True).syscall
    counter: int = call(number, attributes, thread, -1, -1, CLOSE_ON_EXEC)
    if counter < 0:
        raise OSError(ctypes.get_errno(), "perf_event_open failed")
    stack.callback(os.close, counter)
    return counter
