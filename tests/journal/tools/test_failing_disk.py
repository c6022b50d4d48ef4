"""A disk that fails for good at any step of what changes a journal: either the old or the new one is there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from memcache_kv.errors import JournalError
from memcache_kv.journal import JournalDirectory, Manifest
from memcache_kv.journal.disk import File, SystemDisk
from memcache_kv.journal.tools.load import SourceItem, load
from memcache_kv.journal.tools.repair import carry_out, make_plan
from memcache_kv.journal.tools.restore import Rewinding
from memcache_kv.journal.tools.snapshot import present_manifest, take_snapshot
from memcache_kv.journal.tools.verify import verify
from tests.journal.tools.journals import (
    STARTED,
    contents,
    flip,
    keys,
    middle_of,
    sets,
    several_files,
    tree,
    write_journal,
)
from tests.journal.tools.test_restore_command import eventful

BROKEN = OSError(errno.EIO, "Input/output error")
Work = Callable[[JournalDirectory], object]


class FailingFile:
    """A file on that disk."""

    def __init__(self, disk: FailingDisk, file: File) -> None:
        self.disk = disk
        self.file = file

    def write(self, data: bytes | memoryview) -> int:
        """Write a part where the disk fails."""
        if self.disk.left <= 1:
            self.file.write(data[: len(data) // 2])
        self.disk.step()
        return self.file.write(data)

    def sync(self) -> None:
        """Sync or fail."""
        self.disk.step()
        self.file.sync()

    def truncate(self, size: int) -> None:
        """Truncate or fail."""
        self.disk.step()
        self.file.truncate(size)

    def is_at(self, path: Path) -> bool:
        """Look."""
        return self.file.is_at(path)

    def close(self) -> None:
        """Close, which never fails."""
        self.file.close()


class FailingDisk(SystemDisk):
    """A disk that does so many changes, and none after them: those that would tidy up fail too."""

    def __init__(self, left: int) -> None:
        self.left = left

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise BROKEN

    def create(self, path: Path) -> File:
        self.step()
        return FailingFile(self, super().create(path))

    def append_to(self, path: Path) -> File:
        self.step()
        return FailingFile(self, super().append_to(path))

    def rename(self, old: Path, new: Path) -> None:
        self.step()
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self.step()
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        self.step()
        super().sync_directory(path)


def steps_until_done(path: Path, work: Work) -> list[Path]:
    """Do the work on copies of a journal, with a disk that fails a step later each time; the last is done."""
    copies: list[Path] = []
    while True:
        copy = path.with_name(f"{path.name}-{len(copies)}")
        shutil.copytree(path, copy)
        copies.append(copy)
        with closing(JournalDirectory(copy, FailingDisk(len(copies) - 1))) as directory:
            try:
                work(directory)
            except (OSError, JournalError):
                continue
        assert len(copies) > 8
        return copies


def test_a_load_is_done_or_not(tmp_path: Path) -> None:
    journal = several_files(tmp_path / "journal")
    source = [SourceItem(b"a", b"new"), SourceItem(b"z", b"new")]
    before = contents(journal)
    after = before | {b"a": (0, b"new"), b"z": (0, b"new")}
    found = [contents(copy) for copy in steps_until_done(journal, lambda directory: load(directory, source))]
    assert found[-1] == after
    assert all(one in (before, after) for one in found)
    assert before in found


def test_a_snapshot_whose_manifest_goes_away_gives_its_descriptors_back(tmp_path: Path) -> None:
    journal = several_files(tmp_path / "journal")
    manifests = [present_manifest(journal)]

    def read(directory: Path) -> Manifest:
        if not manifests:
            raise JournalError("the manifest is gone")
        return manifests.pop()

    before = os.listdir("/proc/self/fd")
    with pytest.raises(JournalError, match="gone"):
        take_snapshot(journal, read)
    assert os.listdir("/proc/self/fd") == before


def test_a_restore_is_done_or_not(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "journal", eventful)

    def work(directory: JournalDirectory) -> None:
        with take_snapshot(directory.path) as snapshot:
            Rewinding(snapshot, STARTED + 10).carry_out(directory)

    found = [keys(copy) for copy in steps_until_done(journal, work)]
    assert found[-1] == "a b"
    assert set(found) == {"c", "a b"}


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_repair_that_failed_can_be_done_again(tmp_path: Path, has_manifest: bool) -> None:
    journal = several_files(tmp_path / "journal")
    for name, text in (
        ("base-000002", "value of a"),
        ("increment-000002", "value of e"),
        ("increment-000003", "value of h"),
    ):
        flip(journal / f"{name}.jsonl", middle_of(journal / f"{name}.jsonl", text))
    if not has_manifest:
        (journal / "manifest.json").unlink()

    def work(directory: JournalDirectory) -> None:
        found = verify(directory.path)
        carry_out(make_plan(found), found, directory)

    for copy in steps_until_done(journal, work):
        if not verify(copy).is_sound:
            with closing(JournalDirectory(copy)) as directory:
                work(directory)
        assert verify(copy).is_sound
        assert keys(copy) == "b c d f g i"


class InterruptedDisk(SystemDisk):
    """A disk on which Ctrl-C comes right after a file was made."""

    def create(self, path: Path) -> File:
        super().create(path).close()
        raise KeyboardInterrupt


def test_ctrl_c_as_the_new_file_is_made_leaves_none_behind(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "journal", sets("a"))
    before = tree(journal)
    with closing(JournalDirectory(journal, InterruptedDisk())) as directory, pytest.raises(KeyboardInterrupt):
        load(directory, [SourceItem(b"b", b"1")])
    assert tree(journal) == before
