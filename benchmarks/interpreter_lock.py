"""How often a Python process holds its interpreter lock (GIL), found by looking at the lock from outside.

The process runs unchanged and notices nothing: this program reads one number of its memory, again and again.
"""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.task_clock import TaskClocks, task_clocks
from memcache_kv.server.process import SWITCH_SECONDS

SHORTEST_GAP_SECONDS, LONGEST_GAP_SECONDS = 0.0002, 0.0008
"""The times between two looks are random, so that they can't keep step with the turns of the process."""
LAYOUT = struct.Struct("QQi")
"""The lock in CPython 3.11 to 3.14: the switch interval in µs, the last holder, and whether it is held."""
HELD_OFFSET = LAYOUT.size - 4
INTERVALS = int(SWITCH_SECONDS * 1e6), 5000
"""The switch interval of a server in µs, and that of CPython, which other numbers may be too."""
NOT_HELD = bytes(4)
CHANGING_BYTES = LAYOUT.size + 4 + 8
"""The lock with the number of times that it has changed hands."""
SETTLED_SECONDS = 0.1
"""After so long, the lock of a process with work has changed."""
QUESTION = """\
import ctypes, json, sys
address = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
print(json.dumps({
    "address": address,
    "maps": open("/proc/self/maps").read(),
    "locks": getattr(sys, "_is_gil_enabled", lambda: True)(),
}))
"""


class NoLockError(Exception):
    """The lock can't be observed; the message says why."""


@dataclass(frozen=True)
class Mapping:
    """Hold one mapping of a process: a range of its memory, and the file that is mapped there."""

    start: int
    end: int
    file: str


@dataclass(frozen=True)
class Held:
    """Hold how often the lock was found held."""

    looks: int
    """Only those at which a thread was on a core, where that is known."""
    held: int
    on_core: bool
    """Whether that is known: the share is one of the time on a core then, and otherwise of all time."""

    @property
    def share(self) -> float:
        """Tell which part of the time it was held."""
        return self.held / self.looks if self.looks else 0.0

    @property
    def error(self) -> float:
        """Tell the standard error of the share."""
        return (self.share * (1 - self.share) / self.looks) ** 0.5 if self.looks else 0.0


def parse_mappings(text: str) -> list[Mapping]:
    """Read the text of /proc/PID/maps."""
    found = []
    for line in text.splitlines():
        addresses, *_, file = line.split(maxsplit=5) if line.count("/") else (line.split()[0], "")
        start, _, end = addresses.partition("-")
        found.append(Mapping(int(start, 16), int(end, 16), file))
    return found


class InterpreterLock:
    """The interpreter lock of another process, which must run the given interpreter."""

    def __init__(self, pid: int, python: str) -> None:
        try:
            self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        except OSError as error:
            raise NoLockError(f"the server's memory can't be read: {error.strerror}") from error
        try:
            self._address = _find(self._memory, Path(f"/proc/{pid}/maps").read_text(), python)
        except OSError as error:
            os.close(self._memory)
            raise NoLockError(f"the server's memory can't be read: {error.strerror}") from error
        except BaseException:
            os.close(self._memory)
            raise

    def __enter__(self) -> InterpreterLock:
        """Return the lock."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the memory of the process."""
        os.close(self._memory)

    def watch(self, seconds: float, threads: Sequence[int]) -> Held:
        """Look at the lock at random times for so long.

        threads: a look counts only if one of them got on between a moment before it and a moment after it. A process
        that another one has pushed from its core would otherwise seem to hold the lock all the longer. Without threads
        each look counts.
        """
        with task_clocks(threads) as clocks:
            return self._watch(seconds, clocks)

    def _watch(self, seconds: float, clocks: TaskClocks | None) -> Held:
        rng, looks, held = random.Random(7), 0, 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(rng.uniform(SHORTEST_GAP_SECONDS, LONGEST_GAP_SECONDS))
            before = clocks.read() if clocks else []
            is_held = os.pread(self._memory, 4, self._address) != NOT_HELD
            if not before or (clocks and clocks.read() != before):
                looks += 1
                held += is_held
        return Held(looks, held, bool(clocks and clocks.read()))


def _find(memory: int, maps: str, python: str) -> int:
    """Find the address of the number that tells whether the lock is held. Raises NoLockError.

    The interpreter itself tells where its state lies within its own file; the state is searched for a switch
    interval that a pointer and a truth value follow, and that changes if there are several.
    """
    about = _ask(python)
    if not about["locks"]:
        raise NoLockError("this interpreter runs without a lock")
    own = parse_mappings(str(about["maps"]))
    symbol = int(str(about["address"]))
    file = next(each.file for each in own if each.start <= symbol < each.end)
    offset = symbol - next(each.start for each in own if each.file == file)
    theirs = [each for each in parse_mappings(maps) if each.file == file]
    if not theirs:
        raise NoLockError(f"the server does not run {file}")
    first = theirs[0].start + offset
    last = next(each.end for each in theirs if each.start <= first < each.end)
    state = os.pread(memory, last - first, first)
    found = next(filter(None, (places(state, interval) for interval in INTERVALS)), [])
    if len(found) > 1:  # the cache of methods has numbers of types before pointers
        time.sleep(SETTLED_SECONDS)
        later = os.pread(memory, last - first, first)
        found = [place for place in found if not _is_same(state, later, place)]
    if len(found) != 1:
        raise NoLockError("the lock was not found: this interpreter keeps it in another form")
    return first + found[0] + HELD_OFFSET


def _is_same(state: bytes, later: bytes, place: int) -> bool:
    """Tell whether nothing has changed at a place. A lock in use changes hands, which it counts."""
    return state[place : place + CHANGING_BYTES] == later[place : place + CHANGING_BYTES]


def places(state: bytes, interval: int) -> list[int]:
    """Tell where in an interpreter's state there is what looks like its lock, with this switch interval in µs."""
    found = []
    for place in range(0, len(state) - LAYOUT.size, 8):
        candidate, holder, held = LAYOUT.unpack_from(state, place)
        if candidate == interval and holder > 0xFFFF and holder % 8 == 0 and held in (0, 1):
            found.append(place)
    return found


def _ask(python: str) -> dict[str, object]:
    done = subprocess.run([python, "-c", QUESTION], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoLockError("the interpreter does not tell where its state is")
    about: dict[str, object] = json.loads(done.stdout)
    return about
