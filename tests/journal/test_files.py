"""Swapping files: whatever fails on the way, the old set or the new one is there, and another try succeeds."""

import errno
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest
from msgspec.structs import replace

from memcache_kv.errors import JournalFailed, JournalLost
from memcache_kv.journal import Fsync
from memcache_kv.journal.codec import rechained
from memcache_kv.journal.directory import LOCK_NAME
from memcache_kv.journal.disk import SystemDisk, write_all
from memcache_kv.journal.files import JournalFiles
from memcache_kv.journal.manifest import MANIFEST_NAME, base_name, increment_name
from memcache_kv.journal.record import Record, line_of, parse_line, set_line
from tests.journal.disk import Disk, broken, no_space
from tests.journal.history import replay, shown
from tests.journal.journals import FIRST, START, STARTED, Run, chained, keys_in, make_journal, manifest_in, names_in

Act = Callable[[Run], object]


def value(key: bytes) -> bytes:
    return set_line(key, 0, 0, 0, b"value")


def append(run: Run, *keys: bytes) -> bytes:
    """Append values, and return what was or should have been appended."""
    files = run.journal.files
    data, chain = rechained(b"".join(map(value, keys)), files.end.chain)
    files.append(data, chain)
    return data


def as_appended(run: Run, key: bytes) -> bytes:
    """Return the line that a value would be now."""
    return rechained(value(key), run.journal.files.end.chain)[0]


def write_base(files: JournalFiles, number: int, *keys: bytes) -> int:
    """Write a base and give it its name, as a compaction does; return its length."""
    beside = files.directory / increment_name(number)
    begun = parse_line(beside.read_bytes().partition(b"\n")[0]) if beside.exists() else Record("start")
    data = chained(line_of(replace(begun, after=0)), *map(value, keys), line_of(Record("end", count=1 + len(keys))))
    files.base_path(number).unlink(missing_ok=True)
    file = SystemDisk().create(files.base_path(number))
    write_all(file, data)
    file.sync()
    file.close()
    SystemDisk().rename(files.base_path(number), files.directory / base_name(number))
    return len(data)


@pytest.fixture
def disk() -> Disk:
    """A disk of this test."""
    return Disk()


def two_values(path: Path, disk: Disk) -> Run:
    """Make a journal of two values, both on disk, in two increments."""
    run = Run(path, Fsync.ALWAYS, disk)
    run.store(b"a")
    run.step()
    run.journal.rotate()
    run.store(b"b")
    run.step()
    return run


@pytest.fixture
def run(tmp_path: Path, disk: Disk) -> Iterator[Run]:
    """A journal of two values."""
    run = two_values(tmp_path / "journal", disk)
    yield run
    run.crash()


def keys_found(run: Run) -> set[bytes]:
    """Let the process be gone, and read what a start finds."""
    run.crash()
    return set(shown(replay(run.path, STARTED)[0]))


def rotate(run: Run) -> None:
    run.journal.rotate()


def replace_tail(run: Run) -> None:
    run.journal.files.replace_tail(value(b"again"))


def adopt(run: Run) -> None:
    run.journal.adopt(3, write_base(run.journal.files, 3, b"a", b"b"))


def name_base(run: Run) -> None:
    files = run.journal.files
    size = write_base(files, 3, b"a", b"b")
    (files.directory / base_name(3)).rename(files.base_path(3))
    files.name_base(3)
    run.journal.adopt(3, size)


def rotated(run: Run) -> None:
    """Prepare for a base: nothing is in the increments from number 3 on."""
    run.journal.rotate()


SWAPS: list[tuple[Act, Act, set[bytes]]] = [
    (lambda run: None, rotate, set()),
    (lambda run: None, replace_tail, {b"again"}),
    (rotated, adopt, set()),
    (rotated, name_base, set()),
]
each_swap = pytest.mark.parametrize(("prepare", "swap", "more"), SWAPS, ids=["rotate", "replace_tail", "adopt", "name"])


def failing_in_turn(path: Path, disk: Disk, prepare: Act, swap: Act) -> Iterator[tuple[Run, bool]]:
    """Try a swap on new journals, of which the first fails in its first operation and so on, up to one that succeeds.

    Gives each, with whether it has failed.
    """
    for operation in count():
        run = two_values(path / str(operation), disk)
        prepare(run)
        disk.fails_in = operation
        failed = False
        try:
            swap(run)
        except OSError:
            failed = True
        has_failed, disk.fails_in = disk.fails_in is None, None
        yield run, failed
        run.crash()
        if not has_failed:
            assert operation > 2
            return


@each_swap
def test_a_swap_that_fails_leaves_a_whole_journal_to_a_crash(
    tmp_path: Path, disk: Disk, prepare: Act, swap: Act, more: set[bytes]
) -> None:
    for run, failed in failing_in_turn(tmp_path, disk, prepare, swap):
        found = keys_found(run)
        assert found - more == {b"a", b"b"}
        assert failed or found == {b"a", b"b"} | more


@each_swap
def test_a_swap_that_failed_succeeds_when_it_is_tried_again(
    tmp_path: Path, disk: Disk, prepare: Act, swap: Act, more: set[bytes]
) -> None:
    for run, failed in failing_in_turn(tmp_path, disk, prepare, swap):
        if failed:
            swap(run)
        run.store(b"after")
        run.step()
        run.close()
        assert names_in(run.path) == {MANIFEST_NAME, *(part.name for part in manifest_in(run.path).parts)}
        assert set(shown(replay(run.path, STARTED)[0])) == {b"a", b"b", b"after"} | more


@each_swap
def test_a_journal_goes_on_as_it_is_when_a_swap_failed(
    tmp_path: Path, disk: Disk, prepare: Act, swap: Act, more: set[bytes]
) -> None:
    for run, _ in failing_in_turn(tmp_path, disk, prepare, swap):
        run.store(b"after")
        run.step()
        assert not run.journal.must_wait(run.journal.position)
        assert keys_found(run) - more == {b"a", b"b", b"after"}


# The order in which it is done


def since(disk: Disk, act: Callable[[], object]) -> list[tuple[str, str]]:
    """Return what was done on the disk by this."""
    before = len(disk.operations)
    act()
    return disk.operations[before:]


def test_a_new_increment_is_on_disk_with_its_name_before_a_manifest_names_it(run: Run, disk: Disk) -> None:
    done = since(disk, lambda: replace_tail(run))
    name, temporary = increment_name(3), f"{MANIFEST_NAME}.tmp"
    expected = [
        ("create", name), ("write", name), ("sync", name), ("sync_directory", "journal"),
        ("create", temporary), ("write", temporary), ("sync", temporary), ("rename", temporary),
        ("sync_directory", "journal"),
    ]  # fmt: skip
    assert [step for step in done if step != ("remove", name)] == expected


def test_old_files_are_removed_only_when_the_new_manifest_is_on_disk(run: Run, disk: Disk) -> None:
    rotated(run)
    size = write_base(run.journal.files, 3, b"a", b"b")
    done = since(disk, lambda: run.journal.files.adopt_base(3, size))
    rename = done.index(("rename", f"{MANIFEST_NAME}.tmp"))
    assert done[rename + 1] == ("sync_directory", "journal")
    assert set(done[rename + 2 :]) == {("remove", FIRST), ("remove", increment_name(2))}


def test_a_base_has_its_name_on_disk_before_it_is_adopted(run: Run, disk: Disk) -> None:
    rotated(run)
    run.journal.files.base_path(3).write_bytes(START)
    done = since(disk, lambda: run.journal.files.name_base(3))
    assert done == [("rename", f"{base_name(3)}.tmp"), ("sync_directory", "journal")]


# What a swap comes to


def test_a_rotation_goes_on_in_the_next_increment(run: Run) -> None:
    assert run.journal.rotate() == 3
    sizes = {name: (run.path / name).stat().st_size for name in (FIRST, increment_name(2), increment_name(3))}
    known = sizes | {increment_name(3): 0}  # it is not synced yet
    assert {part.name: part.bytes for part in manifest_in(run.path).increments} == known
    assert run.journal.files.total_bytes == sum(sizes.values())
    run.store(b"c")
    run.step()
    assert keys_in(run.path) == [b"a", b"b", b"c"]


def test_a_replaced_tail_leaves_out_of_the_old_file_what_is_not_known_to_be_on_disk(run: Run) -> None:
    files = run.journal.files
    known = files.end.bytes
    append(run, b"lost")
    files.replace_tail(value(b"again"))
    assert manifest_in(run.path).increments[1].bytes == known
    assert keys_found(run) == {b"a", b"b", b"again"}


def test_a_base_takes_the_place_of_all_before_its_increment_and_of_the_base_before(run: Run) -> None:
    rotated(run)
    adopt(run)
    assert run.journal.rotate() == 4
    run.store(b"c")
    run.step()
    run.journal.adopt(4, write_base(run.journal.files, 4, b"a", b"new"))
    assert names_in(run.path) == {MANIFEST_NAME, base_name(4), increment_name(4)}
    assert keys_found(run) == {b"a", b"new", b"c"}


def test_increments_begun_since_the_base_was_are_kept(run: Run) -> None:
    rotated(run)
    run.store(b"c")
    run.step()
    run.journal.rotate()
    adopt(run)
    assert [part.name for part in manifest_in(run.path).parts] == [base_name(3), increment_name(3), increment_name(4)]
    assert keys_found(run) == {b"a", b"b", b"c"}


@pytest.mark.parametrize("is_named", [False, True])
def test_a_base_that_is_given_up_is_removed(run: Run, is_named: bool) -> None:
    files = run.journal.files
    write_base(files, 3)
    if not is_named:
        (run.path / base_name(3)).rename(files.base_path(3))
    files.drop_base(3, is_named)
    assert names_in(run.path) == {MANIFEST_NAME, FIRST, increment_name(2)}


def test_a_base_that_the_manifest_names_is_not_removed_with_what_made_it(run: Run, disk: Disk) -> None:
    rotated(run)
    disk.errors["remove"] = broken()
    with pytest.raises(OSError, match="Input/output"):
        adopt(run)
    disk.mend()
    run.journal.files.drop_base(3, is_named=True)
    assert names_in(run.path) >= {base_name(3)}
    assert keys_found(run) == {b"a", b"b"}


def test_old_files_that_could_not_be_removed_are_once_the_disk_lets_it(run: Run, disk: Disk) -> None:
    rotated(run)
    disk.errors["remove increment"] = broken()
    with pytest.raises(OSError, match="Input/output"):
        adopt(run)
    disk.mend()
    run.store(b"c")
    run.step()
    assert names_in(run.path) == {MANIFEST_NAME, base_name(3), increment_name(3)}


# A write that fails


@pytest.mark.parametrize("room", [0, 1, 50])
def test_what_a_failed_write_leaves_is_cut_off_at_once(run: Run, disk: Disk, room: int) -> None:
    before = (run.path / increment_name(2)).read_bytes()
    disk.room = room
    with pytest.raises(OSError, match="No space"):
        append(run, b"c", b"d")
    assert (run.path / increment_name(2)).read_bytes() == before
    assert run.journal.files.end.bytes == len(before)


def test_what_could_not_be_cut_off_is_before_anything_else_is_written(run: Run, disk: Disk) -> None:
    before = (run.path / increment_name(2)).read_bytes()
    disk.room = 30
    disk.errors["truncate"] = broken()
    for _ in range(3):
        with pytest.raises(OSError, match=r"No space|Input/output"):
            append(run, b"c")
    assert (run.path / increment_name(2)).read_bytes() == before + as_appended(run, b"c")[:30]
    disk.mend()
    appended = append(run, b"d")
    assert (run.path / increment_name(2)).read_bytes() == before + appended


def test_a_rotation_over_half_a_record_leaves_that_out(run: Run, disk: Disk) -> None:
    disk.room = 30
    disk.errors["truncate"] = broken()
    with pytest.raises(OSError, match="No space"):
        append(run, b"c")
    disk.mend()
    run.journal.rotate()
    append(run, b"d")
    run.journal.files.sync()
    assert keys_found(run) == {b"a", b"b", b"d"}


# Looking after them


@pytest.mark.parametrize("name", [FIRST, increment_name(2), MANIFEST_NAME, LOCK_NAME])
def test_a_file_that_was_deleted_is_named(run: Run, name: str) -> None:
    run.journal.files.check()
    (run.path / name).unlink()
    with pytest.raises(JournalLost, match=f"{run.path / name} was deleted") as caught:
        run.journal.files.check()
    assert caught.value.is_ours is (name != LOCK_NAME)


@pytest.mark.parametrize("name", [increment_name(2), LOCK_NAME])
def test_a_file_that_was_replaced_by_a_copy_is_named(run: Run, name: str) -> None:
    copy = run.path / "copy"
    copy.write_bytes((run.path / name).read_bytes())
    copy.rename(run.path / name)
    with pytest.raises(JournalLost, match=f"{run.path / name} was deleted or replaced"):
        run.journal.files.check()


def test_a_base_that_was_deleted_is_named(run: Run) -> None:
    rotated(run)
    adopt(run)
    (run.path / base_name(3)).unlink()
    with pytest.raises(JournalLost, match=f"{base_name(3)} was deleted"):
        run.journal.files.check()


@pytest.mark.parametrize("name", [base_name(3), increment_name(3)])
def test_a_file_that_was_cut_off_is_named(run: Run, name: str) -> None:
    rotated(run)
    run.store(b"c")
    run.step()
    run.journal.rotate()
    adopt(run)
    run.journal.files.check()
    content = (run.path / name).read_bytes()
    (run.path / name).write_bytes(content[:-1])
    with pytest.raises(JournalLost, match=f"{run.path / name} was cut off"):
        run.journal.files.check()


def test_it_is_looked_after_the_files_though_no_descriptor_is_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **more: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", fail)
    monkeypatch.setattr(os, "listdir", fail)
    run.look()
    assert not run.journal.refuses


# Beginning and end


@pytest.mark.parametrize("operation", range(12))
def test_a_first_start_that_fails_leaves_a_directory_in_which_another_succeeds(tmp_path: Path, operation: int) -> None:
    disk = Disk()
    disk.fails_in = operation
    try:
        Run(tmp_path, disk=disk).crash()
    except Exception as error:
        assert "Input/output error" in str(error)  # noqa: PT017
    disk.fails_in = None
    run = Run(tmp_path, disk=disk)
    run.store(b"a")
    run.close()
    assert set(shown(replay(tmp_path, STARTED)[0])) == {b"a"}


@pytest.mark.parametrize("operation", range(12))
def test_a_start_that_fails_leaves_the_journal_whole(tmp_path: Path, operation: int) -> None:
    make_journal(tmp_path, START + value(b"a"))
    disk = Disk()
    disk.fails_in = operation
    try:
        Run(tmp_path, disk=disk).crash()
    except Exception as error:
        assert "Input/output error" in str(error)  # noqa: PT017
    assert set(shown(replay(tmp_path, STARTED)[0])) == {b"a"}


def test_the_end_notes_how_long_the_files_are(run: Run) -> None:
    run.store(b"c")
    run.close()
    sizes = [(run.path / part.name).stat().st_size for part in manifest_in(run.path).parts]
    assert [part.bytes for part in manifest_in(run.path).parts] == sizes


def test_the_end_does_not_count_what_is_not_on_disk(run: Run, disk: Disk) -> None:
    known = run.journal.files.end.bytes
    run.store(b"c")
    disk.errors["sync increment"] = no_space()
    with pytest.raises(JournalFailed, match="No space"):
        run.close()
    assert manifest_in(run.path).increments[-1].bytes == known


def test_a_journal_can_be_given_up_where_its_start_fails(tmp_path: Path) -> None:
    disk = Disk()
    disk.errors["write"] = no_space()
    with pytest.raises(Exception, match="No space"):
        Run(tmp_path, disk=disk)
    Run(tmp_path).close()


# Under `never` a new increment waits for no disk


def without_syncs(disk: Disk, act: Callable[[], object]) -> list[tuple[str, str]]:
    """Do something that may sync neither file nor directory; return what was done to the disk."""
    before = len(disk.operations)
    act()
    done = disk.operations[before:]
    assert not [what for what, _ in done if what in ("sync", "sync_directory")]
    return done


@pytest.fixture
def lazy(tmp_path: Path, disk: Disk) -> Iterator[Run]:
    """A journal under `never`, with a value in each of two increments, and no manifest that names the second."""
    run = Run(tmp_path / "journal", Fsync.NEVER, disk)
    run.store(b"a")
    without_syncs(disk, run.journal.rotate)
    run.store(b"b")
    run.step()
    yield run
    disk.mend()
    run.crash()


def found(path: Path) -> set[bytes]:
    return set(shown(replay(path, STARTED)[0]))


def test_a_rotation_under_never_makes_no_fsync(lazy: Run, disk: Disk) -> None:
    for _ in range(3):
        lazy.store(b"queued")
        done = without_syncs(disk, lazy.journal.rotate)
        assert [what for what, name in done if name.startswith("manifest")] == []
    assert not without_syncs(disk, lazy.look)


def test_what_was_begun_without_a_manifest_is_found_after_a_kill(lazy: Run) -> None:
    lazy.journal.rotate()
    lazy.store(b"c")
    lazy.step()
    lazy.crash()
    names = [part.name for part in manifest_in(lazy.path).increments]
    assert names == [increment_name(1), increment_name(2), increment_name(3)]
    assert found(lazy.path) == {b"a", b"b", b"c"}
    again = Run(lazy.path, Fsync.ALWAYS)
    again.store(b"d")
    again.close()
    assert found(lazy.path) == {b"a", b"b", b"c", b"d"}


@pytest.mark.parametrize("by", [-1, 1])
def test_what_does_not_follow_on_what_is_there_is_set_aside(lazy: Run, by: int) -> None:
    lazy.crash()
    first = lazy.path / FIRST
    os.truncate(first, first.stat().st_size + by)
    assert [part.name for part in manifest_in(lazy.path).increments] == [FIRST]
    if by < 0:
        assert found(lazy.path) == set()
        assert f"{increment_name(2)}.unlisted" in names_in(lazy.path)


def test_an_increment_that_could_not_be_begun_follows_on_nothing(lazy: Run, disk: Disk) -> None:
    disk.errors["write"] = disk.errors["remove"] = no_space()
    with pytest.raises(OSError, match="No space left"):
        lazy.journal.rotate()
    disk.mend()
    lazy.store(b"c")
    lazy.look()
    lazy.crash()
    assert found(lazy.path) == {b"a", b"b", b"c"}


def test_an_end_names_all_and_has_all_on_disk(lazy: Run, disk: Disk) -> None:
    lazy.journal.rotate()
    lazy.close()
    parts = manifest_in(lazy.path).increments
    assert [(part.name, part.bytes) for part in parts] == [
        (increment_name(number), (lazy.path / increment_name(number)).stat().st_size) for number in (1, 2, 3)
    ]
    assert {part.name: part.bytes for part in parts} == {part.name: disk.durable[part.name] for part in parts}


def test_an_end_after_a_failed_sync_names_nothing_that_is_not_on_disk(lazy: Run, disk: Disk) -> None:
    lazy.store(b"c")
    disk.errors["sync increment"] = broken()
    with pytest.raises(OSError, match="Input/output error"):
        lazy.journal.files.sync()
    disk.mend()  # so that the next fsync says that all is well
    lazy.close()
    for part in manifest_in(lazy.path).parts:
        assert disk.durable[part.name] >= part.bytes


def test_an_end_that_fails_leaves_the_manifest_as_it_was(lazy: Run, disk: Disk) -> None:
    before = manifest_in_file(lazy.path)
    lazy.store(b"c")
    disk.errors["sync increment"] = broken()
    with pytest.raises(JournalFailed, match="Input/output error; 3 records were written and may not be on disk"):
        lazy.close()
    assert manifest_in_file(lazy.path) == before


def test_an_end_has_the_names_on_disk_before_a_manifest_has_them(lazy: Run, disk: Disk) -> None:
    before = len(disk.operations)
    disk.fails_in = 2  # the first increment is opened and synced, and the sync of the second fails
    lazy.close()
    done = [what for what, name in disk.operations[before:] if what in ("sync_directory", "rename")]
    assert done[0] == "sync_directory"


def manifest_in_file(path: Path) -> bytes:
    return (path / MANIFEST_NAME).read_bytes()


def test_a_base_does_not_wait_for_what_it_replaces(lazy: Run, disk: Disk) -> None:
    size = write_base(lazy.journal.files, 2, b"a")
    before = len(disk.operations)
    lazy.journal.adopt(2, size)
    assert ("sync", FIRST) not in disk.operations[before:]
    assert ("sync", increment_name(2)) in disk.operations[before:]
    assert names_in(lazy.path) == {MANIFEST_NAME, base_name(2), increment_name(2)}
    assert lazy.journal.synced == lazy.journal.written
    lazy.crash()
    assert found(lazy.path) == {b"a", b"b"}


def test_a_failed_sync_writes_again_what_either_may_have_lost(lazy: Run, disk: Disk) -> None:
    size = write_base(lazy.journal.files, 2, b"a")
    disk.errors["sync increment"] = broken()
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            lazy.journal.adopt(2, size)
    disk.mend()
    lazy.look()
    lazy.crash()
    assert [part.name for part in manifest_in(lazy.path).parts] == [FIRST, increment_name(3)]
    assert increment_name(2) not in names_in(lazy.path)
    behind = (lazy.path / increment_name(3)).read_bytes()[disk.durable[increment_name(3)] :]
    assert (behind.count(b"\n"), b'"op":"time","serial":' in behind) == (1, True)
    assert found(lazy.path) == {b"a", b"b"}


def test_what_is_written_again_keeps_its_order(lazy: Run, disk: Disk) -> None:
    """Though what was begun later is on disk by then."""
    lazy.journal.files.sync(2)
    disk.errors["sync increment"] = broken()
    with pytest.raises(OSError, match="Input/output error"):
        lazy.journal.files.sync()
    disk.mend()
    lazy.journal.files.replace_tail(None)
    lazy.crash()
    assert keys_in(lazy.path) == [b"a", b"b"]
    assert found(lazy.path) == {b"a", b"b"}


def test_a_start_has_on_disk_what_it_found_without_a_manifest(lazy: Run, disk: Disk) -> None:
    lazy.crash()
    assert disk.durable[FIRST] < (lazy.path / FIRST).stat().st_size
    Run(lazy.path, Fsync.NEVER, disk).crash()
    assert disk.durable[FIRST] == (lazy.path / FIRST).stat().st_size
