"""What the allocators of this process hold: how much of it is in use, and how much is holes.

Two of them have the items: the interpreter's own has objects of up to 512 bytes, malloc all that is larger. Both tell
what is in use, which the system does not know; the system tells what is resident, which they don't know.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable
from typing import NamedTuple, Protocol

_IN_USE = re.compile(rb"^# bytes in allocated blocks +=([ 0-9,]+)$", re.MULTILINE)
_AVAILABLE = re.compile(rb"^# bytes in available blocks +=([ 0-9,]+)$", re.MULTILINE)
_UNUSED = re.compile(rb"^[0-9]+ unused pools \* [0-9]+ bytes +=([ 0-9,]+)$", re.MULTILINE)


class Usage(NamedTuple):
    """What the allocators have: in_use is what somebody holds; free what nobody does, be it resident or not."""

    in_use: int
    free: int


class Allocator(Protocol):
    """What the watch over the memory asks and tells the allocators."""

    def resident(self) -> int:
        """Return how much memory of its own the process has; 0 where the system does not tell."""

    def usage(self) -> Usage | None:
        """Return what is in use and what is free; None where it is not known.

        It takes up to 10 ms for each 100,000 holes, in which nobody can allocate.
        """

    def trim(self) -> None:
        """Give free pages back to the system."""


class SystemAllocator:
    """The allocators of this process: glibc's and CPython's. With others `usage` is not known."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim: Callable[[int], object] | None = getattr(library, "malloc_trim", None)
        self._mallinfo: Callable[[], _MallocInfo] | None = getattr(library, "mallinfo2", None)
        if self._mallinfo is not None:
            self._mallinfo.restype = _MallocInfo

    def resident(self) -> int:
        """Return the resident size less what files and other processes have a part in."""
        try:
            with open("/proc/self/statm", "rb") as file:
                words = file.read().split()
        except OSError:
            return 0
        return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")

    def usage(self) -> Usage | None:
        """Ask both allocators."""
        if self._mallinfo is None:
            return None
        small = _small_objects()
        if small is None:
            return None
        info = self._mallinfo()
        return Usage(small.in_use + info.uordblks + info.hblkhd, small.free + info.fordblks)

    def trim(self) -> None:
        """Call glibc's malloc_trim, where there is one."""
        if self._trim is not None:
            self._trim(0)


class _MallocInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip
    uordblks: int
    """What is in use, but for blocks that were mapped by themselves."""
    hblkhd: int
    """Those blocks."""
    fordblks: int
    """What is free."""


def _small_objects() -> Usage | None:
    """Ask the interpreter's allocator; None where it is another, or says it in another form."""
    if "t" in getattr(sys, "abiflags", ""):  # without the GIL it is mimalloc
        return None
    text = _malloc_stats()
    if text is None:
        return None
    if not text:  # PYTHONMALLOC=malloc: it has nothing
        return Usage(0, 0)
    found = [pattern.search(text) for pattern in (_IN_USE, _AVAILABLE, _UNUSED)]
    numbers = [int(match[1].replace(b",", b"")) for match in found if match is not None]
    return Usage(numbers[0], numbers[1] + numbers[2]) if len(numbers) == len(found) else None


def _malloc_stats() -> bytes | None:
    """Return what `sys._debugmallocstats` writes about small objects; None where it can't be had.

    It is called beside `sys`, which can write to nothing but the standard error.
    """
    library = ctypes.PyDLL(None)  # which keeps the GIL: nothing is allocated meanwhile
    try:
        write, open_memstream = library._PyObject_DebugMallocStats, library.open_memstream
    except AttributeError:
        return None
    buffer, size = ctypes.c_void_p(), ctypes.c_size_t()
    open_memstream.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(open_memstream(ctypes.byref(buffer), ctypes.byref(size)))
    if not stream:
        return None
    try:
        write(stream)
    finally:
        library.fclose(stream)
        text = ctypes.string_at(buffer, size.value) if buffer else b""
        library.free(buffer)
    return text
