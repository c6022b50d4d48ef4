"""A disk in memory that knows what a power loss would leave: what was synced for sure, of the rest some.

Of a file it keeps what a reader sees and, apart from that, what is on the platter: an fsync brings the second up to the
first. Of a directory it keeps the same two of its names. `left_by` makes the disk that is found after a crash.

Not modelled: an fsync fails, the process ends before it could write anew what that may have lost, and the power fails
later. The next process reads from the system's memory what is not on the platter, and can't tell. Here the system
writes it in the end, as if the fsync had not been tried (`Inode.remember`).
"""

from __future__ import annotations

import enum
import errno
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import TypeAlias

BLOCK_BYTES = 300
"""Read at a time: little, so that records are read in pieces."""
PLENTY_BYTES = 1 << 40
PAGE_BYTES = 64
"""What is lost or kept as a whole where pages are lost out of order: small, as the files are."""


class Loss(enum.Enum):
    """What is left of what was not synced."""

    ORDERED = "power, in order"
    """Of each file a beginning of what was written, of each directory the first few changes of its names."""
    ANY_NAMES = "power, any names"
    """Of each file a beginning, of each directory any of the changes."""
    PAGES = "power, pages out of order"
    """Of each file pages that are there, with zeros between them, of each directory any of the changes."""
    KILLED = "kill -9"
    """Everything."""


@dataclass
class Written:
    """A write that is not known to be on the platter."""

    offset: int
    data: bytes

    def onto(self, content: bytes, length: int | None = None) -> bytes:
        """Carry it out, or the beginning of it; where something is missing before it, zeros stand."""
        return content[: self.offset].ljust(self.offset, b"\0") + self.data[:length]


@dataclass
class Truncated:
    """A truncation that is not known to be on the platter."""

    size: int

    def onto(self, content: bytes) -> bytes:
        """Carry it out."""
        return content[: self.size]


@dataclass
class Inode:
    """A file, whatever its names are."""

    content: bytes = b""
    """What a reader sees."""
    durable: bytes = b""
    pending: list[Written | Truncated] = field(default_factory=list)
    """What leads from the second to the first."""

    def write(self, data: bytes) -> None:
        """Append."""
        self.pending.append(Written(len(self.content), data))
        self.content += data

    def truncate(self, size: int) -> None:
        """Cut off."""
        self.pending.append(Truncated(size))
        self.content = self.content[:size]

    def sync(self) -> None:
        """Bring to the platter what is pending."""
        for change in self.pending:
            self.durable = change.onto(self.durable)
        self.pending.clear()

    def fail_to_sync(self, rng: Random) -> None:
        """Lose some of what is pending and forget that it was: the next sync will find nothing to do for it."""
        self.durable = self._beginning(rng)
        self.pending = [change for change in self.pending if isinstance(change, Truncated)]

    def copy(self) -> Inode:
        """Return the file as the system has it when the process alone has gone.

        What a failed sync made it forget it knows again: no process that comes later can tell that such a sync was.
        """
        copy = Inode(self.content, self.durable, list(self.pending))
        copy.remember()
        return copy

    def remember(self) -> None:
        """See that what is pending leads to what a reader sees."""
        durable = self.durable
        for change in self.pending:
            durable = change.onto(durable)
        if durable != self.content:
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(durable, self.content, strict=False)))
            self.pending += [Truncated(same), Written(same, self.content[same:])]

    def left_by(self, loss: Loss, rng: Random) -> bytes:
        """Return what is found of it after a loss."""
        if loss is Loss.KILLED:
            return self.content
        return self._pages(rng) if loss is Loss.PAGES else self._beginning(rng)

    def _beginning(self, rng: Random) -> bytes:
        """Carry out the first few pending changes, of the last perhaps a part."""
        count = rng.choice((0, len(self.pending), rng.randint(0, len(self.pending))))
        content = self.durable
        for change in self.pending[:count]:
            content = change.onto(content)
        following = self.pending[count] if count < len(self.pending) else None
        if isinstance(following, Written) and rng.random() < 0.7:
            content = following.onto(content, rng.randint(0, len(following.data)))
        return content

    def _pages(self, rng: Random) -> bytes:
        """Keep some pages of what was not synced, up to some length."""
        sure = min([len(self.durable)] + [change.size for change in self.pending if isinstance(change, Truncated)])
        whole = self.content[: rng.randint(min(sure, len(self.content)), len(self.content))]
        whole = self.durable[:sure] + whole[sure:]
        for start in range(sure, len(whole), PAGE_BYTES):
            if rng.random() < 0.3:
                end = min(start + PAGE_BYTES, len(whole))
                whole = whole[:start] + bytes(end - start) + whole[end:]
        return whole


@dataclass
class Renaming:
    """A change of a directory's names: a file loses one, gets one, or both."""

    inode: Inode
    old: str | None
    new: str | None

    def apply_to(self, names: dict[str, Inode]) -> None:
        """Carry it out."""
        if self.old is not None and names.get(self.old) is self.inode:
            del names[self.old]
        if self.new is not None:
            names[self.new] = self.inode


@dataclass
class Directory:
    """A directory's names."""

    names: dict[str, Inode] = field(default_factory=dict)
    durable: dict[str, Inode] = field(default_factory=dict)
    pending: list[Renaming] = field(default_factory=list)

    def change(self, inode: Inode, old: str | None = None, new: str | None = None) -> None:
        """Take a name from a file, give it one, or both."""
        change = Renaming(inode, old, new)
        change.apply_to(self.names)
        self.pending.append(change)

    def sync(self) -> None:
        """Bring to the platter what is pending."""
        self.durable = dict(self.names)
        self.pending.clear()

    def left_by(self, loss: Loss, rng: Random) -> dict[str, Inode]:
        """Return what is found of it after a loss."""
        if loss is Loss.KILLED:
            return dict(self.names)
        left = dict(self.durable)
        for change in self._survivors(loss, rng):
            change.apply_to(left)
        return left

    def _survivors(self, loss: Loss, rng: Random) -> list[Renaming]:
        if loss is Loss.ORDERED or rng.random() < 0.2:
            return self.pending[: rng.randint(0, len(self.pending))]
        share = rng.random()
        return [change for change in self.pending if rng.random() < share]


@dataclass
class Fault:
    """What goes wrong for a while.

    kinds: the operations that fail; times: how often; room_bytes: what a full disk still takes.
    """

    kinds: tuple[str, ...]
    number: int = errno.EIO
    times: int = 1
    chance: float = 1.0
    room_bytes: int = 0

    def strikes(self, kind: str, rng: Random) -> bool:
        """Tell whether an operation fails."""
        if self.times <= 0 or kind not in self.kinds or rng.random() >= self.chance:
            return False
        self.times -= 1
        return True


Hook: TypeAlias = Callable[[], None]


class SimulatedDisk:
    """A Disk in memory.

    before: called before each operation that changes something, when all that the last one led to has happened;
    failed: called when one is made to fail.
    """

    def __init__(self, rng: Random, before: Hook = lambda: None, failed: Hook = lambda: None) -> None:
        self.rng = rng
        self.before = before
        self.failed = failed
        self.operations = 0
        self.last = "nothing"
        """The last operation."""
        self.fault: Fault | None = None
        self.short_writes = 0.0
        """How probable it is that a write takes a part only."""
        self.directories: dict[Path, Directory] = {}
        self._locked: dict[Path, SimulatedFile] = {}

    # What a loss leaves

    def left_by(self, loss: Loss, rng: Random) -> SimulatedDisk:
        """Return the disk that is found when the machine, or the process, is started again; this one stays as it is."""
        found = type(self)(rng)
        copies: dict[int, Inode] = {}
        for path, directory in self.directories.items():
            left = directory.left_by(loss, rng)
            names = {name: copies.setdefault(id(inode), copy_left_by(inode, loss, rng)) for name, inode in left.items()}
            found.directories[path] = Directory(names, dict(names))
            if loss is Loss.KILLED:
                found.directories[path] = _with_pending(directory, names, copies, rng)
        return found

    def lose_power(self) -> None:
        """Become what a power loss leaves."""
        self.directories = self.left_by(Loss.ANY_NAMES, self.rng).directories
        self.end_process()

    def end_process(self) -> None:
        """Do what the system does when a process ends: forget what it has locked."""
        self._locked.clear()
        for directory in self.directories.values():
            for inode in directory.names.values():
                inode.remember()

    def shown(self) -> str:
        """Show all files, for whoever looks for a fault."""
        lines = []
        for path, directory in self.directories.items():
            for name, inode in directory.names.items():
                lines.append(f"--- {path / name}: {len(inode.content)} bytes, {len(inode.durable)} of them durable")
                lines += [repr(line) for line in inode.content.split(b"\n")]
        return "\n".join(lines)

    # Disk

    def make_directory(self, path: Path) -> None:
        """Make a directory, durably."""
        self.begin("make_directory")
        self.directories.setdefault(path, Directory())

    def lock(self, path: Path) -> SimulatedFile:
        """Make a file and lock it."""
        self.begin("lock")
        if path in self._locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")
        directory = self._directory(path.parent)
        if path.name not in directory.names:
            directory.change(Inode(), new=path.name)
        self._locked[path] = file = SimulatedFile(self, path, directory.names[path.name])
        return file

    def lock_directory(self, path: Path) -> SimulatedFile:
        """Fail: this disk is never read-only."""
        raise AssertionError(path)

    def unlock(self, file: SimulatedFile) -> None:
        """Let go of a lock, where this file holds one."""
        if self._locked.get(file.path) is file:
            del self._locked[file.path]

    def names(self, directory: Path) -> list[str]:
        """List a directory."""
        return list(self._directory(directory).names)

    def size(self, path: Path) -> int:
        """Return a file's length."""
        return len(self.inode(path).content)

    def identity(self, path: Path) -> object:
        """Return the file itself."""
        return self.inode(path)

    def create(self, path: Path) -> SimulatedFile:
        """Make a file that is not there yet."""
        self.begin("create")
        directory = self._directory(path.parent)
        if path.name in directory.names:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        directory.change(Inode(), new=path.name)
        return SimulatedFile(self, path, directory.names[path.name])

    def append_to(self, path: Path) -> SimulatedFile:
        """Open a file that is there."""
        return SimulatedFile(self, path, self.inode(path))

    def read(self, path: Path, limit_bytes: int | None = None) -> Iterator[bytes]:
        """Read a file, a little at a time."""
        content = self.inode(path).content[:limit_bytes]
        for start in range(0, len(content), BLOCK_BYTES):
            yield content[start : start + BLOCK_BYTES]

    def open(self, path: Path) -> SlowFile:
        """Open a file, to be read a little at a time."""
        return SlowFile(self.inode(path).content)

    def read_range(self, path: Path, offset: int, length: int) -> bytes:
        """Read a part of a file."""
        return self.inode(path).content[offset : offset + length]

    def data_at(self, path: Path, offset: int) -> int:
        """There are no holes."""
        return offset

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name."""
        self.begin("rename")
        self._directory(old.parent).change(self.inode(old), old.name, new.name)

    def remove(self, path: Path) -> None:
        """Delete a file."""
        self.begin("remove")
        self._directory(path.parent).change(self.inode(path), old=path.name)

    def sync_directory(self, path: Path) -> None:
        """Make a directory's names durable."""
        self.begin("sync_directory")
        self._directory(path).sync()

    def free_bytes(self, path: Path) -> int:
        """Return what a full disk still takes, or much."""
        return PLENTY_BYTES if self.fault is None or self.fault.number != errno.ENOSPC else self.fault.room_bytes

    # For the files

    def begin(self, kind: str) -> None:
        """Let a crash happen before an operation; then count it, and fail where it is to."""
        self.before()
        self.operations += 1
        self.last = kind
        if self.fault is not None and self.fault.strikes(kind, self.rng):
            self.failed()
            raise OSError(self.fault.number, errno.errorcode[self.fault.number])

    def inode(self, path: Path) -> Inode:
        """Find a file."""
        inode = self._directory(path.parent).names.get(path.name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return inode

    def _directory(self, path: Path) -> Directory:
        if path not in self.directories:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return self.directories[path]


def copy_left_by(inode: Inode, loss: Loss, rng: Random) -> Inode:
    """Return a file as it is after a crash."""
    if loss is Loss.KILLED:
        return inode.copy()
    content = inode.left_by(loss, rng)
    return Inode(content, content)


def _with_pending(directory: Directory, names: dict[str, Inode], copies: dict[int, Inode], rng: Random) -> Directory:
    """Copy a directory with what of it is not durable yet."""

    def copied(inode: Inode) -> Inode:
        return copies.setdefault(id(inode), copy_left_by(inode, Loss.KILLED, rng))

    durable = {name: copied(inode) for name, inode in directory.durable.items()}
    pending = [Renaming(copied(change.inode), change.old, change.new) for change in directory.pending]
    return Directory(names, durable, pending)


class SlowFile(io.BytesIO):
    """An open file that gives a little at a time."""

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Fill the beginning of the buffer."""
        return super().readinto(buffer[:BLOCK_BYTES])


class SimulatedFile:
    """A File on a SimulatedDisk."""

    def __init__(self, disk: SimulatedDisk, path: Path, inode: Inode) -> None:
        self.disk = disk
        self.path = path
        self.inode = inode

    def write(self, data: bytes | memoryview) -> int:
        """Append all of it or, now and then, a part; a full disk takes what it has room for."""
        whole = bytes(data)
        try:
            self.disk.begin("write")
        except OSError as error:
            return self._write_on_failure(whole, error)
        if len(whole) > 1 and self.disk.rng.random() < self.disk.short_writes:
            whole = whole[: self.disk.rng.randint(1, len(whole) - 1)]
        self.inode.write(whole)
        return len(whole)

    def _write_on_failure(self, whole: bytes, error: OSError) -> int:
        """Write a part and tell how much; or leave a part there, or nothing, and fail."""
        fault = self.disk.fault
        if fault is None or error.errno != errno.ENOSPC:
            self.inode.write(whole[: self.disk.rng.choice((0, self.disk.rng.randint(0, len(whole))))])
            raise error
        part = whole[: fault.room_bytes]
        fault.room_bytes -= len(part)
        if not part:
            raise error
        self.inode.write(part)
        return len(part)

    def sync(self) -> None:
        """Make the content durable, or fail and forget what was to be."""
        try:
            self.disk.begin("sync")
        except OSError:
            self.inode.fail_to_sync(self.disk.rng)
            raise
        self.inode.sync()

    def truncate(self, size: int) -> None:
        """Cut off."""
        self.disk.begin("truncate")
        self.inode.truncate(size)

    def is_at(self, path: Path) -> bool:
        """Tell whether this file stands at a path."""
        return self.disk.directories[path.parent].names.get(path.name) is self.inode

    def close(self) -> None:
        """Let go of the lock, where it is one."""
        self.disk.unlock(self)
