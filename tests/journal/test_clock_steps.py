"""A wall clock that is stepped, while serving or between two runs: items expire as if it had not been."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from memcache_kv.errors import JournalError
from memcache_kv.journal import Fsync, Journal, JournalDirectory, Room, recover
from memcache_kv.journal.compaction import Compaction
from memcache_kv.journal.disk import SystemDisk
from memcache_kv.journal.files import Following
from memcache_kv.journal.record import MIN_BATCH_LINES, Record
from memcache_kv.journal.tools import division, load, repair, restore
from memcache_kv.journal.tools.snapshot import take_snapshot
from memcache_kv.journal.tools.verify import verify
from memcache_kv.store import ItemStore, Mode
from memcache_kv.store.entry import PLAIN_LIMIT_BYTES, STALE, Item, deadline_of, make_entry, pack
from tests.fake_clock import FakeClock
from tests.journal.disk import Disk, broken, no_space
from tests.journal.journals import FIRST, STARTED, Ticks, manifest_in, records_in

HOUR, DAY = 3600, 86400
STEPS = [HOUR, -HOUR, DAY, -DAY]
LARGE = bytes(PLAIN_LIMIT_BYTES)
POLICIES = list(Fsync)


class Server:
    """A store with its journal, whose clock and whose machine's clock the test moves."""

    def __init__(
        self,
        path: Path,
        wall: int,
        fsync: Fsync = Fsync.EVERYSEC,
        prepare: Callable[[], None] | None = None,
        keep: int = 0,
    ) -> None:
        self.path = path
        self.clock = FakeClock(wall)
        self.store = ItemStore(self.clock, shards=2)
        self.said: list[str] = []
        self.ticks = Ticks()
        self._directory = JournalDirectory(path)
        manifest = self._directory.open()
        found = None if manifest is None else recover(path, self._directory.disk, manifest, self.store)
        self.set_back = 0 if found is None else found.set_back
        self.journal = Journal(
            self._directory,
            fsync,
            manifest,
            say=self.said.append,
            monotonic=self.ticks,
            now=wall,
            stepped=None if found is None else found.stepped,
            keep=keep,
            prepare=prepare,
        )
        self.store.log = self.journal
        self.store.new_second()
        self.runs = True

    @property
    def wall(self) -> int:
        return self.clock.now + self.clock.wall_ahead

    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.store.new_second()

    def step_wall(self, seconds: int) -> None:
        """Set the machine's clock."""
        self.clock.wall_ahead += seconds
        self.advance(1)

    def set(self, key: bytes, ttl: int, value: bytes = b"value") -> None:
        self.store.store(Mode.SET, key, pack(0, value), self.clock.now + ttl)

    def left(self) -> dict[bytes, int]:
        """How long each item is still to live."""
        return {key: deadline_of(entry) - self.clock.now for key, entry in self.store.items() if deadline_of(entry)}

    def rewrite(self) -> None:
        for _ in Compaction(self.journal, self.store).steps():
            pass

    def kill(self) -> None:
        """End it as if by kill -9, with all written that was queued."""
        self.journal.step()
        self.lose_queue()

    def lose_queue(self) -> None:
        """End it as if by kill -9, with nothing written that is queued."""
        self.journal.files.file.close()
        self._directory.close()

    def stop(self) -> None:
        self.runs = False
        self.journal.close()
        self._directory.close()

    def restarted(self, seconds_down: int = 0, step: int = 0) -> "Server":
        """Kill it, and start another so much later, by a clock that was set meanwhile."""
        self.kill()
        return Server(self.path, self.wall + seconds_down + step)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def server(path: Path, disk: Disk) -> Server:
    return Server(path, STARTED)


# Stepped while serving


@pytest.mark.parametrize("step", STEPS)
def test_what_is_stored_after_a_step_has_its_own_time_after_a_restart(server: Server, step: int) -> None:
    server.step_wall(step)
    server.set(b"a", HOUR)
    assert server.restarted(10).left() == {b"a": HOUR - 10}


@pytest.mark.parametrize("step", STEPS)
def test_what_was_stored_before_a_step_has_too(server: Server, step: int) -> None:
    server.set(b"a", HOUR)
    server.set(b"brief", 2)
    server.step_wall(step)
    server.set(b"after", HOUR)
    assert server.restarted(9).left() == {b"a": HOUR - 10, b"after": HOUR - 9}


@pytest.mark.parametrize("step", STEPS)
def test_so_it_has_where_nothing_was_changed_after_the_step(server: Server, step: int) -> None:
    server.set(b"a", HOUR)
    server.step_wall(step)
    assert server.restarted(9).left() == {b"a": HOUR - 10}


def test_steps_add_up_and_may_undo_one_another(server: Server) -> None:
    for number, step in enumerate([DAY, -HOUR, -DAY, HOUR, -DAY]):
        server.set(b"%d" % number, 2 * HOUR)
        server.step_wall(step)
    expected = {b"%d" % number: 2 * HOUR - 5 + number for number in range(5)}
    assert server.left() == expected
    again = server.restarted()
    assert again.left() == expected
    again.step_wall(HOUR)
    assert again.restarted().left() == {key: left - 1 for key, left in expected.items()}


@pytest.mark.parametrize("step", STEPS)
def test_all_that_names_a_time_is_written_by_the_wall_clock(server: Server, step: int) -> None:
    server.step_wall(step)
    store, now = server.store, server.clock.now
    for number in range(MIN_BATCH_LINES + 1):
        store.put(b"%d" % number, make_entry(b"", pack(7, b"small"), now + 100))
    store.put(b"never", pack(0, b"small"))
    store.put(b"named", make_entry(b"", pack(0, b"small"), now + 100, 5))
    store.put(b"large", Item(pack(0, LARGE), now + 100))
    store.touch(b"1", now + 100)
    store.update(b"2", lambda old: make_entry(b"2", pack(7, b"small"), now + 100, 0, now, STALE))
    store.flush(now + 100)
    wall = server.wall
    server.kill()
    records = records_in(server.path)[1:]
    assert records[0] == Record("time", at=wall, stepped=step)
    by_wall = [record.exp or record.at for record in records[1:] if record.op != "time" and record.key != "never"]
    assert by_wall == [wall + 100] * (MIN_BATCH_LINES + 6)
    assert [record.exp for record in records if record.key == "never"] == [0]


@pytest.mark.parametrize("step", STEPS)
def test_what_is_queued_when_the_clock_is_stepped_was_done_before(server: Server, step: int) -> None:
    server.set(b"set", HOUR)
    server.store.put(b"put", make_entry(b"put", pack(0, b"value"), server.clock.now + HOUR))
    server.step_wall(step)
    server.store.put(b"after", make_entry(b"after", pack(0, b"value"), server.clock.now + HOUR))
    assert server.restarted().left() == {b"set": HOUR - 1, b"put": HOUR - 1, b"after": HOUR}
    sets = [record.exp for record in records_in(server.path) if record.op == "set"]
    assert sets == [STARTED + HOUR, STARTED + HOUR, STARTED + HOUR + 1 + step]


@pytest.mark.parametrize("step", STEPS)
def test_a_flush_that_waits_comes_when_it_should(server: Server, step: int) -> None:
    server.set(b"a", DAY)
    server.store.flush(server.clock.now + 100)
    server.step_wall(step)
    again = server.restarted(98)
    assert again.left() == {b"a": DAY - 99}
    again.advance(1)
    assert again.left() == {}


def test_what_is_long_past_or_never_stays_so(server: Server) -> None:
    server.store.store(Mode.SET, b"never", pack(0, b"value"))
    server.store.store(Mode.SET, b"past", pack(0, b"value"), 1)
    server.step_wall(-DAY)
    server.store.store(Mode.SET, b"past too", pack(0, b"value"), 1)
    again = server.restarted()
    assert [key for key, _ in again.store.items()] == [b"never"]


def test_a_step_is_told_of(server: Server) -> None:
    server.step_wall(HOUR)
    server.step_wall(-2 * HOUR)
    assert server.said == [
        "the system's clock was set forward by 3600 s; items expire as if it had not been",
        "the system's clock was set back by 7200 s; items expire as if it had not been",
    ]


# Rewriting


@pytest.mark.parametrize("moment", range(6))
@pytest.mark.parametrize("step", STEPS)
def test_a_rewrite_keeps_each_item_s_time_whenever_the_clock_is_stepped(
    server: Server, step: int, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memcache_kv.journal.compaction.ITEMS_AT_ONCE", 1)
    server.step_wall(-2 * HOUR)
    for key in (b"a", b"b", b"c"):
        server.set(key, HOUR)
    server.store.flush(server.clock.now + 2 * HOUR)
    expected = dict.fromkeys((b"a", b"b", b"c"), HOUR - 1)
    if moment == 0:
        server.step_wall(step)
    for number, _ in enumerate(Compaction(server.journal, server.store).steps(), 1):
        if number == moment:
            server.step_wall(step)
    assert server.left() == expected
    again = server.restarted()
    assert again.left() == expected
    assert again.store.flush_at - again.clock.now == 2 * HOUR - 1


def test_a_base_says_of_itself_how_far_the_clock_was_stepped(server: Server) -> None:
    server.set(b"a", HOUR)
    server.rewrite()
    assert records_in(server.path)[0].stepped is None
    server.step_wall(DAY)
    server.rewrite()
    wall = server.wall
    server.kill()
    start, item, end, *_ = records_in(server.path)
    assert (start.stepped, item.exp, end.at) == (DAY, STARTED + HOUR + DAY, wall)


# While the disk fails


@pytest.mark.parametrize("fsync", POLICIES)
@pytest.mark.parametrize("failing", ["write", "sync increment"])
def test_a_step_while_the_disk_fails_loses_no_time(
    path: Path, disk: Disk, failing: str, fsync: Fsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(path, STARTED, fsync)
    server.set(b"written", HOUR)
    server.journal.step()
    server.set(b"queued", HOUR)
    server.step_wall(-HOUR)
    server.set(b"after", HOUR)
    disk.errors[failing] = no_space()
    server.ticks.now += 10
    server.journal.step()
    server.step_wall(DAY)
    server.ticks.now += 10
    server.journal.step()
    disk.mend()
    server.ticks.now += 10
    server.journal.step()
    assert not server.journal.refuses
    assert server.restarted().left() == {b"written": HOUR - 2, b"queued": HOUR - 2, b"after": HOUR - 1}


@pytest.mark.parametrize("step", STEPS)
def test_a_rewrite_that_begins_with_what_could_not_be_written_keeps_each_item_s_time(
    path: Path, disk: Disk, step: int
) -> None:
    server = Server(path, STARTED)
    disk.errors["write"] = broken()
    server.set(b"before", HOUR)
    server.step_wall(step)
    server.journal.step()
    assert server.journal.refuses
    disk.mend()
    server.rewrite()
    assert server.restarted().left() == {b"before": HOUR - 1}


@pytest.mark.parametrize("fsync", [Fsync.EVERYSEC, Fsync.ALWAYS])
@pytest.mark.parametrize("step", STEPS)
def test_what_is_written_again_behind_a_step_that_is_on_disk_keeps_each_item_s_time(
    path: Path, disk: Disk, step: int, fsync: Fsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise broken()

    server = Server(path, STARTED, fsync)
    server.set(b"before", DAY + 2 * HOUR)
    server.step_wall(step)
    server.set(b"after", DAY + 2 * HOUR)
    server.journal.rotate()
    server.set(b"last", DAY + 2 * HOUR)
    monkeypatch.setattr(server.journal.files.file, "sync", fail)  # the first increment is synced before
    server.ticks.now += 10
    server.journal.step()
    assert server.journal.refuses
    server.ticks.now += 10
    server.journal.step()
    assert not server.journal.refuses
    left = DAY + 2 * HOUR
    assert server.restarted().left() == {b"before": left - 1, b"after": left, b"last": left}


# Before a step is written


def with_a_step_that_waits(path: Path, disk: Disk, step: int, fsync: Fsync = Fsync.EVERYSEC) -> Server:
    """Start a server, of whose two items one expires; then the clock is stepped while nothing can be written."""
    server = Server(path, STARTED, fsync)
    server.set(b"brief", 5)
    server.set(b"long", 2 * DAY)
    server.advance(10)
    server.set(b"last", 2 * DAY)
    server.journal.step()
    server.advance(1)
    server.set(b"lost", 2 * DAY)
    disk.errors["write"] = no_space()
    server.journal.step()
    disk.mend()
    assert server.journal.refuses
    server.step_wall(step)
    return server


@pytest.mark.parametrize("step", STEPS)
def test_a_file_that_is_begun_before_a_step_is_written_knows_nothing_of_it(path: Path, disk: Disk, step: int) -> None:
    server = with_a_step_that_waits(path, disk, step)
    server.journal.rotate()
    server.lose_queue()
    start = records_in(path)[-1]
    assert (start.op, start.at, start.stepped) == ("start", STARTED + 12, None)


def test_what_had_expired_stays_so_if_the_server_is_killed_before_a_step_back_is_written(
    path: Path, disk: Disk
) -> None:
    server = with_a_step_that_waits(path, disk, -HOUR)
    server.journal.rotate()
    server.lose_queue()
    again = Server(path, server.wall - 500)
    assert again.left() == {b"long": 2 * DAY - 12, b"last": 2 * DAY - 2}
    assert again.set_back == HOUR + 500


def test_a_file_that_is_begun_while_another_thread_notices_a_step_knows_nothing_of_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_next = server.journal.files.create_next

    def step_meanwhile() -> Following:
        server.step_wall(-HOUR)
        return create_next()

    server.set(b"brief", 5)
    server.set(b"long", HOUR)
    server.advance(10)
    server.set(b"last", HOUR)
    monkeypatch.setattr(server.journal.files, "create_next", step_meanwhile)
    server.journal.rotate()
    server.lose_queue()
    assert Server(server.path, server.wall - 500).left() == {b"long": HOUR - 11, b"last": HOUR - 1}


@pytest.mark.parametrize("fsync", [Fsync.EVERYSEC, Fsync.ALWAYS])
def test_a_file_that_is_begun_after_a_failed_fsync_knows_nothing_of_a_step_that_waits(
    path: Path, disk: Disk, fsync: Fsync
) -> None:
    server = Server(path, STARTED, fsync)
    server.set(b"brief", 5)
    server.set(b"long", HOUR)
    server.advance(10)
    server.set(b"last", HOUR)
    server.journal.step()
    server.ticks.now += 10
    server.journal.step()  # the time is on disk, and is not written again
    server.set(b"again", HOUR)
    disk.errors["sync increment"] = broken()
    server.journal.step()
    server.ticks.now += 10
    server.journal.step()
    assert server.journal.refuses
    server.step_wall(-HOUR)
    disk.mend()
    server.journal.sync_closed()  # writes again what may be lost, and not what waits
    server.lose_queue()
    assert Server(path, server.wall - 500).left() == {b"long": HOUR - 11, b"last": HOUR - 1, b"again": HOUR - 1}


@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_must_wait_for_the_disk_knows_nothing_of_a_step_meanwhile(
    path: Path, disk: Disk, step: int
) -> None:
    server = Server(path, STARTED)
    server.set(b"brief", 5)
    server.set(b"long", 2 * DAY)
    server.advance(10)
    server.set(b"last", 2 * DAY)
    server.kill()
    disk.errors["write"] = no_space()
    again = Server(path, server.wall, prepare=lambda: None)
    assert again.journal.refuses
    again.step_wall(step)
    disk.mend()
    again.journal.rotate()
    again.lose_queue()
    assert [record.at for record in records_in(path) if record.op == "start"] == [STARTED, STARTED + 11, STARTED + 11]


@pytest.mark.parametrize("step", STEPS)
def test_a_record_of_the_room_states_the_step_before_it(server: Server, step: int) -> None:
    server.step_wall(step)
    server.journal.set_room(Room(1000, 10))
    server.kill()
    found = [(record.op, record.at, record.stepped) for record in records_in(server.path)]
    assert found[-2:] == [("time", STARTED + 1 + step, step), ("start", STARTED + 1 + step, step)]


# Set between two runs


@pytest.mark.parametrize("back", [-10, -HOUR, -DAY])
def test_a_clock_that_is_set_back_across_a_restart_brings_nothing_back(server: Server, back: int) -> None:
    server.set(b"brief", 5)
    server.set(b"long", HOUR)
    server.advance(10)
    server.store.delete(b"brief")  # it has expired, so that there is nothing to be noted
    server.set(b"last", HOUR)
    again = server.restarted(step=back)
    assert again.set_back == -back
    expected = {b"long": HOUR - 10, b"last": HOUR}
    assert again.left() == expected
    once_more = again.restarted()
    assert once_more.left() == expected
    assert once_more.set_back == 0
    once_more.rewrite()
    assert once_more.restarted().left() == expected


def test_a_stop_notes_the_time_so_that_nothing_comes_back(server: Server) -> None:
    server.set(b"brief", 50)
    server.advance(50)
    server.stop()
    assert Server(server.path, STARTED - DAY).left() == {}


def test_what_has_expired_while_nothing_changed_does_not_come_back_after_a_kill(server: Server) -> None:
    server.set(b"brief", 50)
    for _ in range(100):
        server.advance(1)
        server.ticks.now += 1
        server.journal.step()
    server.kill()
    assert Server(server.path, STARTED - DAY).left() == {}


@pytest.mark.parametrize("forward", [10, HOUR, DAY])
def test_a_clock_that_is_ahead_at_a_restart_is_taken_for_time_that_has_passed(server: Server, forward: int) -> None:
    server.set(b"brief", 5)
    server.set(b"long", 2 * DAY)
    again = server.restarted(step=forward)
    assert again.set_back == 0
    assert again.left() == {b"long": 2 * DAY - forward}


def test_a_journal_that_never_met_a_step_says_nothing_of_it(server: Server) -> None:
    server.set(b"a", HOUR)
    server.advance(1)
    server.rewrite()
    again = server.restarted(5)
    again.set(b"b", HOUR)
    again.stop()
    assert b"stepped" not in b"".join(file.read_bytes() for file in server.path.iterdir())


def test_what_a_base_left_out_as_expired_does_not_come_back_from_a_kept_generation(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base alone would know of the time, and it is not read behind a kept generation."""
    server = Server(path, STARTED, keep=1)
    server.set(b"brief", 5)
    server.set(b"long", HOUR)
    rotate = server.journal.rotate

    def rotate_and_wait() -> int:
        number = rotate()
        server.advance(5)
        return number

    monkeypatch.setattr(server.journal, "rotate", rotate_and_wait)
    server.rewrite()
    server.lose_queue()
    again = Server(path, server.wall - 500, keep=1)
    kept = ItemStore(again.clock, shards=1)
    recover(path, SystemDisk(), manifest_in(path).since(0), kept)
    from_kept = {key: deadline_of(entry) - again.clock.now for key, entry in kept.items()}
    assert again.left() == from_kept == {b"long": HOUR - 5}


# The tools, by a clock that was set back since


def set_tools_clock(monkeypatch: pytest.MonkeyPatch, wall: int) -> None:
    """Let the tools have this time."""
    for module in (division, load, restore):
        monkeypatch.setattr(module, "Clock", lambda: FakeClock(wall))
    monkeypatch.setattr("memcache_kv.journal.tools.rewrite.unix_seconds", lambda: wall)
    monkeypatch.setattr("memcache_kv.journal.tools.rewrite.time", SimpleNamespace(time_ns=lambda: wall))


def stopped_with_expired(server: Server) -> int:
    """Leave a journal of what has expired and what has an hour left; return the time."""
    server.set(b"brief", 5)
    server.advance(10)
    server.set(b"last", HOUR)
    server.stop()
    return server.wall


def test_an_export_has_nothing_that_had_expired(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = stopped_with_expired(server) - HOUR
    set_tools_clock(monkeypatch, wall)
    with take_snapshot(server.path) as snapshot, division.DividedJournal(snapshot) as divided:
        assert {key: deadline_of(entry) for key, entry in divided.items()} == {b"last": wall + HOUR}


def test_what_is_loaded_brings_nothing_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = stopped_with_expired(server) - HOUR
    set_tools_clock(monkeypatch, wall)
    with closing(JournalDirectory(server.path)) as directory:
        load.load(directory, [load.SourceItem(b"loaded", b"value", exp=wall + HOUR)])
    assert Server(server.path, wall).left() == {b"last": HOUR, b"loaded": HOUR}


def test_a_repair_brings_nothing_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.set(b"damaged", HOUR)
    wall = stopped_with_expired(server) - HOUR
    set_tools_clock(monkeypatch, wall)
    increment = server.path / FIRST
    increment.write_bytes(increment.read_bytes().replace(b"damaged", b"Damaged"))
    with closing(JournalDirectory(server.path)) as directory:
        found = verify(server.path)
        repair.carry_out(repair.make_plan(found), found, directory)
    assert Server(server.path, wall).left() == {b"last": HOUR}


@pytest.mark.parametrize("step", STEPS)
def test_what_is_restored_has_the_time_that_was_left_to_it(
    server: Server, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.set(b"a", HOUR)
    server.advance(5)
    server.set(b"later", HOUR)
    server.step_wall(step)
    server.set(b"last", HOUR)
    server.stop()
    set_tools_clock(monkeypatch, server.wall)
    with closing(JournalDirectory(server.path)) as directory, take_snapshot(server.path) as snapshot:
        restore.Rewinding(snapshot, STARTED).carry_out(directory)
    assert Server(server.path, server.wall).left() == {b"a": HOUR - 6}


def restored(server: Server, until: int, monkeypatch: pytest.MonkeyPatch, now: int | None = None) -> str:
    """End the server, if it runs, and return the keys that a restore leaves."""
    if server.runs:
        server.stop()
    set_tools_clock(monkeypatch, server.wall if now is None else now)
    with closing(JournalDirectory(server.path)) as directory, take_snapshot(server.path) as snapshot:
        restore.Rewinding(snapshot, until).carry_out(directory)
    return " ".join(sorted(key.decode() for key in Server(server.path, server.wall).left()))


def each_minute(server: Server, *keys: bytes) -> None:
    """Store one key in each of the next minutes."""
    for key in keys:
        server.advance(60)
        server.set(key, 30 * DAY)


MINUTES = [(30, ""), (60, "a"), (119, "a"), (120, "a b")]
"""For some seconds after STARTED, what was stored by then if the clock was never set."""


@pytest.mark.parametrize(("seconds", "left"), MINUTES)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_comes_later_moves_no_moment(
    server: Server, step: int, seconds: int, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    each_minute(server, b"a", b"b")
    server.advance(30)
    server.step_wall(step)
    each_minute(server, b"c")
    assert restored(server, STARTED + seconds, monkeypatch) == left


@pytest.mark.parametrize(
    ("until", "left"),
    [
        (60, "a"),  # before the clock was wrong
        (100, "a"),
        (150, "a"),  # it was set forward over this
        (60 + HOUR + 60, "a wrong"),  # while it was wrong, and not since
        (60 + HOUR + 90, "a wrong"),
        (60 + 182, "a right wrong"),  # after it was put right
        (60 + 241, "a right wrong"),
        (60 + 242, "a later right wrong"),
    ],
)
def test_a_clock_that_was_wrong_for_a_while_moves_no_moment(
    server: Server, until: int, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    each_minute(server, b"a")
    server.step_wall(HOUR - 1)
    each_minute(server, b"wrong")
    server.advance(60)
    server.step_wall(1 - HOUR)
    each_minute(server, b"right", b"later")
    assert restored(server, STARTED + until, monkeypatch) == left


def test_of_two_moments_that_the_clock_showed_the_last_one_counts(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    each_minute(server, b"a", b"b", b"c")
    server.step_wall(-120)
    each_minute(server, b"d", b"e")
    server.stop()
    with take_snapshot(server.path) as snapshot:
        moment = restore.Rewinding(snapshot, STARTED + 125).rewound.moment
    assert moment.passes == 2
    assert restored(server, STARTED + 125, monkeypatch) == "a b c d"


def test_a_clock_that_was_behind_for_a_while_moves_no_moment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    each_minute(server, b"a", b"b")
    server.step_wall(-DAY)
    each_minute(server, b"wrong")
    server.step_wall(DAY)
    each_minute(server, b"right")
    assert restored(server, STARTED + 90, monkeypatch) == "a"


def test_a_clock_that_is_set_back_across_a_restart_moves_no_moment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    each_minute(server, b"a", b"b")
    again = server.restarted(step=-DAY)
    each_minute(again, b"c", b"d")
    assert restored(again, STARTED - DAY + 180, monkeypatch) == "a b c"


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_what_follows_a_rewrite_can_be_restored_whatever_its_time(
    server: Server, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    each_minute(server, b"a", b"b")
    server.rewrite()
    server.step_wall(step)
    each_minute(server, b"c", b"d")
    assert restored(server, server.wall - 30, monkeypatch) == "a b c"


def test_what_precedes_a_rewrite_cannot_be_restored_though_the_clock_showed_it_since_the_rotation(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base holds what was stored while it was written."""
    steps = Compaction(server.journal, server.store).steps()
    each_minute(server, b"a")
    next(steps)
    each_minute(server, b"b", b"c")
    for _ in steps:
        pass
    each_minute(server, b"d")
    wall = server.wall
    with pytest.raises(JournalError, match="can be restored to"):
        restored(server, wall - 90, monkeypatch)
    assert restored(server, wall - 30, monkeypatch) == "a b c"


def test_a_time_to_come_keeps_everything(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    each_minute(server, b"a")
    assert restored(server, server.wall + DAY, monkeypatch) == "a"
