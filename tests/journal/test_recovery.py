"""Reading a journal back: what is restored, what is cut off, and what is refused."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcache_kv.errors import JournalCorrupt, JournalError
from memcache_kv.journal import recover
from memcache_kv.journal.directory import FILE_NAME
from memcache_kv.journal.record import FORMAT_VERSION, Record, line_of, set_line
from memcache_kv.store import Mode, Store
from tests.journal.history import STARTED, History, Step, copy_of, replay, shown, steps, two_record_steps

START = line_of(Record("start", at=STARTED, version=FORMAT_VERSION))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal's file that is not there yet."""
    return tmp_path / FILE_NAME


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
        history = History(Path(directory) / FILE_NAME).play(history_steps)
        now = history.clock.now + seconds_down
        store, found = replay(history.path, now)
        assert shown(store) == history.moments[-1].seen_at(now)
        assert found.records == history.journal.position
        assert found.torn_bytes == 0


@given(st.lists(steps, min_size=1, max_size=25), st.floats(0, 1), st.integers(0, 5))
def test_a_journal_cut_off_anywhere_gives_the_store_after_some_prefix(
    history_steps: list[Step], where: float, seconds_down: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        history = History(Path(directory) / FILE_NAME).play(history_steps)
        cut_and_compare(history, int(where * history.path.stat().st_size), seconds_down)


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
    for length in range(written.path.stat().st_size + 1):
        cut_and_compare(written, length, 0)


def cut_and_compare(history: History, length: int, seconds_down: int) -> None:
    """Replay the first bytes of a journal, and compare with the history up to its last whole record."""
    copy = copy_of(history.path, "cut", length)
    content = copy.read_bytes()
    whole = content.rfind(b"\n") + 1
    now = history.clock.now + seconds_down
    store, found = replay(copy, now)
    assert shown(store) == history.after(content.count(b"\n")).seen_at(now)
    assert found.torn_bytes == length - whole
    assert copy.read_bytes() == content[:whole]


# The end


def test_a_torn_last_line_is_cut_off_kept_in_a_copy_and_reported(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1"), store_step(b"b", b"2"))
    torn = set_line(b"c", 0, 0, 0, b"3")[:-1]
    whole = written.path.read_bytes()
    written.path.write_bytes(whole + torn)
    store, found = replay(written.path, STARTED)
    assert set(shown(store)) == {b"a", b"b"}
    assert found.torn_bytes == len(torn)
    assert found.torn_copy is not None
    assert found.torn_copy.read_bytes() == torn
    assert found.torn_copy.parent == written.path.parent
    assert written.path.read_bytes() == whole


def test_a_journal_whose_torn_end_was_cut_off_is_read_again_without_remark(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1"))
    with written.path.open("ab") as file:
        file.write(b'{"crc":"0000')
    assert replay(written.path, STARTED)[1].torn_copy is not None
    again = replay(written.path, STARTED)[1]
    assert (again.torn_bytes, again.torn_copy) == (0, None)


def test_zeros_that_a_power_loss_left_behind_the_last_record_are_cut_off(history: Callable[..., History]) -> None:
    written = history(store_step(b"a", b"1"))
    with written.path.open("ab") as file:
        file.write(bytes(4096))
    store, found = replay(written.path, STARTED)
    assert set(shown(store)) == {b"a"}
    assert found.torn_bytes == 4096


def test_a_torn_line_longer_than_one_read_is_kept_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memcache_kv.journal.recovery.READ_BYTES", 64)
    torn = set_line(b"long", 0, 0, 0, b"x" * 1000)[:-1]
    path.write_bytes(START + set_line(b"a", 0, 0, 0, b"y" * 500) + torn)
    store, found = replay(path, STARTED)
    assert set(shown(store)) == {b"a"}
    assert found.torn_copy is not None
    assert found.torn_copy.read_bytes() == torn


def test_a_journal_is_read_the_same_in_pieces_of_any_size(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [b"%d" % number for number in range(30)]
    path.write_bytes(START + b"".join(set_line(key, 0, 0, 0, key * 5) for key in keys))
    for size in (1, 2, 3, 64, len(START), len(START) + 1, 1 << 20):
        monkeypatch.setattr("memcache_kv.journal.recovery.READ_BYTES", size)
        assert values_at(path, STARTED) == {key: key * 5 for key in keys}


# What is refused


@pytest.mark.parametrize("damage", [b"\x00", b"\n", b"}", b"X"])
def test_a_damaged_record_in_the_middle_is_refused_with_file_and_offset(path: Path, damage: bytes) -> None:
    first = set_line(b"a", 0, 0, 0, b"1")
    content = bytearray(START + first + set_line(b"b", 0, 0, 0, b"2") + set_line(b"c", 0, 0, 0, b"3"))
    offset = len(START + first)
    content[offset + 20 : offset + 21] = damage
    path.write_bytes(content)
    with pytest.raises(JournalCorrupt) as caught:
        replay(path, STARTED)
    assert str(path) in str(caught.value)
    assert f"offset {offset}:" in str(caught.value)
    assert path.read_bytes() == content


def test_a_lost_line_feed_in_the_middle_is_refused(path: Path) -> None:
    content = START + set_line(b"a", 0, 0, 0, b"1")[:-1] + set_line(b"b", 0, 0, 0, b"2")
    path.write_bytes(content)
    with pytest.raises(JournalCorrupt, match=f"offset {len(START)}:"):
        replay(path, STARTED)


def test_a_hole_of_zeros_in_the_middle_is_refused(path: Path) -> None:
    path.write_bytes(START + bytes(512) + set_line(b"b", 0, 0, 0, b"2"))
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
    path.write_bytes(content)
    with pytest.raises(JournalCorrupt, match=str(path)):
        replay(path, STARTED)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_journal_without_its_beginning_is_refused(path: Path) -> None:
    path.write_bytes(set_line(b"a", 0, 0, 0, b"1"))
    with pytest.raises(JournalCorrupt, match="does not begin with a start record"):
        replay(path, STARTED)


def test_a_newer_format_is_refused_with_its_number(path: Path) -> None:
    path.write_bytes(line_of(Record("start", version=FORMAT_VERSION + 1)) + set_line(b"a", 0, 0, 0, b"1"))
    with pytest.raises(JournalError, match=f"format {FORMAT_VERSION + 1}"):
        replay(path, STARTED)


def test_a_file_that_cannot_be_read_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(JournalError, match="can't read the journal"):
        replay(path, STARTED)


# What is an ordinary beginning


def test_an_empty_file_is_an_empty_journal(path: Path) -> None:
    path.touch()
    store, found = replay(path, STARTED)
    assert (shown(store), found.records, found.torn_bytes) == ({}, 0, 0)


def test_a_journal_that_ended_in_its_first_record_is_an_empty_one(path: Path) -> None:
    path.write_bytes(START[:10])
    store, found = replay(path, STARTED)
    assert (shown(store), found.torn_bytes) == ({}, 10)


def test_progress_is_told_up_to_the_end(history: Callable[..., History]) -> None:
    written = history(*(store_step(b"%d" % number, b"x") for number in range(50)))
    told: list[tuple[int, int, int]] = []
    recover(written.path, Store(written.clock), lambda *figures: told.append(figures))
    size = written.path.stat().st_size
    assert told[-1] == (size, size, 51)
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
    with written.path.open("ab") as file:
        file.write(line_of(Record("flush")))
    assert values_at(written.path, STARTED) == {}


@settings(max_examples=20)
@given(st.lists(steps, max_size=12), st.lists(steps, max_size=12))
def test_a_second_run_goes_on_where_the_first_ended(first: list[Step], second: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / FILE_NAME
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
