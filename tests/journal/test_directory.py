"""The directory of a journal: its lock, and what is refused to start beside."""

import subprocess
import sys
from pathlib import Path

import pytest

from memcache_kv.errors import JournalCorrupt, JournalError, JournalLocked
from memcache_kv.journal.directory import FILE_NAME, LOCK_NAME, JournalDirectory

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from memcache_kv.journal import JournalDirectory
directory = JournalDirectory(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def start_holder(path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that has the lock once this returns."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    return holder


def end(holder: "subprocess.Popen[bytes]") -> None:
    holder.kill()
    holder.communicate()


def test_a_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    directory = JournalDirectory(tmp_path / "deep" / "journal")
    assert directory.file == tmp_path / "deep" / "journal" / FILE_NAME
    assert directory.path.is_dir()
    directory.check()
    directory.sync()
    directory.close()


def test_a_directory_that_another_process_has_is_refused_by_name(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    try:
        with pytest.raises(JournalLocked, match=str(tmp_path)):
            JournalDirectory(tmp_path)
    finally:
        end(holder)


def test_the_lock_is_free_once_its_holder_was_killed(tmp_path: Path) -> None:
    end(start_holder(tmp_path))
    assert (tmp_path / LOCK_NAME).exists()
    JournalDirectory(tmp_path).close()


def test_the_same_process_does_not_get_a_directory_twice_before_it_closes_it(tmp_path: Path) -> None:
    first = JournalDirectory(tmp_path)
    with pytest.raises(JournalLocked):
        JournalDirectory(tmp_path)
    first.close()
    JournalDirectory(tmp_path).close()


def test_a_lock_file_left_behind_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("left by a crash")
    directory = JournalDirectory(tmp_path)
    directory.check()
    directory.close()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text("a file")
    with pytest.raises(JournalError, match="can't use the journal directory"):
        JournalDirectory(path)


@pytest.mark.parametrize("name", ["photo.jpg", "journal-000002.jsonl", f"{FILE_NAME}.torn-1700000000", "base"])
def test_no_empty_journal_is_begun_beside_files_that_tell_of_another(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    directory = JournalDirectory(tmp_path)
    with pytest.raises(JournalCorrupt, match=name):
        directory.check()
    assert not directory.file.exists()
    directory.close()


def test_a_journal_with_copies_of_torn_ends_beside_it_is_fine(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"")
    (tmp_path / f"{FILE_NAME}.torn-1700000000").write_bytes(b"{")
    directory = JournalDirectory(tmp_path)
    directory.check()
    directory.close()


def test_a_file_system_of_its_own_is_as_good_as_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    directory = JournalDirectory(tmp_path)
    directory.check()
    directory.close()
