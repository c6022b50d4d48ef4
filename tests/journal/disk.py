"""A disk that tests can stall, break and pull the plug of."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memcache_kv.journal import directory
from memcache_kv.journal.disk import File, SystemDisk

PATIENCE_SECONDS = 20.0
"""How long to wait for what should happen at once; never reached in passing."""


def no_space() -> OSError:
    """Make the error of a full disk."""
    return OSError(errno.ENOSPC, "No space left on device")


def broken() -> OSError:
    """Make the error of a disk that breaks."""
    return OSError(errno.EIO, "Input/output error")


class Disk(SystemDisk):
    """The system's disk, with whatever a test does to it."""

    def __init__(self) -> None:
        self.operations: list[tuple[str, str]] = []
        """What was done to which file, but for what only looks."""
        self.write_sizes: list[int] = []
        """How much each write to an increment took."""
        self.durable: dict[str, int] = {}
        """How much of each file would be left after a power loss."""
        self.largest_write: int | None = None
        self.room: int | None = None
        """How many bytes there is room for yet; None: for any number."""
        self.free: int | None = None
        """What `free_bytes` says; None: the truth."""
        self.errors: dict[str, OSError] = {}
        """What an operation of this name raises each time; `write increment`: for files whose name begins so."""
        self.forgets = False
        """Whether a sync that fails makes zeros of what was not durable."""
        self.fails_in: int | None = None
        """How many operations succeed before one fails; None: no one does."""
        self.at_write = threading.Event()
        """Set when a write has been asked for since it was last cleared."""
        self.at_sync = threading.Event()
        self.may_write = threading.Event()
        self.may_sync = threading.Event()
        self.may_write.set()
        self.may_sync.set()

    @property
    def syncs(self) -> int:
        """How often an increment was synced."""
        return sum(done == "sync" and name.startswith("increment") for done, name in self.operations)

    def stall_writes(self) -> None:
        """Let no write through until `may_write` is set."""
        self.at_write.clear()
        self.may_write.clear()

    def stall_syncs(self) -> None:
        """Let no sync through until `may_sync` is set."""
        self.at_sync.clear()
        self.may_sync.clear()

    def mend(self) -> None:
        """Work again."""
        self.errors.clear()
        self.room = self.free = self.fails_in = None

    def note(self, what: str, path: Path) -> None:
        """Fail where the test wants it, or note that this was done."""
        for error in (self.errors.get(what), self.errors.get(f"{what} {path.name.partition('-')[0]}")):
            if error is not None:
                raise error
        if self.fails_in is not None:
            self.fails_in -= 1
            if self.fails_in < 0:
                self.fails_in = None
                raise broken()
        self.operations.append((what, path.name))

    def create(self, path: Path) -> File:
        """Make a file."""
        self.note("create", path)
        self.durable[path.name] = 0
        return DiskFile(self, path, super().create(path))

    def append_to(self, path: Path) -> File:
        """Open a file."""
        self.note("open", path)
        self.durable.setdefault(path.name, path.stat().st_size)
        return DiskFile(self, path, super().append_to(path))

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name."""
        self.note("rename", old)
        super().rename(old, new)
        self.durable[new.name] = self.durable.pop(old.name, 0)

    def remove(self, path: Path) -> None:
        """Delete a file."""
        self.note("remove", path)
        super().remove(path)
        self.durable.pop(path.name, None)

    def sync_directory(self, path: Path) -> None:
        """Make names durable."""
        self.note("sync_directory", path)
        super().sync_directory(path)

    def free_bytes(self, path: Path) -> int:
        """Return how much room there is."""
        return super().free_bytes(path) if self.free is None else self.free


class DiskFile:
    """A file of that disk."""

    def __init__(self, disk: Disk, path: Path, file: File) -> None:
        self._disk = disk
        self._path = path
        self._file = file

    def write(self, data: bytes | memoryview) -> int:
        """Write, or fail, when the test lets it."""
        disk = self._disk
        disk.at_write.set()
        assert disk.may_write.wait(PATIENCE_SECONDS)
        disk.note("write", self._path)
        if disk.room == 0:
            raise no_space()
        count = self._file.write(data[: disk.largest_write][: disk.room])
        if disk.room is not None:
            disk.room -= count
        if self._path.name.startswith("increment"):
            disk.write_sizes.append(count)
        return count

    def sync(self) -> None:
        """Make durable what was there when it was called."""
        disk, size = self._disk, self._path.stat().st_size if self._path.exists() else 0
        disk.at_sync.set()
        assert disk.may_sync.wait(PATIENCE_SECONDS)
        try:
            disk.note("sync", self._path)
        except OSError:
            if disk.forgets:
                self._forget()
            raise
        if self._path.name in disk.durable:
            disk.durable[self._path.name] = size

    def _forget(self) -> None:
        with self._path.open("r+b") as file:
            kept = self._disk.durable[self._path.name]
            length = self._path.stat().st_size - kept
            file.seek(kept)
            file.write(bytes(length))

    def truncate(self, size: int) -> None:
        """Cut it off."""
        self._disk.note("truncate", self._path)
        self._file.truncate(size)

    def is_at(self, path: Path) -> bool:
        """Tell whether it is what stands at a path."""
        return self._file.is_at(path)

    def close(self) -> None:
        """Close it."""
        self._file.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """The disk under every journal of this test."""
    disk = Disk()
    monkeypatch.setattr(directory, "SystemDisk", lambda: disk)
    yield disk
    disk.may_write.set()
    disk.may_sync.set()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another thread does; fail when it never does."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, f"never happened: {what}"
        time.sleep(0.001)
