"""Runs the server with a wall clock that a test sets: the first argument names a file with the seconds it is ahead.

The process is a real one, and only what it is told of the wall clock is not. (libfaketime can't do it: with its
DONT_FAKE_MONOTONIC every sleep of the interpreter fails, and without it every wait with a limit lasts for ever.)
"""

import sys
import time
from pathlib import Path

_ahead = Path(sys.argv.pop(1))
_true_time = time.time


def _set_time() -> float:
    return _true_time() + int(_ahead.read_text())


time.time = _set_time

from memcache_kv.cli import main  # noqa: E402

sys.exit(main())
