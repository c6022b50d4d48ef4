"""One JSON object a line for each item that lives: a copy of the data that any program can read."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from memcache_kv.clock import Clock
from memcache_kv.errors import JournalError
from memcache_kv.journal.recovery import Progress, Recovered, Replay
from memcache_kv.journal.tools.snapshot import Snapshot, read_records, take_snapshot
from memcache_kv.store.entry import STALE, WON, Entry, cas_of, deadline_of, flags_of, state_of, value_of, wire_bytes_of
from memcache_kv.store.store import Store

UNLIMITED_BYTES = 1 << 60
DELETE = b"\x7f"
CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]")
"""The control characters that JSON does not escape."""


class ExportedItem(msgspec.Struct, omit_defaults=True, gc=False):
    """An item as a line of an export has it; what is 0 or false is left out.

    key64 and value64: in base64, where key and value are no valid UTF-8; exp: the unix time of expiry, 0 for never;
    cas: its CAS id, where a client has asked for it.
    """

    key: str | None = None
    key64: bytes | None = None
    value: str | None = None
    value64: bytes | None = None
    flags: int = 0
    exp: int = 0
    cas: int = 0
    stale: bool = False
    won: bool = False

    def key_bytes(self) -> bytes:
        """Return the key as the protocol has it."""
        return self.key.encode() if self.key is not None else self.key64 or b""

    def value_bytes(self) -> bytes:
        """Return the value as the protocol has it."""
        return self.value.encode() if self.value is not None else self.value64 or b""


_encode = msgspec.json.Encoder().encode


def new_store() -> Store:
    """Make a store that takes whatever a journal holds."""
    return Store(Clock(), limit_bytes=UNLIMITED_BYTES)


def replay_into(store: Store, snapshot: Snapshot, progress: Progress | None = None) -> Recovered:
    """Put into a store what a journal holds. Raises JournalCorrupt."""
    replay = Replay(store)
    for _, records in read_records(snapshot, progress):
        replay.apply(records)
    replay.finish()
    store.new_second()  # a flush that waited may be due, as at a server's start
    return replay.found


def load_store(directory: Path, progress: Progress | None = None) -> Store:
    """Read a journal that a server may be writing, as it is at one moment. Raises JournalError."""
    store = new_store()
    with take_snapshot(directory) as snapshot:
        replay_into(store, snapshot, progress)
    return store


def export_lines(store: Store) -> Iterator[bytes]:
    """Give a line for each item that lives. What a terminal would obey is escaped."""
    for key, entry in store.items():
        line = _encode(_exported(key, entry))
        yield (CONTROLS.sub(_escaped, line) if not line.isascii() or DELETE in line else line) + b"\n"


def _escaped(control: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(control[0].decode())


def _exported(key: bytes, entry: Entry) -> ExportedItem:
    wire_bytes = wire_bytes_of(entry)
    state = state_of(entry)
    item = ExportedItem(
        flags=flags_of(wire_bytes),
        exp=deadline_of(entry),
        cas=cas_of(entry),
        stale=bool(state & STALE),
        won=bool(state & WON),
    )
    try:
        item.key = key.decode()
    except UnicodeDecodeError:
        item.key64 = key
    value = value_of(wire_bytes)
    try:
        item.value = value.decode()
    except UnicodeDecodeError:
        item.value64 = value
    return item


# Where it is written to


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """Open what an export is written to.

    A regular file is there, or replaced, once all of it is on disk; where the path is a symbolic link, that stays, and
    what it points to is replaced. Anything else, as a pipe or a device, is written to. Raises JournalError.
    """
    try:
        old = _status(path)
        if old is not None and not stat.S_ISREG(old.st_mode):
            with open(os.open(path, os.O_WRONLY | os.O_CLOEXEC), "wb") as file:
                yield file
        else:
            with _replaced(Path(os.path.realpath(path)), old) as file:
                yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise JournalError(f"can't write {path}: {error.strerror or error}") from None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _replaced(path: Path, old: os.stat_result | None) -> Iterator[BinaryIO]:
    """Open a file for its owner alone that takes a path, and an old one's owner and mode, once it is complete."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            yield file
            if old is not None:
                _take_over(fd, old)
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _take_over(fd: int, old: os.stat_result) -> None:
    """Give a file the owner and the mode of another; where it can't have the one, it stays private."""
    try:
        os.fchown(fd, old.st_uid, old.st_gid)
    except PermissionError:
        return
    os.fchmod(fd, stat.S_IMODE(old.st_mode) & 0o777)
