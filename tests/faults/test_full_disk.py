"""A real file system that is full, a file that may grow no further: refused, told of, and taken up again."""

import os
import resource
from pathlib import Path

import pytest

from tests.faults.mounts import fill, small_disk
from tests.faults.scene import POLICIES, Scene, refused_start, scene
from tests.integration.wire import poll_until

pytestmark = pytest.mark.long

FULL = "No space left on device"
TOO_LARGE = "File too large"
FREED_BYTES = 200_000
"""Less than the part of a base takes that is written, and more than what is written after it is removed."""


@pytest.mark.parametrize("fsync", POLICIES)
def test_a_full_file_system_is_refused_told_of_and_taken_up_again(tmp_path: Path, fsync: str) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk, scene(disk / "journal", fsync) as served:
        served.put_some()
        filler = fill(disk)
        served.put_until_refused()
        served.expect_refusing(f"can't write the journal in {disk / 'journal'}: {FULL}")
        filler.unlink()
        served.until_written_again()
        served.kill_and_restart()


@pytest.mark.parametrize("fsync", POLICIES)
def test_a_kill_while_the_file_system_is_full_loses_nothing_that_was_on_disk(tmp_path: Path, fsync: str) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk, scene(disk / "journal", fsync) as served:
        served.put_some()
        served.until_on_disk()
        safe = dict(served.acknowledged)
        filler = fill(disk, leave=10_000)  # a part of a write finds room
        served.put_until_refused()
        served.server.kill()
        served.close()
        filler.unlink()
        served.acknowledged = safe if fsync != "always" else served.acknowledged
        served.restart()


def contents(journal: Path) -> dict[str, bytes]:
    """What is in the files of a journal, but for those that are not finished."""
    return {file.name: file.read_bytes() for file in journal.iterdir() if file.suffix != ".tmp"}


TORN = b'{"crc":"01234567","len":1000,"op":"set","key":"torn'


@pytest.mark.parametrize("torn", [b"", TORN], ids=["whole", "torn"])
@pytest.mark.parametrize("fsync", POLICIES)
def test_a_server_that_starts_on_a_full_file_system_serves_from_it_until_there_is_room(
    tmp_path: Path, fsync: str, torn: bytes
) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk, scene(disk / "journal", fsync) as served:
        served.put_some()
        served.kill()
        with (served.journal / "increment-000001.jsonl").open("ab") as file:
            file.write(torn)
        filler = fill(disk)
        before = contents(served.journal)
        served.restart()
        served.expect_refusing(f"can't write the journal in {disk / 'journal'}: {FULL}")
        served.wire.expect(b"journal compact\r\n", b"OK\r\n")
        poll_until(lambda: served.stat("compaction_failures") == "1", "no rewrite is possible either")
        poll_until(lambda: contents(served.journal) == before, "nothing is left of what was tried")
        filler.unlink()
        served.until_written_again()
        assert ("the last record was not finished" in served.server.start_log()) is bool(torn)
        served.compact()
        served.kill_and_restart()


def test_a_server_that_has_started_on_a_full_file_system_ends_as_it_began(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        with scene(disk / "journal") as served:
            served.put_some()
        before = contents(disk / "journal")
        filler = fill(disk)
        served.restart()
        served.close()
        assert contents(disk / "journal") == before
        filler.unlink()
        served.restart()
        served.close()


def test_a_new_journal_is_not_begun_on_a_full_file_system(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        fill(disk)
        assert refused_start(disk / "journal").endswith(f": {FULL}\n")


def size_of_base(disk: Path) -> int:
    """How much is written of a base that is not complete."""
    return sum(file.stat().st_size for file in disk.glob("journal/base-*.tmp"))


def free_bytes(disk: Path) -> int:
    """How much room a file system has."""
    found = os.statvfs(disk)
    return found.f_bfree * found.f_frsize


def begin_rewrite(served: Scene, disk: Path) -> None:
    """Have the journal rewritten, and return in the midst of that."""
    served.wire.send(b"".join(b"set many%d 0 0 200 noreply\r\n%b\r\n" % (n, b"m" * 200) for n in range(30_000)))
    served.put_some()
    served.until_on_disk()
    served.wire.expect(b"journal compact\r\n", b"OK\r\n")
    poll_until(lambda: size_of_base(disk) > 300_000, "a part of a base is written")
    served.wire.expect(b"journal compact\r\n", b"BUSY currently rewriting the journal\r\n")


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_disk_that_fills_up_while_the_journal_is_rewritten_costs_the_rewrite_alone(
    tmp_path: Path, fsync: str
) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk, scene(disk / "journal", fsync) as served:
        begin_rewrite(served, disk)
        filler = fill(disk)
        poll_until(lambda: served.stat("compaction_failures") == "1", "it is given up")
        failure = (
            f"can't rewrite the journal in {disk / 'journal'}: {FULL}; it is used as it is; the next rewrite starts"
        )
        poll_until(lambda: f"{failure} in 60 s" in served.server.log(), "that is logged")
        poll_until(lambda: not list(disk.glob("journal/base-*")), "the base is removed")
        poll_until(lambda: free_bytes(disk) > FREED_BYTES, "what it took is free, a moment after its name is gone")
        poll_until(lambda: not served.is_failing(), "which the server has found out")
        served.put_some()
        filler.unlink()
        served.compact()
        served.put_some()
        served.kill_and_restart()


# A limit of the length of files


def limit_files(served: Scene, more: int) -> None:
    """Let no file of the server become longer than the journal is, and so many bytes."""
    size = max(file.stat().st_size for file in served.journal.iterdir())
    resource.prlimit(served.server.pid, resource.RLIMIT_FSIZE, (size + more, resource.RLIM_INFINITY))


@pytest.mark.parametrize("fsync", POLICIES)
def test_while_no_file_may_grow_changes_are_refused(tmp_path: Path, fsync: str) -> None:
    with scene(tmp_path / "journal", fsync) as served:
        served.put_some(2)
        limit_files(served, 2000)
        poll_until(lambda: not served.put(b"long" * 5000), "a record that no file may hold is refused")
        served.expect_refusing(f"can't write the journal in {tmp_path / 'journal'}: {TOO_LARGE}")
        resource.prlimit(served.server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        served.until_written_again()
        served.kill_and_restart()


@pytest.mark.parametrize("fsync", POLICIES)
def test_where_one_file_may_grow_no_further_another_goes_on(tmp_path: Path, fsync: str) -> None:
    with scene(tmp_path / "journal", fsync) as served:
        served.put_some(2)
        limit_files(served, 500_000)
        poll_until(lambda: not served.put(b"long" * 5000), "the file is full")
        served.until_written_again()
        assert (tmp_path / "journal/increment-000002.jsonl").exists()
        served.kill_and_restart()
