"""Crashes after every operation of the disk: what was promised is there, and no more than what was done.

CRASH_POINTS asks for more of them, CRASH_SEED repeats a run that failed.
"""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest

from memcache_kv.journal import Fsync, Journal, Recovered, reading, writer
from memcache_kv.journal.appender import Appender, Extent
from memcache_kv.journal.disk import write_all
from memcache_kv.journal.files import End, Following, JournalFiles, StartLine
from memcache_kv.journal.record_queue import RecordQueue
from memcache_kv.journal.tail import Tail
from tests.journal.crash_checks import Violation
from tests.journal.crash_runs import FAULTS, Rig, play_runs
from tests.journal.simulated_disk import Fault, Loss, SimulatedDisk, SimulatedFile

pytestmark = pytest.mark.long

POINTS = 5000
PAGES_POINTS = 1500
POINTS_TO_FIND_A_BUG = 50_000
FAILING_SYNCS = tuple(fault for fault in FAULTS if fault[0] == ("sync",))
FAILING_WRITES = tuple(fault for fault in FAULTS if fault[0][0] == "write" and len(fault[0]) == 2)


@pytest.fixture
def seed() -> int:
    """A new one each time, printed when a test fails; CRASH_SEED repeats one."""
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**9))
    print(f"CRASH_SEED={seed}")
    return seed


@pytest.mark.timeout(0)
def test_a_crash_after_any_operation_loses_nothing_that_was_promised(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = int(os.environ.get("CRASH_POINTS") or POINTS)
    totals = play_runs(seed, wanted)
    if "CRASH_POINTS" in os.environ:
        with capsys.disabled():
            print(f"\nfrom seed {seed}: {totals}")
    assert totals.points >= wanted
    assert min(totals.by[f"policy {fsync}"] for fsync in Fsync) > wanted // 10
    assert min(totals.by[name] for name in ("during a compaction", "during a fault", "while changes are refused")) > 50


@pytest.mark.parametrize("found", [15010067, 237000028, 1144000029, 5060000003])
def test_a_run_that_once_found_a_violation_finds_none(found: int) -> None:
    """What each of them found.

    15010067: a start record in an increment of which a crash had left nothing did not state what it follows.
    237000028: a start record gave the time after a step back of the clock of which a record still waited, so that an
    expired item came back.
    1144000029, 5060000003: only a base told of the time at which it left out an expired item, so that the item came
    back from the kept generation before it.
    """
    play_runs(found, 1)


def test_pages_that_are_lost_out_of_order_are_cut_off_and_refuse_no_start(seed: int) -> None:
    totals = play_runs(seed, PAGES_POINTS, Rig(losses=(Loss.PAGES,)))
    assert totals.points >= PAGES_POINTS


# That the check would find what may be wrong: each of these bugs was planted.


def finds_a_violation(seed: int, rig: Rig) -> None:
    """Play until the check finds something."""
    with pytest.raises(Violation):
        play_runs(seed, POINTS_TO_FIND_A_BUG, rig)


class NoDirectorySync(SimulatedDisk):
    """Never syncs a directory."""

    def sync_directory(self, path: Path) -> None:
        """Do nothing."""
        self.begin("sync_directory")


class UnsyncedFile(SimulatedFile):
    """Is never synced."""

    def sync(self) -> None:
        """Do nothing."""
        self.disk.begin("sync")


class NoManifestSync(SimulatedDisk):
    """Never syncs a manifest."""

    unsynced = "manifest"

    def create(self, path: Path) -> SimulatedFile:
        """Make a file that is synced, or not."""
        file = super().create(path)
        return UnsyncedFile(self, path, file.inode) if path.name.startswith(self.unsynced) else file


class NoBaseSync(NoManifestSync):
    """Never syncs a base."""

    unsynced = "base"


class NoIncrementSync(NoManifestSync):
    """Never syncs an increment but where it is opened again."""

    unsynced = "increment"


class NoSyncAtStart(SimulatedDisk):
    """Does not sync the directory when a start finds it."""

    _is_starting = False

    def lock(self, path: Path) -> SimulatedFile:
        """Lock, and note that this is a start."""
        self._is_starting = True
        return super().lock(path)

    def sync_directory(self, path: Path) -> None:
        """Sync, but for the first time."""
        if self._is_starting:
            self._is_starting = False
            self.begin("sync_directory")
        else:
            super().sync_directory(path)


@pytest.mark.parametrize("disk", [NoDirectorySync, NoManifestSync, NoBaseSync, NoIncrementSync, NoSyncAtStart])
def test_the_check_finds_a_missing_fsync(disk: type[SimulatedDisk], seed: int) -> None:
    finds_a_violation(seed, Rig(disk=disk, often=("compact",)))


class SyncsNothing(JournalFiles):
    """Says that all is on disk when it was written."""

    def sync(self, first: int = 0) -> None:
        """Do nothing."""
        self.synced_bytes = self.end.bytes


class BelievesTheSecondSync(JournalFiles):
    """Goes on in the same file after an fsync that failed."""

    def replace_tail(self, data: bytes | None = None, first_line: StartLine | None = None) -> None:
        """Sync again."""
        self.sync()


class ForgetsTheTail(JournalFiles):
    """Goes on in a new increment after an fsync that failed, without the records that the old one may have lost."""

    def replace_tail(self, data: bytes | None = None, first_line: StartLine | None = None) -> None:
        """Write none of these records again."""
        super().replace_tail(b"")


class AdoptsTooEarly(Journal):
    """Lets a base know of changes that are not on disk."""

    def adopt(self, number: int, size: int) -> None:
        """Swap, and write nothing first."""
        self.files.adopt_base(number, size)


def test_the_check_finds_an_acknowledgement_before_the_fsync(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "JournalFiles", SyncsNothing)
    finds_a_violation(seed, Rig(policies=(Fsync.ALWAYS,)))


class SyncsWhatCameLater(Appender):
    """Takes what was written during an fsync for synced by it."""

    def synced_up_to(self, extent: Extent) -> None:
        """Count all that is written by now."""
        super().synced_up_to(self.extent)


def test_the_check_finds_a_record_that_was_written_during_an_fsync_and_counts_as_synced(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "Appender", SyncsWhatCameLater)
    finds_a_violation(seed, Rig(policies=(Fsync.EVERYSEC,)))


@pytest.mark.parametrize("files", [BelievesTheSecondSync, ForgetsTheTail])
def test_the_check_finds_belief_in_an_fsync_that_has_failed(
    files: type[JournalFiles], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "JournalFiles", files)
    finds_a_violation(seed, Rig(policies=(Fsync.ALWAYS, Fsync.EVERYSEC), faults=FAILING_SYNCS))


def test_the_check_finds_a_base_that_is_ahead_of_its_increment(seed: int) -> None:
    finds_a_violation(
        seed, Rig(journal=AdoptsTooEarly, policies=(Fsync.NEVER,), faults=(), often=("compact", "change"))
    )


def test_the_check_finds_an_fsync_later_than_everysec_promises(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SYNC_SECONDS", 1.2)
    finds_a_violation(seed, Rig(policies=(Fsync.EVERYSEC,)))


def test_the_check_finds_a_step_of_the_clock_that_is_not_recorded(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "stepped", lambda journal, wall_ahead: None)
    finds_a_violation(seed, Rig(often=("set the clock",)))


class RemovesTooEarly(JournalFiles):
    """Removes old files before it is sure that no manifest names them."""

    def finish_swap(self) -> None:
        """Remove, then sync."""
        for name in self.obsolete:
            with contextlib.suppress(FileNotFoundError):
                self.disk.remove(self.directory / name)
        self.obsolete.clear()
        super().finish_swap()


class LeavesTornRecords(JournalFiles):
    """Appends behind what a failed write has left."""

    def append(self, data: bytes, chain: int) -> None:
        """Write, and cut nothing off."""
        write_all(self.file, data)
        self.end = End(self.end.bytes + len(data), chain)


@pytest.mark.parametrize("files", [RemovesTooEarly, LeavesTornRecords])
def test_the_check_finds_files_that_are_handled_carelessly(
    files: type[JournalFiles], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "JournalFiles", files)
    finds_a_violation(seed, Rig(faults=FAILING_WRITES, often=("compact",)))


class RemovesWhatItKeeps(JournalFiles):
    """Removes the oldest generation although the manifest still names it."""

    def adopt_base(self, number: int, size: int) -> None:
        """Swap, and remove one generation too many."""
        super().adopt_base(number, size)
        self.obsolete += [part.name for kept in self.kept[:1] for part in kept.parts]
        self.finish_swap()


class KeepsWithoutSync(JournalFiles):
    """Keeps files that are not on disk."""

    syncs_all = False


@pytest.mark.parametrize("files", [RemovesTooEarly, RemovesWhatItKeeps, KeepsWithoutSync])
def test_the_check_finds_a_kept_generation_that_is_not_whole(
    files: type[JournalFiles], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "JournalFiles", files)
    finds_a_violation(seed, Rig(policies=(Fsync.NEVER,), faults=(), keeps=(1, 2), often=("compact", "change")))


class StatesSerialsTooEarly(JournalFiles):
    """Says of a manifest that it is on disk before it is."""

    def create_next(self) -> Following:
        """Create a file that states the serial of the next manifest."""
        self.serial_on_disk = self.manifest.serial + 1
        return super().create_next()


def test_the_check_finds_a_start_that_is_refused_for_what_a_crash_left(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "JournalFiles", StatesSerialsTooEarly)
    finds_a_violation(seed, Rig(often=("compact", "change and append")))


def test_the_check_finds_an_id_that_is_given_twice(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recovered, "next_run", lambda self: 0)
    finds_a_violation(seed, Rig())


def test_the_check_finds_a_torn_record_that_is_left_at_the_end(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tail, "cut", lambda self: None)
    with pytest.raises((Violation, ValueError)):  # the next start may find not even a checksum in it
        play_runs(seed, POINTS_TO_FIND_A_BUG)


# The disk itself


def test_a_disk_loses_what_was_not_synced_and_keeps_what_was() -> None:
    disk, directory = SimulatedDisk(random.Random(1)), Path("/d")
    disk.make_directory(directory)
    file = disk.create(directory / "a")
    file.write(b"sure")
    file.sync()
    disk.sync_directory(directory)
    file.write(b" or not")
    disk.create(directory / "b")
    disks = [disk.left_by(Loss.ANY_NAMES, disk.rng) for _ in range(100)]
    found = {b"".join(left.read(directory / "a")) for left in disks}
    assert found == {b"sure or not"[:length] for length in range(4, 12)}
    assert {tuple(left.names(directory)) for left in disks} == {("a",), ("a", "b")}
    assert b"".join(disk.left_by(Loss.KILLED, disk.rng).read(directory / "a")) == b"sure or not"


def test_a_failed_sync_may_make_the_next_one_lie() -> None:
    found = {after_a_failed_sync(seed) for seed in range(50)}
    zeros = {b"lost"[:length].ljust(4, b"\0") + b"kept" for length in range(5)}
    assert found == zeros


def after_a_failed_sync(seed: int) -> bytes:
    """Write, fail to sync, write more and sync that; return what is on the platter."""
    disk, path = SimulatedDisk(random.Random(seed)), Path("/d/a")
    disk.make_directory(path.parent)
    file = disk.create(path)
    disk.sync_directory(path.parent)
    file.write(b"lost")
    disk.fault = Fault(("sync",))
    with pytest.raises(OSError):
        file.sync()
    file.write(b"kept")
    file.sync()
    assert b"".join(disk.read(path)) == b"lostkept"
    return b"".join(disk.left_by(Loss.ORDERED, disk.rng).read(path))


def test_the_same_seed_makes_the_same_runs() -> None:
    assert str(play_runs(7, 200)) == str(play_runs(7, 200))


def test_the_check_finds_a_start_that_is_refused_for_pages_lost_out_of_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "is_known_synced", lambda *arguments: True)
    finds_a_violation(seed, Rig(losses=(Loss.PAGES,)))


def test_the_check_finds_a_file_that_does_not_continue_the_one_before(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "start_line", start_without_end)
    finds_a_violation(seed, Rig(often=("compact",)))


def start_without_end(
    journal: Journal, after: int = 0, follows: str = "", ahead: int | None = None, serial: int = 0
) -> bytes:
    """Return a start record that does not state how the file before ends."""
    return RecordQueue.start_line(journal, after, "", ahead, serial)
