"""Journals as tests open, write and read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from memcache_kv.journal import Fsync, Journal, JournalDirectory, Manifest
from memcache_kv.journal.codec import rechained
from memcache_kv.journal.disk import Disk, SystemDisk
from memcache_kv.journal.manifest import Part, increment_name, read_manifest, replace_manifest
from memcache_kv.journal.record import (
    CHAINED_VERSION,
    FORMAT_VERSION,
    UNCHAINED,
    Record,
    check_line,
    decode_line,
    line_of,
)
from memcache_kv.journal.writer import FILE_CHECK_SECONDS
from memcache_kv.threads import OnFault

STARTED = 1_700_000_000
FIRST = increment_name(1)
START = line_of(Record("start", at=STARTED, version=FORMAT_VERSION))


def chained(*lines: bytes) -> bytes:
    """Give lines the checksums that they have in this order from the beginning of a file on."""
    return rechained(b"".join(lines), 0)[0]


class Ticks:
    """A clock for a journal that is stepped: it moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Run:
    """A journal that is opened, stepped by hand or (`start`) by its thread; `said` is what it told of."""

    def __init__(
        self,
        path: Path,
        fsync: Fsync = Fsync.ALWAYS,
        disk: Disk | None = None,
        last_cas: int = 0,
        on_fault: OnFault = lambda name, error: None,
    ) -> None:
        self.path = path
        self.said: list[str] = []
        self.ticks = Ticks()
        self._is_closed = self._is_gone = False
        self.directory = JournalDirectory(path, disk)
        try:
            manifest = self.directory.open()
            self.journal = Journal(
                self.directory, fsync, manifest, last_cas, self.said.append, on_fault, self.ticks, STARTED
            )
        except BaseException:
            self.directory.close()
            raise

    def store(self, *keys: bytes) -> None:
        """Queue a value for each of these."""
        for key in keys:
            self.journal.stored(key, 0, 0, 0, b"value")

    def step(self, seconds: float = 0.0) -> None:
        """Do what is due when so much time has passed."""
        self.ticks.now += seconds
        self.journal.step()

    def look(self) -> None:
        """Do what is due when it is time to look after the files again."""
        self.step(FILE_CHECK_SECONDS)

    def close(self) -> None:
        """End it. Raises JournalFailed."""
        self._is_closed = True
        try:
            self.journal.close()
        finally:
            self.crash()

    def crash(self) -> None:
        """Let go of the directory with nothing more written, as if the process were gone."""
        if not self._is_closed:
            self.journal.files.file.close()
        if not self._is_gone:
            self.directory.close()
        self._is_closed = self._is_gone = True


@contextmanager
def serving_journal(path: Path, fsync: Fsync, last_cas: int = 0) -> Iterator[Journal]:
    """Open a journal with its thread, by the real clock."""
    with closing(JournalDirectory(path)) as directory:
        journal = Journal(directory, fsync, directory.open(), last_cas)
        journal.start()
        with closing(journal):
            yield journal


def manifest_in(path: Path) -> Manifest:
    """Return a directory's manifest."""
    found = read_manifest(path, SystemDisk())
    assert found is not None
    return found


def records_in(path: Path) -> list[Record]:
    """Return all records of a journal in order."""
    manifest = manifest_in(path)
    found: list[Record] = []
    for part in manifest.parts:
        content = (path / part.name).read_bytes()
        if part is not manifest.increments[-1]:
            content = content[: part.bytes]
        found += records_of(content)
    return found


def records_of(content: bytes) -> list[Record]:
    """Return the records of a file, whose checksums must fit."""
    before, found = 0, []
    for line in content.splitlines():
        checksum = check_line(line, before)
        found.append(decode_line(line))
        if len(found) == 1 and found[0].version < CHAINED_VERSION:
            before = UNCHAINED
        before = before if before == UNCHAINED else checksum
    return found


def keys_in(path: Path) -> list[bytes]:
    """Return the keys of all `set` records of a journal in order."""
    return [record.key_bytes() for record in records_in(path) if record.op == "set"]


def names_in(path: Path) -> set[str]:
    """List a journal's directory, but for the lock."""
    return {file.name for file in path.iterdir()} - {"lock"}


def make_journal(path: Path, content: bytes, known: int = 0, name: str = FIRST) -> Path:
    """Make a journal of one increment that is known to have so many bytes; return that file."""
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(as_chained(content))
    write_manifest(path, Manifest(FORMAT_VERSION, None, (Part(name, known),)))
    return path / name


def as_chained(content: bytes) -> bytes:
    """Chain the lines that a file begins with, and leave what follows them as it is."""
    whole, feed, rest = content.rpartition(b"\n")
    try:
        return chained(whole + feed) + rest
    except ValueError:
        return content


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Put a manifest into a directory."""
    replace_manifest(path, SystemDisk(), manifest)
