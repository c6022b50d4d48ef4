"""Damage behind what is known to have been on disk is cut off; damage before it is refused."""

import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from memcache_kv.cli import main
from memcache_kv.errors import JournalCorrupt
from memcache_kv.journal import Fsync, JournalDirectory, Recovered, recover
from memcache_kv.journal.codec import rechained
from memcache_kv.journal.disk import Readable, SystemDisk
from memcache_kv.journal.manifest import Part, increment_name
from memcache_kv.journal.record import Record, last_crc, line_of, parse_line
from memcache_kv.journal.tools.verify import verify
from memcache_kv.store import ItemStore
from tests.fake_clock import FakeClock
from tests.journal.journals import (
    FIRST,
    STARTED,
    Run,
    chained,
    make_journal,
    manifest_in,
    names_in,
    records_in,
    write_manifest,
)
from tests.journal.tools.journals import keys, sets, several_files, write_journal

HOLE = 8
"""How many bytes of a record are zeros."""


def read(path: Path) -> tuple[set[bytes], Recovered]:
    """Read a journal as a server does that starts: its keys, and what was found."""
    store = ItemStore(FakeClock(STARTED), shards=1)
    directory = JournalDirectory(path)
    try:
        manifest = directory.open()
        assert manifest is not None
        found = recover(path, directory.disk, manifest, store)
    finally:
        directory.close()
    return {key for key, _ in store.items()}, found


def written(path: Path, fsync: Fsync, *keys: bytes) -> Run:
    """Write keys, each in a batch of its own, and let the process be gone."""
    run = Run(path, fsync)
    for key in keys:
        run.store(key)
        run.step()
    run.crash()
    return run


def lines_of(path: Path, name: str = FIRST) -> list[bytes]:
    return (path / name).read_bytes().splitlines(keepends=True)


def offset_of(path: Path, key: bytes, name: str = FIRST) -> int:
    return (path / name).read_bytes().index(b'"key":"%b"' % key)


def make_hole(path: Path, key: bytes, name: str = FIRST) -> bytes:
    """Put zeros into a key's record. Return the file's content before."""
    content = (path / name).read_bytes()
    at = offset_of(path, key, name)
    (path / name).write_bytes(content[:at] + bytes(HOLE) + content[at + HOLE :])
    return content


def test_a_hole_in_what_was_not_synced_is_cut_off_with_all_behind_it(tmp_path: Path) -> None:
    written(tmp_path, Fsync.NEVER, b"a", b"b", b"c", b"d")
    content = make_hole(tmp_path, b"b")
    start = content.rindex(b"\n", 0, offset_of(tmp_path, b"a")) + 1
    end = content.index(b"\n", start) + 1
    assert verify(tmp_path).is_sound
    damaged = (tmp_path / FIRST).read_bytes()
    keys, found = read(tmp_path)
    assert keys == {b"a"}
    assert found.tail is not None
    assert (found.tail.offset, found.torn_bytes) == (end, len(content) - end)
    assert found.torn_copy is not None
    assert found.torn_copy.read_bytes() == damaged[end:]
    words = found.tail.in_words()
    assert f"cut off {len(content) - end:,} bytes, about 3 records" in words
    assert str(found.torn_copy) in words
    assert read(tmp_path)[1].tail is None


def test_a_hole_in_what_the_manifest_knows_to_be_on_disk_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, Fsync.NEVER)
    run.store(b"a", b"b", b"c")
    run.close()
    make_hole(tmp_path, b"b")
    refused(tmp_path)


def refused(path: Path) -> None:
    """See that a start is refused, with the offset and what to do, and that verify says the same."""
    before = {name: (path / name).read_bytes() for name in names_in(path)}
    with pytest.raises(JournalCorrupt, match=r"damaged at offset \d+: .*journal repair"):
        read(path)
    assert {name: (path / name).read_bytes() for name in names_in(path)} == before
    assert not verify(path).is_sound


def test_a_hole_before_a_record_that_says_it_was_on_disk_is_refused(tmp_path: Path) -> None:
    """Under always each batch says what was on disk before it."""
    written(tmp_path, Fsync.ALWAYS, b"a", b"b", b"c")
    claims = [record.synced for record in records_in(tmp_path) if record.op == "time"]
    assert len(claims) == 2
    assert claims == sorted(set(claims))
    make_hole(tmp_path, b"b")
    refused(tmp_path)


def test_a_hole_in_the_last_batch_of_always_is_cut_off(tmp_path: Path) -> None:
    written(tmp_path, Fsync.ALWAYS, b"a", b"b", b"c")
    make_hole(tmp_path, b"c")
    assert read(tmp_path)[0] == {b"a", b"b"}


def test_what_a_record_claims_counts_only_if_it_continues_its_neighbour(tmp_path: Path) -> None:
    claim = line_of(Record("time", synced=1 << 40))
    lines = chained(line_of(Record("start", version=3)), *[line_of(Record("delete", key=key)) for key in "abc"])
    make_journal(tmp_path, lines)
    make_hole(tmp_path, b"b")
    with (tmp_path / FIRST).open("ab") as file:
        file.write(claim)
    assert read(tmp_path)[1].tail is not None
    make_journal(tmp_path, lines)
    make_hole(tmp_path, b"b")
    with (tmp_path / FIRST).open("ab") as file:
        file.write(rechained(claim, last_crc(lines))[0])
    refused(tmp_path)


def leave_tail_and_later_increment(path: Path) -> None:
    """Leave what a power loss may: of a, b and c, b is lost, and c is in the next increment."""
    run = Run(path, Fsync.NEVER)
    run.store(b"a", b"b")
    run.step()
    run.journal.rotate()
    run.store(b"c")
    run.step()
    run.crash()
    make_hole(path, b"b")


def test_increments_behind_a_tail_are_set_aside(tmp_path: Path) -> None:
    leave_tail_and_later_increment(tmp_path)
    assert verify(tmp_path).is_sound
    keys, found = read(tmp_path)
    assert keys == {b"a"}
    assert found.manifest is not None
    assert [part.name for part in found.manifest.parts] == [FIRST]
    assert f"{increment_name(2)}.unlisted" in names_in(tmp_path)
    assert found.tail is not None
    assert f"set aside {increment_name(2)}.unlisted" in found.tail.in_words()
    goes_on(tmp_path, found, {b"a"})


def goes_on(path: Path, found: Recovered, keys: set[bytes]) -> None:
    """See that a journal is written on behind what was kept."""
    assert found.manifest == manifest_in(path)
    run = Run(path, Fsync.ALWAYS)
    run.store(b"new")
    run.close()
    assert read(path)[0] == keys | {b"new"}
    assert verify(path).is_sound


@pytest.mark.parametrize("left", [b"", b'{"crc', b"so much of a long value"])
def test_an_increment_whose_first_page_was_lost_is_set_aside(tmp_path: Path, left: bytes) -> None:
    run = Run(tmp_path, Fsync.NEVER)
    run.store(b"a")
    run.step()
    run.journal.rotate()
    run.store(b"b")
    run.close()
    known = manifest_in(tmp_path)
    write_manifest(tmp_path, replace(known, increments=(known.increments[0], Part(increment_name(2), 0))))
    (tmp_path / increment_name(2)).write_bytes(bytes(4096) + left)
    assert verify(tmp_path).is_sound
    assert read(tmp_path)[0] == {b"a"}
    assert f"{increment_name(2)}.unlisted" in names_in(tmp_path)
    run = Run(tmp_path, Fsync.ALWAYS)  # as if the first start had been killed at once
    run.store(b"new")
    run.close()
    assert read(tmp_path)[0] == {b"a", b"new"}


def test_an_increment_that_was_not_named_yet_and_does_not_continue_the_one_before_is_set_aside(tmp_path: Path) -> None:
    run = Run(tmp_path, Fsync.NEVER)
    run.store(b"a")
    run.step()
    run.journal.rotate()
    run.store(b"b")
    run.crash()
    content = (tmp_path / increment_name(2)).read_bytes()
    start = parse_line(content.partition(b"\n")[0])
    (tmp_path / increment_name(2)).write_bytes(
        chained(line_of(replace(start, follows="01234567")), line_of(Record("delete", key="a")))
    )
    keys, found = read(tmp_path)
    assert keys == {b"a"}
    assert increment_name(2) not in names_in(tmp_path)
    assert verify(tmp_path).is_sound
    goes_on(tmp_path, found, {b"a"})


@pytest.mark.parametrize("tail", [bytes(40 << 20), bytes(20 << 20) + b"\n" + bytes(20 << 20)])
def test_a_long_tail_of_zeros_is_neither_read_into_memory_nor_copied(tmp_path: Path, tail: bytes) -> None:
    written(tmp_path, Fsync.NEVER, b"a")
    with (tmp_path / FIRST).open("ab") as file:
        file.write(tail)
    size = len(tail)
    has_data = any(tail)
    del tail
    tracemalloc.start()
    keys, found = read(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert keys == {b"a"}
    assert found.torn_bytes == size
    assert found.torn_copy is not None
    assert found.torn_copy.stat().st_size < 5 << 20
    assert found.tail is not None
    wanted = "bytes, all zero, in" if has_data else f"cut off {size:,} bytes behind the last record, all zero, as"
    assert wanted in found.tail.in_words()
    assert peak < 16 << 20


# What was tampered with, where everything is known to have been on disk


def removed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], *lines[3:]]


def repeated(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[2], *lines[3:]]


def reordered(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


def of_another_journal(lines: list[bytes]) -> list[bytes]:
    foreign = chained(line_of(Record("start", version=3, id="other")), line_of(Record("delete", key="a")))
    return [*lines[:2], foreign.splitlines(keepends=True)[1], *lines[2:]]


@pytest.mark.parametrize("change", [removed, repeated, reordered, of_another_journal])
def test_lines_that_are_not_those_that_were_written_are_refused_and_found_at_their_place(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    run = Run(tmp_path, Fsync.ALWAYS)
    run.store(b"a", b"b", b"c", b"d", b"e")
    run.close()
    lines = lines_of(tmp_path)
    changed = b"".join(change(lines))
    (tmp_path / FIRST).write_bytes(changed + bytes(max(0, sum(map(len, lines)) - len(changed))))
    at = len(b"".join(lines[:3] if change is repeated else lines[:2]))
    refused(tmp_path)
    with pytest.raises(JournalCorrupt, match=f"offset {at}:"):
        read(tmp_path)
    damage = verify(tmp_path).files[0].damages[0]
    assert damage.offset == at
    assert "repeated" in damage.reason if change is repeated else "out of place" in damage.reason


def two_journals(path: Path) -> tuple[Path, Path]:
    """Make two journals of two increments each."""
    for name in ("one", "two"):
        run = Run(path / name, Fsync.ALWAYS)
        run.store(b"a")
        run.journal.rotate()
        run.store(b"b")
        run.close()
    return path / "one", path / "two"


@pytest.mark.parametrize("name", [FIRST, increment_name(2)])
def test_a_file_of_another_journal_is_refused(tmp_path: Path, name: str) -> None:
    one, two = two_journals(tmp_path)
    assert (one / name).stat().st_size == (two / name).stat().st_size
    shutil.copy(two / name, one / name)
    with pytest.raises(JournalCorrupt, match=f"{name} belongs to another journal"):
        read(one)
    assert any("belongs to another journal" in str(file.damages) for file in verify(one).files)


def test_an_increment_of_another_time_of_the_same_journal_is_refused(tmp_path: Path) -> None:
    one, _ = two_journals(tmp_path)
    shutil.copytree(one, tmp_path / "earlier")
    lines = lines_of(one)
    changed = b"".join(lines).replace(b'"key":"a"', b'"key":"z"')
    (one / FIRST).write_bytes(chained(changed))
    with pytest.raises(JournalCorrupt, match="does not continue the one before it"):
        read(one)
    assert "does not continue" in verify(one).files[1].damages[0].reason
    shutil.copy(tmp_path / "earlier" / FIRST, one / FIRST)
    assert read(one)[0] == {b"a", b"b"}


def test_all_files_of_a_journal_have_its_id(tmp_path: Path) -> None:
    one, two = two_journals(tmp_path)
    ids = [{record.id for record in records_in(path) if record.op == "start"} for path in (one, two)]
    assert ids == [{manifest_in(one).id}, {manifest_in(two).id}]
    assert ids[0] != ids[1]
    assert all(len(each) == 16 for found in ids for each in found)
    assert SystemDisk().size(one / FIRST) == manifest_in(one).increments[0].bytes


@pytest.mark.parametrize("command", ["compact", "load", "export", "stats"])
def test_the_tools_take_a_journal_with_a_tail_as_a_start_does(tmp_path: Path, command: str) -> None:
    path, items = tmp_path / "journal", tmp_path / "items"
    leave_tail_and_later_increment(path)
    items.write_text("new value\n")
    more = {"load": ["--text", str(items)], "export": ["--output", str(tmp_path / "export")]}
    assert main(["journal", command, str(path), *more.get(command, [])]) == 0
    assert read(path)[0] == {b"a"} | ({b"new"} if command == "load" else set())
    assert verify(path).is_sound


class CountingDisk(SystemDisk):
    """Counts the bytes that are read."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def read(self, path: Path, limit_bytes: int | None = None) -> Iterator[bytes]:
        """Read, and count."""
        for block in super().read(path, limit_bytes):
            self.read_bytes += len(block)
            yield block

    def open(self, path: Path) -> "CountingFile":
        """Open a file, and count what is read from it."""
        return CountingFile(self, super().open(path))

    def read_range(self, path: Path, offset: int, length: int) -> bytes:
        """Read, and count."""
        block = super().read_range(path, offset, length)
        self.read_bytes += len(block)
        return block


class CountingFile:
    """An open file of a CountingDisk."""

    def __init__(self, disk: CountingDisk, file: Readable) -> None:
        self._disk = disk
        self._file = file
        self.close = file.close

    def readinto(self, buffer: memoryview, /) -> int:
        """Read, and count."""
        count = self._file.readinto(buffer) or 0
        self._disk.read_bytes += count
        return count


def append_a_hole(path: Path, hole_bytes: int) -> None:
    """Let a file end with zeros that take no disk space."""
    with (path / FIRST).open("ab") as file:
        file.truncate(file.tell() + hole_bytes)


def test_a_tail_of_three_gigabytes_of_zeros_is_neither_read_nor_held(tmp_path: Path) -> None:
    written(tmp_path, Fsync.NEVER, b"a", b"b")
    size = (tmp_path / FIRST).stat().st_size
    append_a_hole(tmp_path, 3 << 30)
    disk = CountingDisk()
    tracemalloc.start()
    try:
        assert verify(tmp_path).is_sound
        with closing(JournalDirectory(tmp_path, disk)) as directory:
            manifest = directory.open()
            assert manifest is not None
            found = recover(tmp_path, directory.disk, manifest, ItemStore(FakeClock(STARTED), shards=1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.torn_bytes, (tmp_path / FIRST).stat().st_size) == (3 << 30, size)
    assert found.torn_copy is not None
    assert found.torn_copy.stat().st_size < 1 << 20
    assert disk.read_bytes < 16 << 20
    assert peak < 16 << 20


def test_a_claim_behind_a_long_hole_still_counts(tmp_path: Path) -> None:
    written(tmp_path, Fsync.ALWAYS, b"a", b"b")
    lines = lines_of(tmp_path)
    append_a_hole(tmp_path, 5 << 20)
    with (tmp_path / FIRST).open("ab") as file:
        file.write(b"\n")
        behind = line_of(Record("time", synced=file.tell() - 100))
        file.write(b"".join(lines[-2:]) + rechained(behind, last_crc(lines[-1]))[0])
    with pytest.raises(JournalCorrupt):
        read(tmp_path)
    assert not verify(tmp_path).is_sound


def test_a_repair_copies_a_long_hole_without_holding_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, Fsync.ALWAYS, b"a", b"b")
    lines = lines_of(tmp_path)
    append_a_hole(tmp_path, 100 << 20)
    with (tmp_path / FIRST).open("ab") as file:
        at = file.tell()
        file.write(b"\n" + b"".join(lines[-2:]) + rechained(line_of(Record("time", synced=at)), last_crc(lines[-1]))[0])
    tracemalloc.start()
    try:
        assert main(["journal", "repair", str(tmp_path), "--yes", "--max-loss", "any"]) == 0, capsys.readouterr().err
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
    assert verify(tmp_path).is_sound
    (cut,) = tmp_path.glob("*.cut-*")
    assert cut.stat().st_size < 2 << 20


@pytest.mark.parametrize("is_beside_base", [False, True])
def test_an_increment_of_which_a_crash_has_left_nothing_continues_the_file_before(
    tmp_path: Path, is_beside_base: bool
) -> None:
    """Its first record was written again without the end of that file, and the start after next was refused."""
    journal = several_files(tmp_path / "journal")
    if is_beside_base:
        assert main(["journal", "compact", str(journal)]) == 0
    manifest = manifest_in(journal)
    *closed, last = manifest.increments
    assert bool(closed) is not is_beside_base
    (journal / last.name).write_bytes(b"")
    write_manifest(journal, replace(manifest, increments=(*closed, Part(last.name))))
    for key in ("x", "y"):
        write_journal(journal, sets(key))
    assert {"a", "x", "y"} <= set(keys(journal).split())
    assert verify(journal).is_sound
