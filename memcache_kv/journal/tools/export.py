"""Exporting all live items, one JSON object per line, for any program to read."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from memcache_kv.errors import JournalError
from memcache_kv.store.entry import STALE, WON, Entry, cas_of, deadline_of, flags_of, state_of, value_of, wire_bytes_of

DELETE = b"\x7f"
CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]")
"""The control characters that JSON leaves unescaped."""


class ExportedItem(msgspec.Struct, omit_defaults=True, gc=False):
    """An item as a line of an export. Fields that are 0 or false are left out.

    key64, value64: in base64, if the key or value is not valid UTF-8. exp: unix time of expiry, 0 for never. cas: the
    item's CAS id, if a client has asked for it.
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
        """Return the key as bytes."""
        return self.key.encode() if self.key is not None else self.key64 or b""

    def value_bytes(self) -> bytes:
        """Return the value as bytes."""
        return self.value.encode() if self.value is not None else self.value64 or b""


_encode = msgspec.json.Encoder().encode


def export_lines(items: Iterable[tuple[bytes, Entry]]) -> Iterator[bytes]:
    """Yield a line for each live item. Control characters that could affect a terminal are escaped."""
    for key, entry in items:
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


# The output file


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """Open the file that an export is written to.

    A regular file is created or replaced when all of it is on disk. If the path is a symbolic link, the link stays and
    its target is replaced. A pipe or a device is written to directly. Raises JournalError.
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
    """Open a private file that replaces `path` once it is complete, with the owner and mode of the old file."""
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
    """Give a file the owner and mode of another. If the owner can't be set, the file stays private."""
    try:
        os.fchown(fd, old.st_uid, old.st_gid)
    except PermissionError:
        return
    os.fchmod(fd, stat.S_IMODE(old.st_mode) & 0o777)
