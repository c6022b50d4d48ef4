"""Generations that a rewrite keeps: which files stay, when they go, and that a server starts without them."""

import errno
import shutil
from pathlib import Path

import pytest

from memcache_kv.errors import JournalCorrupt
from memcache_kv.journal import Fsync, JournalDirectory, Manifest
from memcache_kv.journal.compaction import Compaction
from memcache_kv.journal.manifest import MANIFEST_NAME, Part
from memcache_kv.journal.record import FORMAT_VERSION, Record, line_of
from tests.journal.disk import Disk
from tests.journal.journals import FIRST, START, make_journal, manifest_in, names_in, write_manifest
from tests.journal.tools.generations import Served, three_generations

NEXT = "increment-000002.jsonl"


def served(path: Path, keep: int = 2, fsync: Fsync = Fsync.NEVER) -> Served:
    """Serve with two kept generations, or as many as are kept."""
    found = Served(path, keep, fsync)
    for seconds, key in enumerate("abc"):
        found.at(seconds, key * 100).rewrite()
    return found


def names_of(manifest: Manifest) -> set[str]:
    return {MANIFEST_NAME, *(part.name for part in manifest.all_parts)}


@pytest.mark.parametrize("fsync", list(Fsync))
def test_what_is_kept_is_on_disk_before_a_manifest_says_so(tmp_path: Path, disk: Disk, fsync: Fsync) -> None:
    with served(tmp_path, fsync=fsync) as one:
        kept = manifest_in(tmp_path).kept
        assert len(kept) == 2
        for part in [part for generation in kept for part in generation.parts]:
            assert disk.durable[part.name] >= part.bytes
        assert one.journal.files.kept == kept
    assert names_in(tmp_path) == names_of(manifest_in(tmp_path))


def test_an_old_generation_is_removed_once_no_manifest_on_disk_names_it(tmp_path: Path, disk: Disk) -> None:
    with served(tmp_path, keep=1) as one:
        oldest = manifest_in(tmp_path).kept[0]
        before = len(disk.operations)
        one.rewrite()
        operations = disk.operations[before:]
        replaced = operations.index(("rename", f"{MANIFEST_NAME}.tmp"))
        assert ("sync_directory", tmp_path.name) in operations[replaced:]
        for part in oldest.parts:
            assert operations.index(("remove", part.name)) > operations.index(
                ("sync_directory", tmp_path.name), replaced
            )
    assert names_in(tmp_path) == names_of(manifest_in(tmp_path))


# Too little room


def missing_room(one: Served, disk: Disk, missing: int) -> None:
    """Let so many bytes be missing for a rewrite."""
    disk.free = max(0, one.journal.files.total_bytes - missing)


def test_the_oldest_generation_makes_room_for_a_rewrite_and_the_log_says_so(tmp_path: Path, disk: Disk) -> None:
    with served(tmp_path) as one:
        oldest, newer = one.journal.files.kept
        missing_room(one, disk, 1)
        work = Compaction(one.journal, one.store)
        next(work.steps())
        work.discard()
        assert one.journal.files.kept == (newer,)
        assert not names_in(tmp_path) & {part.name for part in oldest.parts}
        [line] = one.said
        assert f"removed the generation {oldest.parts[0].name}" in line
        assert "the disk is too small" in line
    assert names_in(tmp_path) == names_of(manifest_in(tmp_path))


def test_all_go_if_all_are_needed(tmp_path: Path, disk: Disk) -> None:
    with served(tmp_path) as one:
        missing_room(one, disk, one.journal.files.kept[0].bytes + 1)
        one.rewrite()
        assert len(one.said) == 2
        assert len(one.journal.files.kept) == 1  # what this rewrite has replaced


def test_none_goes_if_that_makes_not_enough_room(tmp_path: Path, disk: Disk) -> None:
    with served(tmp_path) as one:
        kept = one.journal.files.kept
        one.at(9, *(f"{number}" * 50 for number in range(50)))
        missing_room(one, disk, one.journal.files.kept_bytes + 1)
        with pytest.raises(OSError, match="not enough room for a new base") as refused:
            one.rewrite()
        assert refused.value.errno == errno.ENOSPC
        assert (one.journal.files.kept, one.said) == (kept, [])


@pytest.mark.parametrize("operation", range(8))
def test_whatever_fails_while_one_is_dropped_nothing_else_is_lost(tmp_path: Path, disk: Disk, operation: int) -> None:
    with served(tmp_path) as one:
        disk.fails_in = operation
        try:
            one.journal.files.drop_oldest()
        except OSError:
            disk.fails_in = None
        disk.fails_in = None
        manifest = manifest_in(tmp_path)
        assert names_of(manifest) <= names_in(tmp_path)
        one.rewrite()
        assert names_in(tmp_path) == names_of(manifest_in(tmp_path))


# Without their files


def test_a_generation_whose_file_is_gone_is_not_kept_and_the_log_says_so(tmp_path: Path) -> None:
    with served(tmp_path) as one:
        (tmp_path / "base-000004.jsonl").unlink()
        one.rewrite()
        assert one.journal.files.kept == ()
        assert [line for line in one.said if "is not kept: a file was missing or replaced" in line]
    assert names_in(tmp_path) == names_of(manifest_in(tmp_path))


@pytest.mark.parametrize("cut", [None, 10])
def test_a_server_starts_without_a_file_of_a_kept_generation_and_says_so(tmp_path: Path, cut: int | None) -> None:
    path = three_generations(tmp_path / "journal")
    content = (path / FIRST).read_bytes()
    (path / FIRST).unlink()
    if cut is not None:
        (path / FIRST).write_bytes(content[:-cut])
    directory = JournalDirectory(path)
    directory.open()
    [line] = directory.notes()
    directory.close()
    assert f"{path / FIRST} {'is missing' if cut is None else 'has'}" in line
    assert "the server does without it" in line


# What is newer than the manifest

ID = "5f1c09d2a86be374"


def begun(serial: int = 0, journal_id: str = ID) -> bytes:
    """The first record of a file that was begun under a manifest, and another one."""
    start = Record("start", at=1_700_000_000, version=FORMAT_VERSION, serial=serial)
    start.id = journal_id
    return line_of(start) + line_of(Record("flush"))


@pytest.mark.parametrize(
    ("serial", "journal_id", "is_refused"), [(7, ID, False), (8, ID, True), (8, "another", False), (0, ID, False)]
)
def test_only_a_file_that_was_begun_under_a_later_manifest_of_this_journal_is_newer(
    tmp_path: Path, serial: int, journal_id: str, is_refused: bool
) -> None:
    make_journal(tmp_path, START)
    write_manifest(tmp_path, Manifest(FORMAT_VERSION, None, (Part(FIRST),), ID, 7))
    (tmp_path / NEXT).write_bytes(begun(serial, journal_id))
    before = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    directory = JournalDirectory(tmp_path)
    if is_refused:
        with pytest.raises(JournalCorrupt, match=rf"manifest\.json is older than {NEXT}: "):
            directory.open()
        assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == before
    else:
        directory.open()
        assert directory.set_aside == [f"{NEXT}.unlisted"]
    directory.close()


def test_a_rewrite_is_stated_once_its_manifest_is_on_disk(tmp_path: Path) -> None:
    """So that a copy of before it is seen to be older, though all files of after it were begun before it ended."""
    with Served(tmp_path / "journal", keep=0) as one:
        one.at(0, "a")
        copy = (tmp_path / "journal" / MANIFEST_NAME).read_bytes()
        first = (tmp_path / "journal" / FIRST).read_bytes()
        one.at(1, "b").rewrite()
    crashed = Path(shutil.copytree(tmp_path / "journal", tmp_path / "copy"))
    (crashed / MANIFEST_NAME).write_bytes(copy)
    (crashed / FIRST).write_bytes(first)
    directory = JournalDirectory(crashed)
    with pytest.raises(JournalCorrupt, match=f"base-000002.jsonl, {NEXT}"):
        directory.open()
    directory.close()
