"""Reading a journal back: what is restored, what is cut off, and what is refused."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from memcache_kv.errors import JournalCorrupt, JournalError
from memcache_kv.journal import Manifest, Recovered, recover, recovery
from memcache_kv.journal.codec import rechained
from memcache_kv.journal.disk import SystemDisk
from memcache_kv.journal.manifest import FORMER_NAME, MANIFEST_NAME, Part, base_name, increment_name
from memcache_kv.journal.record import (
    FORMAT_VERSION,
    Record,
    Room,
    last_crc,
    line_of,
    mark_record,
    parse_line,
    put_key,
    set_line,
)
from memcache_kv.journal.recovery import ExpiredEntries, survey
from memcache_kv.store import ItemStore, Mode, Outcome
from memcache_kv.store.entry import STALE, Entry, pack
from memcache_kv.store.restoring import SLACK_PART, IsNeeded, LeaveOut, Restoring, leave_out
from tests.fake_clock import FakeClock
from tests.journal.history import History, Step, cut_copy_of, replay, shown, steps, two_record_steps
from tests.journal.journals import (
    FIRST,
    START,
    STARTED,
    as_chained,
    chained,
    make_journal,
    manifest_in,
    names_in,
    write_manifest,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal's directory that is not there yet."""
    return tmp_path / "journal"


@pytest.fixture
def history(path: Path) -> Callable[..., History]:
    """Make a journal of steps: `history(("plain", b"a", 0, b"1"), …)`."""
    return lambda *given_steps: History(path).play(list(given_steps))


def store_step(key: bytes, value: bytes, ttl: int = 0, mode: Mode = Mode.SET, flags: int = 0) -> Step:
    return ("store", mode, key, flags, ttl, value)


def values_at(path: Path, now: int) -> dict[bytes, bytes]:
    """Values in a journal, as a server that starts at this time has them."""
    return {key: value for key, (value, *_) in shown(replay(path, now)[0]).items()}


# Any history


@given(st.lists(steps | two_record_steps, max_size=25), st.integers(0, 5))
def test_replay_gives_the_store_that_was(history_steps: list[Step], seconds_down: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        history = History(Path(directory, "journal")).play(history_steps)
        now = history.clock.now + seconds_down
        store, found = replay(history.path, now)
        assert shown(store) == history.moments[-1].seen_at(now)
        assert found.records == history.journal.position + 1
        assert found.torn_bytes == 0


@given(st.lists(steps, min_size=1, max_size=25), st.floats(0, 1), st.integers(0, 5))
def test_a_journal_cut_off_anywhere_gives_the_store_after_some_prefix(
    history_steps: list[Step], where: float, seconds_down: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        history = History(Path(directory, "journal")).play(history_steps)
        cut_and_compare(history, int(where * (history.path / FIRST).stat().st_size), seconds_down)


@given(st.lists(steps | two_record_steps, max_size=25), st.integers(0, 5))
def test_replay_gives_the_same_where_what_has_expired_is_not_kept_but_for_what_is_touched_later(
    history_steps: list[Step], seconds_down: int
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "EXPIRED_BYTES", 0)
        history = History(Path(directory, "journal")).play(history_steps)
        now = history.clock.now + seconds_down
        assert shown(replay(history.path, now)[0]) == history.moments[-1].seen_at(now)


@pytest.mark.long
def test_a_journal_cut_off_at_every_single_byte_gives_the_store_after_some_prefix(
    history: Callable[..., History],
) -> None:
    written = history(
        store_step(b"a", b"1", flags=7),
        ("gets", b"a"),
        ("plain", b"b", 0, b"41"),
        ("delta", b"b", 1),
        store_step(b"\xff key", b"\xff", ttl=1),
        ("touch", b"\xff key", 1000),
        ("flush_later", 4),
        ("advance", 2),
        ("delete", b"a"),
        ("advance", 2),
        store_step(b"a", "grün".encode()),
    )
    for length in range((written.path / FIRST).stat().st_size + 1):
        cut_and_compare(written, length, 0)


def cut_and_compare(history: History, length: int, seconds_down: int) -> None:
    """Replay the first bytes of a journal, and compare with the history up to its last whole record."""
    copy = cut_copy_of(history.path, "cut", length)
    content = (copy / FIRST).read_bytes()
    whole = content.rfind(b"\n") + 1
    now = history.clock.now + seconds_down
    store, found = replay(copy, now)
    assert shown(store) == history.after(content.count(b"\n") - 1 if whole else 0).seen_at(now)
    assert found.torn_bytes == length - whole
    assert (copy / FIRST).read_bytes() == content[:whole]


# The end


def test_a_torn_last_line_is_cut_off_kept_in_a_copy_and_reported(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1"), store_step(b"b", b"2"))
    torn = set_line(b"c", 0, 0, 0, b"3")[:-1]
    whole = (written.path / FIRST).read_bytes()
    (written.path / FIRST).write_bytes(whole + torn)
    store, found = replay(written.path, STARTED)
    assert set(shown(store)) == {b"a", b"b"}
    assert found.torn_bytes == len(torn)
    assert found.torn_copy is not None
    assert found.torn_copy.read_bytes() == torn
    assert found.torn_copy.parent == written.path
    assert (written.path / FIRST).read_bytes() == whole


def test_a_journal_whose_torn_end_was_cut_off_is_read_again_without_remark(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1"))
    with (written.path / FIRST).open("ab") as file:
        file.write(b'{"crc":"0000')
    assert replay(written.path, STARTED)[1].torn_copy is not None
    again = replay(written.path, STARTED)[1]
    assert (again.torn_bytes, again.torn_copy) == (0, None)


def test_zeros_that_a_power_loss_left_behind_the_last_record_are_cut_off(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1"))
    with (written.path / FIRST).open("ab") as file:
        file.write(bytes(4096))
    store, found = replay(written.path, STARTED)
    assert set(shown(store)) == {b"a"}
    assert found.torn_bytes == 4096


def test_a_torn_line_longer_than_one_read_is_kept_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memcache_kv.journal.disk.BLOCK_BYTES", 64)
    torn = set_line(b"long", 0, 0, 0, b"x" * 1000)[:-1]
    make_journal(path, START + set_line(b"a", 0, 0, 0, b"y" * 500) + torn)
    store, found = replay(path, STARTED)
    assert set(shown(store)) == {b"a"}
    assert found.torn_copy is not None
    assert found.torn_copy.read_bytes() == torn


def test_a_journal_is_read_the_same_in_pieces_of_any_size(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [b"%d" % number for number in range(30)]
    make_journal(path, START + b"".join(set_line(key, 0, 0, 0, key * 5) for key in keys))
    for size in (1, 2, 3, 64, len(START), len(START) + 1, 1 << 20):
        monkeypatch.setattr("memcache_kv.journal.disk.BLOCK_BYTES", size)
        assert values_at(path, STARTED) == {key: key * 5 for key in keys}


# What is refused


@pytest.mark.parametrize("damage", [b"\x00", b"\n", b"}", b"X"])
def test_a_damaged_record_in_the_middle_is_refused_with_file_and_offset(path: Path, damage: bytes) -> None:
    first = set_line(b"a", 0, 0, 0, b"1")
    content = bytearray(chained(START, first, set_line(b"b", 0, 0, 0, b"2"), set_line(b"c", 0, 0, 0, b"3")))
    offset = len(START + first)
    content[offset + 20 : offset + 21] = damage
    make_journal(path, bytes(content), known=len(content))
    (path / FIRST).write_bytes(content)
    with pytest.raises(JournalCorrupt) as caught:
        replay(path, STARTED)
    assert str(path) in str(caught.value)
    assert f"offset {offset}:" in str(caught.value)
    assert (path / FIRST).read_bytes() == content


def test_a_lost_line_feed_in_the_middle_is_refused(path: Path) -> None:
    content = START + set_line(b"a", 0, 0, 0, b"1")[:-1] + set_line(b"b", 0, 0, 0, b"2")
    make_journal(path, content, known=len(content))
    with pytest.raises(JournalCorrupt, match=f"offset {len(START)}:"):
        replay(path, STARTED)


def test_a_hole_of_zeros_in_the_middle_is_refused(path: Path) -> None:
    make_journal(path, START + bytes(512) + set_line(b"b", 0, 0, 0, b"2"), known=len(START) + 512)
    with pytest.raises(JournalCorrupt, match=f"offset {len(START)}:"):
        replay(path, STARTED)


@pytest.mark.parametrize(
    "content",
    [
        b"not a journal\n",
        b"not a journal, and without a line feed",
        b'{"op":"set","key":"a","value":"b"}\n',
        b"\x7fELF\x02\x01\x01" + bytes(100),
        b"\n",
    ],
)
def test_a_foreign_file_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    make_journal(path, content)
    with pytest.raises(JournalCorrupt, match=str(path)):
        replay(path, STARTED)
    assert (path / FIRST).read_bytes() == content
    assert names_in(path) == {FIRST, MANIFEST_NAME}


def test_a_journal_without_its_beginning_is_refused(path: Path) -> None:
    make_journal(path, set_line(b"a", 0, 0, 0, b"1"))
    with pytest.raises(JournalCorrupt, match="does not begin with a start record"):
        replay(path, STARTED)


def test_a_newer_format_is_refused_with_its_number(path: Path) -> None:
    make_journal(path, line_of(Record("start", version=FORMAT_VERSION + 1)) + set_line(b"a", 0, 0, 0, b"1"))
    with pytest.raises(JournalError, match=f"format {FORMAT_VERSION + 1}"):
        replay(path, STARTED)


def test_a_file_that_cannot_be_read_is_refused(path: Path) -> None:
    make_journal(path, START).unlink()
    (path / FIRST).mkdir()
    with pytest.raises(JournalError, match="can't read the journal"):
        replay(path, STARTED)


# What is an ordinary beginning


def test_an_empty_file_is_an_empty_journal(path: Path) -> None:
    make_journal(path, b"")
    store, found = replay(path, STARTED)
    assert (shown(store), found.records, found.torn_bytes) == ({}, 0, 0)


def test_a_journal_that_ended_in_its_first_record_is_an_empty_one(path: Path) -> None:
    make_journal(path, START[:10])
    store, found = replay(path, STARTED)
    assert (shown(store), found.torn_bytes) == ({}, 10)


def test_progress_is_told_up_to_the_end(history: Callable[..., History]) -> None:
    written = history(*(store_step(b"%d" % number, b"x") for number in range(50)))
    told: list[tuple[int, int, int]] = []
    manifest = manifest_in(written.path)
    recover(written.path, SystemDisk(), manifest, ItemStore(written.clock), lambda *figures: told.append(figures))
    size = (written.path / FIRST).stat().st_size
    assert told[-1] == (size, size, 52)
    assert told == sorted(told)


# Time


def test_items_that_expired_while_down_are_not_brought_back(history: Callable[..., History]) -> None:
    written = history(store_step(b"brief", b"1", ttl=10), store_step(b"long", b"2", ttl=11), store_step(b"ever", b"3"))
    assert set(values_at(written.path, STARTED + 9)) == {b"brief", b"long", b"ever"}
    assert set(values_at(written.path, STARTED + 10)) == {b"long", b"ever"}
    assert set(values_at(written.path, STARTED + 11)) == {b"ever"}


def test_an_expired_set_removes_the_older_value(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"old"), store_step(b"a", b"new", ttl=10))
    assert values_at(written.path, STARTED + 10) == {}


def test_a_touch_that_expired_removes_the_value(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1"), ("touch", b"a", 10))
    assert values_at(written.path, STARTED + 9) == {b"a": b"1"}
    assert values_at(written.path, STARTED + 10) == {}


@pytest.mark.parametrize("ttl", [0, 1000])
def test_an_item_touched_before_it_expired_outlives_its_first_deadline(
    history: Callable[..., History], ttl: int
) -> None:
    written = history(store_step(b"a", b"1", ttl=10, flags=5), ("gets", b"a"), ("touch", b"a", ttl))
    store, _ = replay(written.path, STARTED + 20)
    assert shown(store) == {b"a": (b"1", 5, STARTED + ttl if ttl else 0, 1, 0)}


def test_an_item_that_expired_before_it_was_touched_stays_away(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1", ttl=10), ("advance", 10), ("touch", b"a", 1000))
    assert values_at(written.path, STARTED + 20) == {}


@pytest.mark.parametrize("end", [("delete", b"a"), ("flush",), store_step(b"a", b"2", ttl=5)])
def test_an_expired_item_does_not_come_back_by_a_touch_of_what_followed_it(
    history: Callable[..., History], end: Step
) -> None:
    written = history(store_step(b"a", b"1", ttl=10), end, ("touch", b"a", 12), ("touch", b"a", 1000))
    assert values_at(written.path, STARTED + 20) == ({b"a": b"2"} if end[0] == "store" else {})


def test_a_flush_that_waits_survives_a_restart(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1"), ("flush_later", 10))
    store, _ = replay(written.path, STARTED + 5)
    assert set(shown(store)) == {b"a"}
    assert store.flush_at == STARTED + 10


def test_a_flush_whose_time_passed_while_down_takes_all_that_was_stored_before_that_time(
    history: Callable[..., History],
) -> None:
    written = history(store_step(b"a", b"1"), ("flush_later", 10), store_step(b"b", b"2"))
    assert values_at(written.path, STARTED + 10) == {}


def test_what_was_stored_after_a_flush_took_place_stays(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1"), ("flush_later", 10), ("advance", 10), store_step(b"b", b"2"))
    assert values_at(written.path, STARTED + 100) == {b"b": b"2"}


def test_a_flush_that_another_replaced_is_forgotten(history: Callable[..., History]) -> None:
    written = history(("flush_later", 10), ("flush",), store_step(b"a", b"1"))
    assert values_at(written.path, STARTED + 10) == {b"a": b"1"}


def test_deleted_and_flushed_keys_do_not_come_back(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1"), store_step(b"b", b"2"), ("delete", b"a"))
    assert values_at(written.path, STARTED) == {b"b": b"2"}
    with (written.path / FIRST).open("ab") as file:
        file.write(rechained(line_of(Record("flush")), last_crc((written.path / FIRST).read_bytes()))[0])
    assert values_at(written.path, STARTED) == {}


@settings(max_examples=20)
@given(st.lists(steps, max_size=12), st.lists(steps, max_size=12))
def test_a_second_run_goes_on_where_the_first_ended(first: list[Step], second: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "journal")
        before = History(path).play(first)
        now = before.clock.now
        again = History.resume(path, now).play(second)
        assert again.moments[1].table == before.moments[-1].seen_at(now)
        store, _ = replay(path, again.clock.now)
        assert shown(store) == again.moments[-1].seen_at(again.clock.now)


@pytest.mark.parametrize("chosen", [2**33, 2**63, 2**64 - 1])
def test_an_id_that_a_client_chose_does_not_use_up_those_of_the_next_runs(path: Path, chosen: int) -> None:
    History(path).play([("plain", b"a", 0, b"1"), ("gets", b"a"), ("chosen", b"b", b"2", chosen)])
    store, found = replay(path, STARTED)
    assert shown(store) == {b"a": (b"1", 0, 0, 1, 0), b"b": (b"2", 0, 0, chosen, 0)}
    assert found.last_cas == 1
    assert found.next_run() == 1 << 32


# What has expired


def expiring_line(key: bytes, exp: int) -> bytes:
    return set_line(key, 0, exp, 0, b"x" * 1000)


def touch_line(key: bytes, exp: int) -> bytes:
    return line_of(put_key(Record("touch", exp=exp), key))


def recovered(path: Path, store: ItemStore) -> Recovered:
    """Read a journal into this store."""
    return recover(path, SystemDisk(), manifest_in(path), store)


@pytest.mark.parametrize("expired_bytes", [0, 10_000, recovery.EXPIRED_BYTES])
def test_what_was_kept_alive_by_touches_is_found_beside_any_amount_that_expired(
    path: Path, monkeypatch: pytest.MonkeyPatch, expired_bytes: int
) -> None:
    monkeypatch.setattr(recovery, "EXPIRED_BYTES", expired_bytes)
    touched = [b"touched%02d" % number for number in range(50)]
    lines = [expiring_line(key, STARTED + 10) for key in touched]
    lines += [expiring_line(b"%d" % number, STARTED + 10) for number in range(1000)]
    lines += [touch_line(key, STARTED + 20) for key in touched]
    lines += [expiring_line(b"more%d" % number, STARTED + 10) for number in range(1000)]
    lines += [touch_line(key, STARTED + 1000) for key in touched[1:]]
    lines += [touch_line(key, STARTED + 30) for key in touched[:1]]
    make_journal(path, START + b"".join(lines))
    store = ItemStore(FakeClock(STARTED + 100), limit_bytes=200_000, shards=2)
    found = recovered(path, store)
    assert set(shown(store)) == set(touched[1:])
    assert (found.no_room, found.expired) == (0, 2001)


def test_little_is_kept_of_what_has_expired_and_stays_so() -> None:
    asked = []

    def is_needed(key: bytes, entry: Entry) -> bool:
        asked.append(key)
        return key in (b"5", b"500")

    expired = ExpiredEntries(is_needed, 10_000)
    for number in range(1000):
        expired.put(b"%d" % number, pack(0, b"x" * 1000))
        assert len(expired) < 11
    assert {key for table in expired.tables for key in table} == {b"5", b"500"}
    assert len(asked) <= 1001, "most are asked for once"


def test_what_is_needed_may_take_any_room_and_is_looked_at_rarely() -> None:
    needed = {b"%d" % number for number in range(500)}
    asked = []

    def is_needed(key: bytes, entry: Entry) -> bool:
        asked.append(key)
        return key in needed

    expired = ExpiredEntries(is_needed, 10_000)
    for number in range(1000):
        expired.put(b"%d" % number, pack(0, b"x" * 1000))
    assert set(expired.tables[0]) == needed
    assert len(asked) < 3000
    expired.drop_oldest(expired.bytes - 3000)
    assert [*expired.tables[0]] == [b"498", b"499"]


# The room there is


class WatchedStore(ItemStore):
    """A store that remembers how much its items took at most, as far as the replay's checks show."""

    most_bytes = most_items = 0

    def restoring(self, leave_out: LeaveOut = leave_out) -> Restoring:
        restoring = super().restoring(leave_out)
        hold = restoring.hold

        def hold_and_look(is_needed: IsNeeded, other_bytes: int, other_items: int) -> None:
            hold(is_needed, other_bytes, other_items)
            self.most_bytes = max(self.most_bytes, self.used_bytes + other_bytes)
            self.most_items = max(self.most_items, len(self) + other_items)

        restoring.hold = hold_and_look  # type: ignore[method-assign, assignment]
        return restoring


@pytest.fixture
def _checks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a replay check the limits after each record."""
    monkeypatch.setattr(recovery, "HELD_AFTER_RECORDS", 1)


ROOM_BYTES = 150_000
MOST_BYTES = ROOM_BYTES + ROOM_BYTES // SLACK_PART
KEYS = [b"%03d" % number for number in range(300)]


def value_line(key: bytes) -> bytes:
    return set_line(key, 0, 0, 0, b"x" * 1000)


def delete_line(key: bytes) -> bytes:
    return line_of(put_key(Record("delete"), key))


@pytest.mark.usefixtures("_checks_often")
@pytest.mark.parametrize("evicts", [True, False])
def test_the_limit_holds_while_the_journal_is_read(path: Path, evicts: bool) -> None:
    make_journal(path, START + b"".join(map(value_line, KEYS)) + b"".join(map(delete_line, KEYS[100:])))
    store = WatchedStore(FakeClock(STARTED), limit_bytes=ROOM_BYTES, shards=2, evicts=evicts)
    found = recovered(path, store)
    assert store.most_bytes <= MOST_BYTES
    assert set(shown(store)) <= set(KEYS[:100])
    lost = 100 - len(store)
    assert 0 < lost <= found.no_room <= lost + 20, "most of those that were deleted later are not counted"


@pytest.mark.usefixtures("_checks_often")
@pytest.mark.parametrize("evicts", [True, False])
@pytest.mark.parametrize("room", [Room(ROOM_BYTES), Room(1 << 26, 100)])
def test_what_fits_at_every_time_is_restored_as_a_whole(path: Path, room: Room, evicts: bool) -> None:
    lines = []
    for number, key in enumerate(KEYS):
        lines += [delete_line(KEYS[number - 100])] * (number >= 100) + [value_line(key)]
    make_journal(path, START + b"".join(lines))
    store = WatchedStore(
        FakeClock(STARTED), limit_bytes=room.limit_bytes, max_items=room.max_items, shards=2, evicts=evicts
    )
    assert recovered(path, store).no_room == 0
    assert set(shown(store)) == set(KEYS[200:])


@pytest.mark.usefixtures("_checks_often")
@pytest.mark.parametrize("room", [Room(ROOM_BYTES), Room(1 << 26, 100)])
@pytest.mark.parametrize("exp", [0, STARTED + 1000])
def test_what_is_touched_later_is_not_left_out_before_that(path: Path, room: Room, exp: int) -> None:
    touched = KEYS[:20]
    lines = [set_line(key, 0, STARTED + 10, 0, b"x" * 1000) for key in touched]
    lines += [value_line(key) for key in KEYS[20:]]
    lines += [touch_line(key, exp) for key in touched[:10]]
    lines += [line_of(put_key(mark_record(exp, 0, STALE), key)) for key in touched[10:]]
    make_journal(path, START + b"".join(lines))
    for now in (STARTED, STARTED + 100):  # at the second time, they have all expired but for the touches
        store = WatchedStore(FakeClock(now), limit_bytes=room.limit_bytes, max_items=room.max_items, shards=1)
        found = recovered(path, store)
        assert set(touched) <= set(shown(store))
        assert found.no_room == 300 - len(store) > 0
        assert store.most_bytes <= room.limit_bytes + room.limit_bytes // SLACK_PART
        assert store.most_items <= 101 or not room.max_items


@pytest.mark.usefixtures("_checks_often")
def test_what_was_touched_for_the_last_time_is_left_out_as_others_are(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memcache_kv.journal.disk.BLOCK_BYTES", 512)
    lines = [*map(value_line, KEYS[:20]), *(touch_line(key, 0) for key in KEYS[:20]), *map(value_line, KEYS[20:])]
    make_journal(path, START + b"".join(lines))
    store = ItemStore(FakeClock(STARTED), max_items=100, shards=1)
    recovered(path, store)
    assert set(shown(store)) == set(KEYS[200:])


@pytest.mark.usefixtures("_checks_often")
def test_many_expired_values_take_none_of_the_room(path: Path) -> None:
    lines = [*map(value_line, KEYS[:100])]
    lines += [expiring_line(b"brief%d" % number, STARTED + 10) for number in range(1000)]
    make_journal(path, START + b"".join(lines))
    store = WatchedStore(FakeClock(STARTED + 100), limit_bytes=ROOM_BYTES, shards=1)
    found = recovered(path, store)
    assert set(shown(store)) == set(KEYS[:100])
    assert (found.no_room, found.expired) == (0, 1000)
    assert store.most_bytes <= MOST_BYTES


@pytest.mark.usefixtures("_checks_often")
def test_the_room_is_enough_when_the_clock_was_set_forward(path: Path) -> None:
    lines = [expiring_line(b"brief%d" % number, STARTED + 10) for number in range(1000)]
    lines += [expiring_line(key, STARTED + 50) for key in KEYS[:100]]
    lines += [line_of(Record("time", at=STARTED + 80, stepped=60))]
    make_journal(path, START + b"".join(lines))
    store = WatchedStore(FakeClock(STARTED + 80), limit_bytes=ROOM_BYTES, shards=1)
    found = recovered(path, store)
    assert set(shown(store)) == set(KEYS[:100])
    assert found.no_room == 0
    assert store.most_bytes <= MOST_BYTES


@pytest.mark.usefixtures("_checks_often")
def test_a_flush_makes_room(path: Path) -> None:
    lines = [*map(value_line, KEYS[:200]), line_of(Record("flush")), *map(value_line, KEYS[200:])]
    make_journal(path, START + b"".join(lines))
    store = WatchedStore(FakeClock(STARTED), limit_bytes=ROOM_BYTES, shards=2)
    assert recovered(path, store).no_room == 0
    assert set(shown(store)) == set(KEYS[200:])
    assert store.most_bytes <= MOST_BYTES


@pytest.mark.parametrize("evicts", [True, False])
def test_what_does_not_fit_in_the_end_is_counted(path: Path, evicts: bool) -> None:
    keys = [b"%03d" % number for number in range(300)]
    make_journal(path, START + b"".join(set_line(key, 0, 0, 0, b"x" * 1000) for key in keys))
    store = ItemStore(FakeClock(STARTED), limit_bytes=150_000, shards=1, evicts=evicts)
    found = recovered(path, store)
    assert store.used_bytes <= 150_000
    assert found.no_room == 300 - len(store) > 0
    assert set(shown(store)) == set(keys[-len(store) :])
    assert store.store(Mode.SET, b"new", pack(0, b"x" * 2000)) is (Outcome.STORED if evicts else Outcome.NO_MEMORY)
    assert store.used_bytes <= 150_000


def test_a_survey_finds_what_a_recovery_does_and_keeps_nothing(path: Path) -> None:
    written = History(path).play([store_step(b"a", b"1"), ("gets", b"a"), ("plain", b"b", 0, b"2"), ("delete", b"b")])
    with (path / FIRST).open("ab") as file:
        file.write(b'{"crc":"0')
    surveyed = survey(path, SystemDisk(), manifest_in(path), STARTED)
    found = recovered(path, ItemStore(written.clock))
    assert (surveyed.records, surveyed.last_cas, surveyed.room) == (found.records, found.last_cas, found.room)
    assert surveyed.bytes == found.bytes
    assert surveyed.torn_bytes == 9


def test_a_survey_refuses_what_a_recovery_does(path: Path) -> None:
    content = START + set_record(b"a", b"1") + set_record(b"b", b"2")
    make_journal(path, content, known=len(content))
    (path / FIRST).write_bytes((path / FIRST).read_bytes().replace(b'"b"', b'"c"'))
    with pytest.raises(JournalCorrupt, match=f"damaged at offset {len(START + set_record(b'a', b'1'))}"):
        survey(path, SystemDisk(), manifest_in(path), STARTED)


# Several files


def make_parts(path: Path, base: bytes | None, *increments: bytes) -> None:
    """Make a journal of these files, known to be as long as they are. Each continues the one before."""
    path.mkdir()
    base, increments = base and as_chained(base), tuple(following(increments))
    first = 1 if base is None else 2
    parts = [Part(increment_name(number), len(content)) for number, content in enumerate(increments, first)]
    for part, content in zip(parts, increments, strict=True):
        (path / part.name).write_bytes(content)
    base_part = None
    if base is not None:
        base_part = Part(base_name(2), len(base))
        (path / base_part.name).write_bytes(base)
    write_manifest(path, Manifest(FORMAT_VERSION, base_part, tuple(parts)))


def following(increments: tuple[bytes, ...]) -> Iterator[bytes]:
    """Chain the lines of increments, and let each state how the one before it ends."""
    before = ""
    for content in increments:
        start, _, rest = content.partition(b"\n")
        whole = as_chained(line_of(replace(parse_line(start), follows=before)) + rest)
        yield whole
        if whole.endswith(b"\n"):
            before = f"{last_crc(whole):08x}"


def set_record(key: bytes, value: bytes) -> bytes:
    return set_line(key, 0, 0, 0, value)


def end_record(count: int) -> bytes:
    return line_of(Record("end", count=count))


def test_the_base_is_read_first_and_then_the_increments_in_order(path: Path) -> None:
    base = START + set_record(b"a", b"base") + set_record(b"b", b"base") + set_record(b"c", b"base") + end_record(4)
    make_parts(path, base, START + set_record(b"b", b"2") + set_record(b"c", b"2"), START + set_record(b"c", b"3"))
    assert values_at(path, STARTED) == {b"a": b"base", b"b": b"2", b"c": b"3"}


def test_what_stands_behind_the_known_end_of_an_earlier_file_is_no_part_of_the_journal(path: Path) -> None:
    make_parts(path, None, START + set_record(b"a", b"2"), START + set_record(b"b", b"3"))
    with (path / increment_name(1)).open("ab") as file:
        file.write(bytes(100) + set_record(b"c", b"lost"))
    assert values_at(path, STARTED) == {b"a": b"2", b"b": b"3"}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_base_that_does_not_hold_as_many_records_as_it_says_is_refused(path: Path, count: int) -> None:
    make_parts(path, START + set_record(b"a", b"1") + end_record(count), START)
    with pytest.raises(JournalCorrupt, match="not a complete base"):
        replay(path, STARTED)


@pytest.mark.parametrize("base", [START, START + set_record(b"a", b"1"), b""])
def test_a_base_without_its_end_is_refused(path: Path, base: bytes) -> None:
    make_parts(path, base, START)
    with pytest.raises(JournalCorrupt, match="not a complete base"):
        replay(path, STARTED)


def test_an_earlier_file_that_ends_within_a_record_is_refused(path: Path) -> None:
    make_parts(path, None, START + set_record(b"a", b"2")[:-5], START)
    with pytest.raises(JournalCorrupt, match=f"offset {len(START)}: a record is cut off"):
        replay(path, STARTED)


def test_the_last_file_with_zeros_where_records_are_known_to_have_been_is_refused(path: Path) -> None:
    record = set_record(b"a", b"1")
    make_journal(path, START + bytes(len(record)), known=len(START + record))
    with pytest.raises(JournalCorrupt, match=f"damaged at offset {len(START)}"):
        replay(path, STARTED)


def test_progress_is_told_over_all_files(path: Path) -> None:
    base = START + end_record(1)
    make_parts(path, base, START + set_record(b"a", b"1"), START + set_record(b"b", b"2"))
    told: list[tuple[int, int, int]] = []
    manifest = manifest_in(path)
    recover(path, SystemDisk(), manifest, ItemStore(FakeClock(STARTED)), lambda *figures: told.append(figures))
    size = sum(part.bytes for part in manifest.parts)
    assert told[-1] == (size, size, 6)


# A journal of format 1, as it was written: one file, no manifest

FORMER = b"""\
{"crc":"bbc65601","len":58,"op":"start","cas":4294967296,"at":1700000000,"version":1}
{"crc":"38d62199","len":50,"op":"set","key":"text","flags":7,"value":"hello"}
{"crc":"11058850","len":77,"op":"set","key64":"//4=","exp":1700000100,"cas":4294967297,"value64":"/w=="}
{"crc":"00f8e194","len":36,"op":"set","key":"gone","value":"1"}
{"crc":"bcd9f0cf","len":27,"op":"delete","key":"gone"}
{"crc":"dad4427a","len":55,"op":"mark","key":"text","cas":4294967298,"stale":true}
"""
OF_FORMER = {b"text": (b"hello", 7, 0, 4294967298, STALE), b"\xff\xfe": (b"\xff", 0, 1700000100, 4294967297, 0)}


def make_former(path: Path, content: bytes = FORMER) -> None:
    path.mkdir()
    (path / FORMER_NAME).write_bytes(content)


def test_a_journal_of_format_1_is_read(path: Path) -> None:
    make_former(path)
    store, found = replay(path, STARTED)
    assert shown(store) == OF_FORMER
    assert (found.records, found.bytes, found.last_cas) == (6, len(FORMER), 4294967298)
    assert names_in(path) == {FORMER_NAME}


def test_a_torn_end_of_format_1_is_cut_off_and_kept(path: Path) -> None:
    make_former(path, FORMER + b'{"crc":"0')
    store, found = replay(path, STARTED)
    assert shown(store) == OF_FORMER
    assert found.torn_copy is not None
    assert found.torn_copy.name.startswith(f"{FORMER_NAME}.torn-")
    assert (path / FORMER_NAME).read_bytes() == FORMER


def test_a_journal_of_format_1_goes_on_in_a_new_file_with_a_manifest(path: Path) -> None:
    make_former(path)
    resumed = History.resume(path, STARTED).play([store_step(b"new", b"1")])
    assert names_in(path) == {FORMER_NAME, increment_name(2), MANIFEST_NAME}
    assert (path / FORMER_NAME).read_bytes() == FORMER
    assert [part.name for part in manifest_in(path).parts] == [FORMER_NAME, increment_name(2)]
    assert shown(replay(path, STARTED)[0]) == shown(resumed.store) == OF_FORMER | {b"new": (b"1", 0, 0, 0, 0)}


def test_a_journal_of_format_1_is_gone_once_it_was_rewritten(path: Path) -> None:
    make_former(path)
    resumed = History.resume(path, STARTED).play([("compact",), store_step(b"new", b"1")])
    assert names_in(path) == {MANIFEST_NAME, base_name(3), increment_name(3)}
    assert shown(replay(path, STARTED)[0]) == shown(resumed.store)
