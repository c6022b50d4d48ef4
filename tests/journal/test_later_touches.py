"""Which keys a later record touches."""

from pathlib import Path

import pytest

from memcache_kv.journal import later_touches
from memcache_kv.journal.disk import SystemDisk
from memcache_kv.journal.later_touches import LaterTouches
from memcache_kv.journal.record import Record, line_of, mark_record, put_key, set_line
from memcache_kv.store.entry import STALE
from tests.journal.journals import FIRST, START, STARTED, make_journal, manifest_in


def touch_line(key: bytes, exp: int) -> bytes:
    return line_of(put_key(Record("touch", exp=exp), key))


class Reading:
    """A position in a journal, and what is touched behind it."""

    def __init__(self, path: Path, limit_bytes: int = 1 << 20) -> None:
        self.position = 0
        self.looks = 0
        self.later = LaterTouches(
            path, SystemDisk(), manifest_in(path), STARTED, lambda: self.position, self._look, limit_bytes
        )

    def _look(self) -> None:
        self.looks += 1


@pytest.mark.parametrize(
    ("line", "touched"),
    [
        (touch_line(b"k", STARTED + 1), b"k"),
        (touch_line(b"k", 0), b"k"),
        (touch_line(b"\xff\xfe", STARTED + 1), b"\xff\xfe"),
        (touch_line(b"\xff\xfe", 0), b"\xff\xfe"),
        (touch_line(b'"\\', 0), b'"\\'),
        (touch_line("grün".encode(), 0), "grün".encode()),
        (line_of(put_key(mark_record(STARTED + 1, 0, STALE), b"k")), b"k"),
        (touch_line(b"k", STARTED), None),
        (touch_line(b"\xff\xfe", STARTED), None),
        (set_line(b"k", 0, STARTED + 1, 0, b"v"), None),
        (line_of(put_key(Record("cas", cas=7), b"k")), None),
        (set_line(b'"op":"touch","key":"k"', 0, 0, 0, b'{"op":"touch","key":"k"}'), None),
        (touch_line(b"k", STARTED + 1)[:-1], None),
        (b'{"op":"touch","key":\n', None),
    ],
)
def test_what_is_touched_is_seen_in_the_lines(path: Path, line: bytes, touched: bytes | None) -> None:
    make_journal(path, START + line)
    later = Reading(path).later
    assert not later.is_known
    for key in (b"k", b"\xff\xfe", b'"\\', "grün".encode(), b'"op":"touch","key":"k"'):
        assert later(key) is (key == touched)
    assert later.is_known


def test_a_touch_is_later_only_until_it_was_read(path: Path) -> None:
    filler = b"".join(set_line(b"%d" % number, 0, 0, 0, b"x" * 1000) for number in range(200))
    make_journal(path, START + touch_line(b"a", 0) + filler + touch_line(b"b", 0) + filler)
    size = (path / FIRST).stat().st_size
    reading = Reading(path)
    seen = []
    for reading.position in (0, size // 4, size // 2 + 1000, size):
        reading.later.advance()
        seen.append((reading.later(b"a"), reading.later(b"b")))
    assert seen == [(True, True), (False, True), (False, False), (False, False)]


def test_the_files_are_read_once_and_twice_if_the_clock_was_stepped(path: Path) -> None:
    make_journal(path, START + touch_line(b"k", STARTED))
    reading = Reading(path)
    assert not reading.later(b"k")
    assert not reading.later(b"other")
    assert reading.looks == 1
    assert not reading.later.may_move(STARTED, 0)


@pytest.mark.parametrize("stepped", [60, -60])
def test_all_touches_count_if_the_clock_was_stepped(path: Path, stepped: int) -> None:
    make_journal(path, START + touch_line(b"k", STARTED - 10) + line_of(Record("time", at=STARTED, stepped=stepped)))
    later = Reading(path).later
    assert later(b"k")
    assert not later(b"other")
    assert [later.may_move(STARTED - ago, 0) for ago in (59, 60)] == [stepped == 60, False]
    assert [later.may_move(STARTED - ago, -60) for ago in (59, 60)] == [True, stepped == 60]
    assert not later.may_move(STARTED, 60)


def test_the_memory_for_it_is_bounded_and_then_it_says_yes_too_often(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later_touches, "MIN_PLACES", 16)
    keys = [b"%d" % number for number in range(1000)]
    make_journal(path, START + b"".join(touch_line(key, 0) for key in keys))
    later = Reading(path, limit_bytes=1).later
    assert all(map(later, keys))
    assert later(b"other")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal's directory that is not there yet."""
    return tmp_path / "journal"
