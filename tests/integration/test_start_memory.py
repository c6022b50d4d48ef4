"""A start takes at most the limit of -m and a tenth more than one without items, whatever the journal has."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]

from memcache_kv.compiled import ACCELERATED
from memcache_kv.journal import Fsync, Journal, JournalDirectory
from tests.integration.test_memory import MEGABYTE, memory_of
from tests.program import Program

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc"),
    pytest.mark.skipif(not ACCELERATED, reason="the interpreter's allocator keeps holes that compiled code avoids"),
]

LIMIT_MEGABYTES = 64
MOST_BYTES = LIMIT_MEGABYTES * MEGABYTE * 11 // 10
LEAST_BYTES = LIMIT_MEGABYTES * MEGABYTE // 2
"""What the items take at least. They took 35 to 66 MB in these cases, over 24 hash seeds and more of each."""

Change = tuple[bytes, int, bytes | None]
"""A key, its deadline, and its value; without one, the key is touched."""


def sets(name: str, megabytes: int, size: Callable[[random.Random], int]) -> Iterator[Change]:
    """Values of these sizes under new keys."""
    rnd, left, number = random.Random(name), megabytes * MEGABYTE, 0
    while left > 0:
        length = size(rnd)
        left -= length + 100
        number += 1
        yield b"%b-%08d" % (name.encode(), number), 0, b"v" * length


def phases(*sizes: int) -> Iterator[Change]:
    """Values of one size after another, more of each than fits in."""
    for size in sizes:
        yield from sets(f"of {size}".replace(" ", "-"), 120, lambda _, size=size: size)  # type: ignore[misc]


def rounds() -> Iterator[Change]:
    """Values whose size changes long before all of the last size are evicted."""
    for number in range(24):
        size = (60, 450, 900, 5000, 20_000, 90_000)[number % 6]
        yield from sets(f"round{number}", 15, lambda _, size=size: size)  # type: ignore[misc]


def expired_and_touched() -> Iterator[Change]:
    """Values that have expired, and touches that give them time again, with others before and between."""
    yield from sets("before", 60, lambda _: 300)
    keys = [b"expired-%08d" % number for number in range(300_000)]
    yield from ((key, int(time.time()) - 1000, b"v" * 200) for key in keys)
    yield from sets("between", 60, lambda _: 300)
    yield from ((key, 0, None) for key in keys)


def touched_backwards() -> Iterator[Change]:
    """More values that have expired than fit, and touches that give them time again, the last one first."""
    keys = [b"expired-%08d" % number for number in range(120_000)]
    yield from ((key, int(time.time()) - 1000, b"v" * 1000) for key in keys)
    yield from ((key, 0, None) for key in reversed(keys))


JOURNALS: dict[str, Callable[[], Iterator[Change]]] = {
    "small": lambda: phases(100),
    "of any size": lambda: sets("any", 240, lambda rnd: int(10 ** rnd.uniform(0, 5.9))),
    "small, then larger": lambda: phases(50, 200, 400),
    "small, then beyond small objects": lambda: phases(200, 700, 5000),
    "larger and larger": lambda: phases(100, 3000, 30_000),
    "smaller and smaller": lambda: phases(30_000, 3000, 100),
    "sizes in turn": rounds,
    "expired and touched": expired_and_touched,
    "touched backwards": touched_backwards,
}


def write_journal(path: Path, changes: Iterator[Change]) -> None:
    directory = JournalDirectory(path)
    journal = Journal(directory, Fsync.NEVER, directory.open())
    queued = 0
    for key, deadline, value in changes:
        if value is None:
            journal.touched(key, deadline)
        else:
            journal.stored(key, 0, deadline, 0, value)
        queued += 100 + len(value or b"")
        if queued > MEGABYTE:
            journal.step()
            queued = 0
    journal.close()
    directory.close()


def started(path: Path) -> tuple[int, int]:
    """Start a server on a journal. Return the most memory that it took, and what its items take as it counts."""
    flags = ("-p", "0", "-l", "127.0.0.1", "-m", str(LIMIT_MEGABYTES), "--journal", str(path))
    with Program(*flags) as program:
        with closing(Client(("127.0.0.1", program.port))) as client:
            kept = client.stats()[b"bytes"]
        return memory_of(program.process.pid, "VmHWM"), kept


@pytest.mark.parametrize("kind", JOURNALS)
def test_a_start_takes_at_most_the_limit_and_a_tenth(tmp_path: Path, kind: str) -> None:
    idle, _ = started(tmp_path / "empty")
    write_journal(tmp_path / "journal", JOURNALS[kind]())
    peak, kept = started(tmp_path / "journal")
    assert peak - idle < MOST_BYTES
    assert kept > LEAST_BYTES, "holes took the place of items"
