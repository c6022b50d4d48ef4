"""What a power loss may leave of files, made from the system calls of the process that wrote them.

What was synced is there. Of what was written later, any 4 KiB pages are there, up to any length, with zeros between
them. Of names that were created, renamed and removed since their directory was last synced, some are there: see Names.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.crash.traced_server import CHANGES, SENT, Call

PAGE_BYTES = 4096
DESCRIPTOR = re.compile(rb"^(\d+)<([^>]*)>")


class Names(enum.Enum):
    """Which changes of names may be missing."""

    EXT4 = "as on ext4"
    """The last ones. An fsync of any file makes all earlier changes of names durable."""
    IN_ORDER = "in order"
    """The last ones. Only an fsync of the directory makes them durable."""
    ANY = "in any order"
    """Any. Only an fsync of the directory makes them durable."""


@dataclass
class Change:
    """A write at the end of a file, or a truncation to a length."""

    call: Call
    data: bytes = b""
    length: int | None = None

    def apply_to(self, content: bytearray) -> None:
        """Carry it out."""
        if self.length is None:
            content += self.data
        else:
            del content[self.length :]


@dataclass(eq=False)
class WrittenFile:
    """A file, whatever its names are."""

    changes: list[Change] = field(default_factory=list)
    syncs: list[Call] = field(default_factory=list)

    def sure_changes(self, at: int) -> int:
        """Return how many of its changes are durable at a line of the trace."""
        synced = last_entered(self.syncs, at)
        return sum(change.call.left < synced for change in self.changes)

    def content(self, count: int | None = None) -> bytearray:
        """Return the content after the first changes, or after all."""
        content = bytearray()
        for change in self.changes[:count]:
            change.apply_to(content)
        return content

    def left_by(self, at: int, rng: Random) -> bytes:
        """Return what a power loss at a line of the trace may leave."""
        sure = self.sure_changes(at)
        begun = sum(change.call.entered < at for change in self.changes)
        if any(change.length is not None for change in self.changes[sure:begun]):
            return bytes(self.content(rng.randint(sure, begun)))
        return some_pages(bytes(self.content(sure)), bytes(self.content(begun)), rng)


def last_entered(syncs: Iterable[Call], at: int) -> float:
    """Return the line at which the last of the fsyncs began that had returned by a line; -1 if there is none."""
    return max((call.entered for call in syncs if call.left < at and call.result == 0), default=-math.inf)


def some_pages(durable: bytes, latest: bytes, rng: Random) -> bytes:
    """Extend a durable content by some pages of the latest one, up to some length, as they were at some time."""
    length = rng.choice((len(durable), len(latest), rng.randint(len(durable), len(latest))))
    found = bytearray(durable.ljust(length, b"\0"))
    share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    for page in range(len(durable) // PAGE_BYTES * PAGE_BYTES, length, PAGE_BYTES):
        if rng.random() < share:
            start, end = max(page, len(durable)), min(page + PAGE_BYTES, length)
            if rng.random() < 0.3:
                end = rng.randint(start, end)  # it was written back before the last writes to it
            found[start:end] = latest[start:end]
    return bytes(found)


@dataclass
class NameChange:
    """A change of the directory's names: a file loses one, gets one, or both."""

    call: Call
    file: WrittenFile
    old: str = ""
    new: str = ""

    def apply_to(self, names: dict[str, WrittenFile]) -> None:
        """Carry it out."""
        if names.get(self.old) is self.file:
            del names[self.old]
        if self.new:
            names[self.new] = self.file


class Platter:
    """A directory's files as calls have changed them. It existed, empty, before the first call."""

    def __init__(self, directory: Path) -> None:
        self.files: list[WrittenFile] = []
        self.name_changes: list[NameChange] = []
        self.lines: list[int] = []
        """The lines at which a call began or ended that changed or synced something."""
        self._directory = bytes(directory)
        self._directory_syncs: list[Call] = []
        self._names: dict[str, WrittenFile] = {}

    def follow(self, calls: Iterable[Call]) -> None:
        """Take in the calls of one process."""
        for call in calls:
            if self._directory not in call.arguments or call.name in SENT.split(","):
                continue
            assert call.name in CHANGES.split(","), f"not modelled: {call}"
            if call.result >= 0 or call.left == math.inf:
                getattr(self, f"_{call.name}")(call)

    def _count(self, call: Call) -> None:
        self.lines += [call.entered, int(call.left) if call.left < math.inf else call.entered]

    def _openat(self, call: Call) -> None:
        path = Path(call.strings()[-1].decode())
        if bytes(path.parent) != self._directory:
            return
        file = self._names.get(path.name)
        if file is None:
            assert b"O_CREAT" in call.arguments, call
            assert b"O_TRUNC" not in call.arguments, call
            file = WrittenFile()
            self.files.append(file)
            self._rename_to(NameChange(call, file, new=path.name))

    def _rename_to(self, change: NameChange) -> None:
        self._count(change.call)
        change.apply_to(self._names)
        self.name_changes.append(change)

    def _rename(self, call: Call) -> None:
        old, new = (Path(name.decode()).name for name in call.strings())
        self._rename_to(NameChange(call, self._names[old], old, new))

    def _unlink(self, call: Call) -> None:
        name = Path(call.strings()[0].decode()).name
        self._rename_to(NameChange(call, self._names[name], name))

    def _write(self, call: Call) -> None:
        if file := self._file_of(call):
            self._count(call)
            data = call.strings()[-1]
            file.changes.append(Change(call, data if call.left == math.inf else data[: call.result]))

    def _ftruncate(self, call: Call) -> None:
        if file := self._file_of(call):
            self._count(call)
            file.changes.append(Change(call, length=int(call.arguments.rpartition(b", ")[2])))

    def _fsync(self, call: Call) -> None:
        match = DESCRIPTOR.match(call.arguments)
        if match and match[2] == self._directory:
            self._count(call)
            self._directory_syncs.append(call)
        elif file := self._file_of(call):
            self._count(call)
            file.syncs.append(call)

    _fdatasync = _fsync

    def _file_of(self, call: Call) -> WrittenFile | None:
        """Return the file that a call is about, by its name when the call was entered; None if it has been removed."""
        match = DESCRIPTOR.match(call.arguments)
        path = Path(match[2].decode()) if match else Path()
        return self._names.get(path.name) if bytes(path.parent) == self._directory else None

    def are_names_durable(self, change: NameChange, at: int, names: Names) -> bool:
        """Tell whether a change of names is durable at a line of the trace."""
        return change.call.left < self._names_synced(at, names)

    def _names_synced(self, at: int, names: Names) -> float:
        synced = last_entered(self._directory_syncs, at)
        if names is Names.EXT4:
            synced = max([synced, *(last_entered(file.syncs, at) for file in self.files)])
        return synced

    def left_by(self, at: int, names: Names, rng: Random) -> dict[str, bytes]:
        """Return the names and contents that a power loss at a line of the trace may leave."""
        synced = self._names_synced(at, names)
        begun = [change for change in self.name_changes if change.call.entered < at]
        pending = [change for change in begun if change.call.left >= synced]
        if names is Names.ANY and rng.random() < 0.8:
            share = rng.random()
            kept = [change for change in pending if rng.random() < share]
        else:
            kept = pending[: rng.randint(0, len(pending))]
        found: dict[str, WrittenFile] = {}
        for change in begun:
            if change.call.left < synced or any(change is each for each in kept):
                change.apply_to(found)
        contents = {id(file): file.left_by(at, rng) for file in found.values()}
        return {name: contents[id(file)] for name, file in found.items()}
