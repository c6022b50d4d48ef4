"""How much memory of this process is resident, in use, and free inside the allocators.

Items are allocated by the interpreter's allocator (objects of up to 512 bytes) and by malloc (larger ones). The
allocators know how much is in use and the system does not. The system knows how much is resident and they do not.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, Protocol

_IN_USE = re.compile(rb"^# bytes in allocated blocks +=([ 0-9,]+)$", re.MULTILINE)
_AVAILABLE = re.compile(rb"^# bytes in available blocks +=([ 0-9,]+)$", re.MULTILINE)
_UNUSED = re.compile(rb"^[0-9]+ unused pools \* [0-9]+ bytes +=([ 0-9,]+)$", re.MULTILINE)


class Usage(NamedTuple):
    """Bytes that are in use, and bytes that the allocators hold free, whether these are resident or not."""

    in_use: int
    free: int


class Allocator(Protocol):
    """The operations that `MemoryWatch` needs, which tests replace."""

    def resident(self) -> int:
        """Return the bytes of private resident memory of the process; 0 if the system does not say."""

    def usage(self) -> Usage | None:
        """Return the bytes in use and free; None if they are not known.

        Slow if there are many holes, and no thread can allocate meanwhile.
        """

    def trim(self) -> None:
        """Return free pages to the system. Blocks every allocation meanwhile."""


class SystemAllocator:
    """The allocators of glibc and CPython. `usage` returns None if the process uses others."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim: Callable[[int], object] | None = getattr(library, "malloc_trim", None)
        self._mallinfo: Callable[[], _MallocInfo] | None = getattr(library, "mallinfo2", None)
        if self._mallinfo is not None:
            self._mallinfo.restype = _MallocInfo

    def resident(self) -> int:
        """Return the resident size without the pages that are shared or belong to files."""
        try:
            with open("/proc/self/statm", "rb") as file:
                words = file.read().split()
        except OSError:
            return 0
        return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")

    def usage(self) -> Usage | None:
        """Return the sums of both allocators."""
        if self._mallinfo is None:
            return None
        small = _small_objects()
        if small is None:
            return None
        info = self._mallinfo()
        return Usage(small.in_use + info.uordblks + info.hblkhd, small.free + info.fordblks)

    def trim(self) -> None:
        """Call glibc's malloc_trim, if there is one."""
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
    """Bytes in use, without blocks that have a mapping of their own."""
    hblkhd: int
    """Bytes in blocks that have a mapping of their own."""
    fordblks: int
    """Free bytes."""


def _small_objects() -> Usage | None:
    """Return the usage of the interpreter's allocator; None if it is another, or its statistics have another form."""
    if "t" in getattr(sys, "abiflags", ""):  # interpreters without the GIL use mimalloc
        return None
    text = malloc_stats()
    if text is None:
        return None
    if not text:  # PYTHONMALLOC=malloc: the allocator is not used
        return Usage(0, 0)
    found = [pattern.search(text) for pattern in (_IN_USE, _AVAILABLE, _UNUSED)]
    numbers = [int(match[1].replace(b",", b"")) for match in found if match is not None]
    return Usage(numbers[0], numbers[1] + numbers[2]) if len(numbers) == len(found) else None


@cache
def _python_library() -> ctypes.PyDLL:
    """Return the functions of this process, called with the GIL, so that nothing is allocated meanwhile.

    Loaded once: what that makes is cyclic garbage afterwards, each object of which would keep a megabyte of the
    interpreter's allocator from being given back.
    """
    return ctypes.PyDLL(None)


def malloc_stats() -> bytes | None:
    """Return what `sys._debugmallocstats` writes about small objects; None if that is not available.

    This calls the function behind it, as `sys` can only write to standard error.
    """
    library = _python_library()
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
