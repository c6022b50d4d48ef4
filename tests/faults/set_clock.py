"""Runs the server on a machine whose clock a test sets, and which it suspends.

The first argument names a file with two numbers: the seconds that the wall clock was set ahead by, and the seconds for
which the machine was suspended. In a suspend, Linux's CLOCK_BOOTTIME goes on, and CLOCK_MONOTONIC stands still.

The process is a real one; only the clocks are not.
"""

import sys
from pathlib import Path

from memcache_kv.unpatched import time

CLOCKS_OF_THE_WALL = (time.CLOCK_REALTIME, 5)  # 5 is CLOCK_REALTIME_COARSE, which the server reads

_file = Path(sys.argv.pop(1))
_true_time, _true_clock = time.time, time.clock_gettime


def _set_time() -> float:
    ahead, suspended = map(int, _file.read_text().split())
    return _true_time() + ahead + suspended


def _set_clock(clock: int) -> float:
    ahead, suspended = map(int, _file.read_text().split())
    if clock in CLOCKS_OF_THE_WALL:
        return _true_clock(clock) + ahead + suspended
    return _true_clock(clock) + (suspended if clock == time.CLOCK_BOOTTIME else 0)


time.time, time.clock_gettime = _set_time, _set_clock

from memcache_kv.cli import main  # noqa: E402

sys.exit(main())
