"""A file that others move away while it is written."""

import os
import stat
from pathlib import Path

import pytest

from memcache_kv.observe.rotated_file import RotatedFile


def test_text_is_appended_and_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    RotatedFile(path).write("after \udcff\n")
    assert path.read_text() == "before\nafter \\udcff\n"
    new = RotatedFile(tmp_path / "new")
    assert stat.S_IMODE(os.stat(new.path).st_mode) == 0o600


def test_after_a_move_or_a_removal_the_path_is_written_again(tmp_path: Path) -> None:
    path, moved = tmp_path / "log", tmp_path / "log.1"
    file = RotatedFile(path)
    file.write("1\n")
    path.rename(moved)
    file.write("2\n")
    path.unlink()
    file.write("3\n")
    assert (moved.read_text(), path.read_text()) == ("1\n", "3\n")


def test_reopen_opens_the_path_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = RotatedFile(path)
    descriptors = len(os.listdir("/proc/self/fd"))
    file.reopen()
    file.write("1\n")
    assert (path.read_text(), len(os.listdir("/proc/self/fd"))) == ("1\n", descriptors)
    file.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors - 1


def test_if_it_cannot_be_opened_again_the_old_file_stays_open(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = RotatedFile(folder / "log")
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        file.write("lost\n")
    (tmp_path / "moved").rename(folder)
    file.write("kept\n")
    assert (folder / "log").read_text() == "kept\n"


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        RotatedFile(tmp_path / "pipe")
