"""Starts on a disk that takes nothing: whatever a start must write first, the server serves reads until it can."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from memcache_kv.journal import Fsync
from memcache_kv.journal.manifest import Manifest, Part, increment_name
from memcache_kv.journal.record import Record, line_of, put_key, set_line
from tests.faults.mounts import fill, run, small_disk
from tests.faults.scene import POLICIES, VALUE, Scene, refused_start
from tests.integration.wire import poll_until
from tests.journal.journals import FIRST, STARTED, Run, manifest_in, write_manifest
from tests.journal.test_files import write_base

pytestmark = pytest.mark.long

FULL = "No space left on device"
READ_ONLY = "Read-only file system"
KEYS = [b"key%d" % number for number in range(1, 5)]


@contextmanager
def full(disk: Path) -> Iterator[str]:
    filler = fill(disk)
    yield FULL
    filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[str]:
    run("mount", "-o", "remount,ro", str(disk))
    yield READ_ONLY
    run("mount", "-o", "remount,rw", str(disk))


def store(journal: Run, keys: list[bytes]) -> None:
    for key in keys:
        journal.journal.stored(key, 7, 0, 0, VALUE)
    journal.step()


def in_format_2(path: Path) -> None:
    """A start must begin another file."""
    start = line_of(Record("start", at=STARTED, version=2))
    content = b"".join([start, *(set_line(key, 7, 0, 0, VALUE, 0) for key in KEYS)])
    path.mkdir()
    (path / FIRST).write_bytes(content)
    write_manifest(path, Manifest(2, None, (Part(FIRST, len(start)),)))


def with_a_tail(path: Path) -> None:
    """A start must copy the tail, and cut it off."""
    with closing(Run(path, Fsync.EVERYSEC)) as journal:
        store(journal, KEYS)
    with (path / FIRST).open("ab") as file:
        file.write(line_of(put_key(Record("delete"), KEYS[0]))[:-10])


def with_lost_pages(path: Path) -> None:
    """A start must also set aside the file behind the tail, and remove it from the manifest."""
    journal = Run(path, Fsync.NEVER)
    store(journal, KEYS)
    journal.journal.rotate()
    store(journal, [b"after"])
    journal.crash()
    with (path / FIRST).open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(bytes(10))


def with_an_unnamed_file(path: Path) -> None:
    """A start must make the manifest name the second increment."""
    journal = Run(path, Fsync.NEVER)
    store(journal, KEYS[:2])
    journal.journal.rotate()
    store(journal, KEYS[2:])
    journal.crash()
    assert manifest_in(path).unnamed == 1


def with_leftovers(path: Path) -> None:
    """A start must remove a base that is not complete, and a file that a base has replaced.

    On a full disk it then has room.
    """
    journal = Run(path, Fsync.EVERYSEC)
    replaced = (path / FIRST).read_bytes()
    number = journal.journal.rotate()
    journal.journal.adopt(number, write_base(journal.journal.files, number))
    store(journal, KEYS)
    journal.crash()
    (path / FIRST).write_bytes(replaced)
    (path / "base-000009.jsonl.tmp").write_bytes(b"unfinished")


Fault = Callable[[Path], AbstractContextManager[str]]
LEFT = [in_format_2, with_a_tail, with_lost_pages, with_an_unnamed_file]


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "lock"}


@pytest.mark.parametrize("fsync", POLICIES)
@pytest.mark.parametrize(("leave", "fault"), [*itertools.product(LEFT, [full, read_only]), (with_leftovers, read_only)])
def test_reads_are_served_until_the_disk_takes_writes(
    tmp_path: Path, leave: Callable[[Path], None], fault: Fault, fsync: str
) -> None:
    keys = KEYS[:-1] if leave is with_lost_pages else KEYS
    with small_disk(tmp_path / "disk", "1m") as disk:
        journal = disk / "journal"
        leave(journal)
        before = contents(journal)
        with fault(disk) as reason:
            served = Scene(journal, fsync, dict.fromkeys(keys, VALUE))
            served.expect_refusing(f"can't write the journal in {journal}: {reason}")
            poll_until(lambda: contents(journal) == before, "nothing is left of what was tried")
        try:
            served.until_written_again()
            served.kill_and_restart()
            served.put_some()
            served.close()
            served.restart()
        finally:
            served.close()
        assert len(list(journal.glob(f"{increment_name(2)}.unlisted"))) == (leave is with_lost_pages)


@pytest.mark.parametrize("fault", [full, read_only])
@pytest.mark.parametrize("exists", [False, True])
def test_a_new_journal_is_not_begun(tmp_path: Path, fault: Fault, exists: bool) -> None:
    """There is nothing to serve, and a wrong path is noticed at once."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        if exists:
            (disk / "journal").mkdir()
        with fault(disk) as reason:
            assert refused_start(disk / "journal").endswith(f": {reason}\n")
        with closing(Scene(disk / "journal", "always")) as served:
            served.put_some()
            served.kill_and_restart()
