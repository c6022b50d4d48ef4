"""A disk that tests can stall, break and pull the plug of."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from memcache_kv.journal import writer

PATIENCE_SECONDS = 20.0
"""How long to wait for what should happen at once; never reached in passing."""


class Disk:
    """Stand in for the module `os` in the journal's writer; whatever is not named here is the real one's."""

    def __init__(self) -> None:
        self.write_sizes: list[int] = []
        self.syncs = 0
        self.durable_bytes = 0
        """How much of the file would be left after a power loss."""
        self.largest_write: int | None = None
        self.write_error: OSError | None = None
        self.sync_error: OSError | None = None
        self.at_write = threading.Event()
        """Set when a write has been asked for since it was last cleared."""
        self.at_sync = threading.Event()
        self.may_write = threading.Event()
        self.may_sync = threading.Event()
        self.may_write.set()
        self.may_sync.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, fd: int, data: memoryview) -> int:
        """Write, or fail, when the test lets it."""
        self.at_write.set()
        assert self.may_write.wait(PATIENCE_SECONDS)
        if self.write_error is not None:
            raise self.write_error
        count = os.write(fd, data[: self.largest_write])
        self.write_sizes.append(count)
        return count

    def fdatasync(self, fd: int) -> None:
        """Make durable what was there when it was called."""
        size = os.fstat(fd).st_size
        self.at_sync.set()
        assert self.may_sync.wait(PATIENCE_SECONDS)
        if self.sync_error is not None:
            raise self.sync_error
        self.syncs += 1
        self.durable_bytes = size

    def stall_writes(self) -> None:
        """Let no write through until `may_write` is set."""
        self.at_write.clear()
        self.may_write.clear()

    def stall_syncs(self) -> None:
        """Let no sync through until `may_sync` is set."""
        self.at_sync.clear()
        self.may_sync.clear()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk under every journal of this test."""
    disk = Disk()
    monkeypatch.setattr(writer, "os", disk)
    return disk


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another thread does; fail when it never does."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, f"never happened: {what}"
        time.sleep(0.001)
