"""What a part of the process has left behind: threads and descriptors."""

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def _descriptors() -> dict[str, str]:
    """The open descriptors and what they are, but for the one that lists them."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass
    return found


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Check that the block gives back all threads and descriptors."""
    gc.collect()
    threads, descriptors = _threads(), _descriptors()
    yield
    assert _threads() - threads == set()
    assert {name: what for name, what in _descriptors().items() if descriptors.get(name) != what} == {}


has_proc = Path("/proc/self/fd").is_dir()
