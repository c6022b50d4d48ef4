"""Journals to try the tools on, and the tools as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memcache_kv.cli import main
from memcache_kv.clock import Clock
from memcache_kv.journal import Fsync, Journal, JournalDirectory, recover
from memcache_kv.journal.compaction import Compaction
from memcache_kv.journal.manifest import read_manifest
from memcache_kv.journal.tools.division import UNLIMITED_BYTES
from memcache_kv.store import ItemStore
from memcache_kv.store.entry import flags_of, value_of, wire_bytes_of

STARTED = 1_700_000_000
Writes = Callable[[Journal], None]
Run = Callable[..., "Said"]


class Said(NamedTuple):
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert len(self.out.splitlines()) == 1
        return json.loads(self.out)


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Said:
        capsys.readouterr()
        status = main(["journal", *map(str, arguments)])
        return Said(status, *capsys.readouterr())

    return run


def new_store() -> ItemStore:
    """A store without a memory limit, for a journal of any size."""
    return ItemStore(Clock(), limit_bytes=UNLIMITED_BYTES)


def write_journal(path: Path, *runs: Writes, now: int = STARTED) -> Path:
    """Write a journal as a server does in some runs, a second apart."""
    for number, run in enumerate(runs):
        with closing(JournalDirectory(path)) as directory:
            manifest = directory.open()
            last_cas = 0
            if manifest is not None:
                last_cas = recover(path, directory.disk, manifest, new_store()).next_run()
            journal = Journal(directory, Fsync.NEVER, manifest, last_cas, now=now + number)
            run(journal)
            journal.close()
    return path


def sets(*keys: str, value: bytes = b"value of ") -> Writes:
    """A run that stores these keys."""

    def run(journal: Journal) -> None:
        for key in keys:
            journal.stored(key.encode(), 0, 0, 0, value + key.encode())

    return run


def several_files(path: Path) -> Path:
    """A journal of a base, a closed increment and one that is appended to: keys a to i."""
    write_journal(path, sets("a", "b", "c"))
    with closing(JournalDirectory(path)) as directory:
        manifest = directory.open()
        assert manifest is not None
        store = new_store()
        last_cas = recover(path, directory.disk, manifest, store).next_run()
        journal = Journal(directory, Fsync.NEVER, manifest, last_cas)
        store.log = journal
        for _ in Compaction(journal, store).steps():
            pass
        sets("d", "e", "f")(journal)
        journal.rotate()
        sets("g", "h", "i")(journal)
        journal.close()
    names = [part.name for part in read_manifest(path, directory.disk).parts]  # type: ignore[union-attr]
    assert names == ["base-000002.jsonl", "increment-000002.jsonl", "increment-000003.jsonl"]
    return path


def opened(path: Path) -> ItemStore:
    """What a server has of a journal after its start."""
    with closing(JournalDirectory(path)) as directory:
        manifest = directory.open()
        assert manifest is not None
        store = new_store()
        recover(path, directory.disk, manifest, store)
    return store


def contents(path: Path) -> dict[bytes, tuple[int, bytes]]:
    """Flags and value of each key that a server has after its start."""
    return {
        key: (flags_of(wire_bytes_of(entry)), value_of(wire_bytes_of(entry))) for key, entry in opened(path).items()
    }


def keys(path: Path) -> str:
    """The keys that a server has after its start, in order."""
    return " ".join(sorted(key.decode() for key in contents(path)))


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Damage one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def middle_of(path: Path, text: str) -> int:
    """Where a text stands in a file."""
    return path.read_bytes().index(text.encode()) + len(text) // 2


def tree(path: Path) -> dict[str, bytes]:
    """Every file under a directory, with its content."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
