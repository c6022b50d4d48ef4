"""Histories: operations on a store that writes a journal, and what the store looked like after each."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from hypothesis import strategies as st

from memcache_kv.journal import Fsync, Journal, JournalDirectory, Recovered, recover
from memcache_kv.journal.compaction import Compaction
from memcache_kv.store import Entry, Item, ItemStore, Mode
from memcache_kv.store.entry import (
    JOURNALED,
    STALE,
    WON,
    cas_of,
    deadline_of,
    flags_of,
    make_entry,
    moved,
    pack,
    state_of,
    value_of,
    wire_bytes_of,
)
from memcache_kv.store.writes import Write
from tests.commands.asking import add_to
from tests.fake_clock import FakeClock
from tests.journal.journals import FIRST, make_journal
from tests.journal.journals import STARTED as STARTED

Shown: TypeAlias = tuple[bytes, int, int, int, int]
"""What a client can find out about an item: value, flags, deadline, its CAS id if it has one, stale and won."""
Visible: TypeAlias = dict[bytes, Shown]
Step: TypeAlias = tuple[object, ...]

KEYS = (b"a", b"b", b"\xff\xfe key", "käse".encode())


@dataclass
class Moment:
    """How the store was after a step, and how many records the journal had by then, the first not counted."""

    position: int
    table: Visible
    flush_at: int
    ahead: int = 0
    """How many seconds the wall clock was ahead of the store's clock, because it had been stepped."""
    by_time: bool = False
    """Whether nothing but expiry changed anything since the moment before it."""

    def by_wall(self, set_back: int = 0) -> Moment:
        """Return it with all times by the wall clock, as a start finds them that takes it to be set back so far."""
        seconds = self.ahead - set_back
        if not seconds:
            return self
        table = {key: (*shown[:2], moved(shown[2], seconds), *shown[3:]) for key, shown in self.table.items()}
        return Moment(self.position, table, moved(self.flush_at, seconds))

    def seen_at(self, now: int) -> Visible:
        """What is visible of it at a later time, when nothing happened in between but that time."""
        if 0 < self.flush_at <= now:
            return {}
        return {key: shown for key, shown in self.table.items() if not 0 < shown[2] <= now}


def shown(store: ItemStore) -> Visible:
    """Everything a store holds for clients now."""
    return {
        key: (value_of(wire_bytes_of(entry)), flags_of(wire_bytes_of(entry)), *_rare(entry))
        for key, entry in store.items()
    }


def _rare(entry: bytes | Item) -> tuple[int, int, int]:
    return deadline_of(entry), cas_of(entry), state_of(entry) & JOURNALED


class History:
    """A store whose journal is being written, step by step, with the moments it went through."""

    def __init__(self, path: Path, now: int = STARTED) -> None:
        self.path = path
        self.clock = FakeClock(now)
        self.store = ItemStore(self.clock, shards=2)
        self._directory = JournalDirectory(path)
        manifest, last_cas = self._directory.open(), 0
        if manifest is not None:
            last_cas = recover(path, self._directory.disk, manifest, self.store).last_cas
            self.store.start_cas_at(last_cas + 1)
        self.journal = Journal(self._directory, Fsync.NEVER, manifest, last_cas, now=self.clock.now)
        self.store.log = self.journal
        self.store.new_second()
        self.moments = [Moment(0, {}, 0), self._moment()]

    @classmethod
    def resume(cls, path: Path, now: int) -> History:
        """Go on with a journal that is there, at this time."""
        return cls(path, now)

    def _moment(self) -> Moment:
        return Moment(self.journal.position, shown(self.store), self.store.flush_at)

    def play(self, steps: list[Step]) -> History:
        """Carry out all steps, and end the journal."""
        for step in steps:
            self.do(*step)
        self.journal.close()
        self._directory.close()
        return self

    def _compact(self) -> None:
        for _ in Compaction(self.journal, self.store).steps():
            pass

    def do(self, name: object, *arguments: object) -> None:
        """Carry out one step: a method of this class or of the store."""
        (getattr(self, f"_{name}", None) or getattr(self.store, str(name)))(*arguments)
        self.moments.append(self._moment())

    def _advance(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.store.new_second()

    def _store(self, mode: Mode, key: bytes, flags: int, ttl: int, value: bytes) -> None:
        self.store.store(mode, key, pack(flags, value), self._deadline(ttl))

    def _plain(self, key: bytes, flags: int, value: bytes) -> None:
        self.store.put(key, make_entry(key, pack(flags, value), 0))

    def _cas(self, key: bytes, flags: int, ttl: int, value: bytes) -> None:
        item = self.store.gets(key)
        self.store.store(Mode.CAS, key, pack(flags, value), self._deadline(ttl), cas_of(item) if item else 1)

    def _chosen(self, key: bytes, value: bytes, cas: int) -> None:
        self.store.write(Write(Mode.SET, key, pack(0, value), new_cas=cas))

    def _mark(self, key: bytes, state: int) -> None:
        def decide(old: Entry | None) -> Entry | None:
            if old is None:
                return None
            return self.store.renewed(key, wire_bytes_of(old), deadline_of(old), self.store.next_cas(), state, old)

        self.store.update(key, decide)

    def _delta(self, key: bytes, amount: int) -> None:
        add_to(self.store, key, amount)

    def _touch(self, key: bytes, ttl: int) -> None:
        self.store.touch(key, self._deadline(ttl))

    def _flush_later(self, seconds: int) -> None:
        self.store.flush(self.clock.now + seconds)

    def _deadline(self, ttl: int) -> int:
        return self.clock.now + ttl if ttl else 0

    def after(self, records: int) -> Moment:
        """The last moment of which the journal has no more than this many records."""
        return [moment for moment in self.moments if moment.position <= records][-1]


def replay(path: Path, now: int) -> tuple[ItemStore, Recovered]:
    """Read a journal into a new store at this time, as a server does that starts."""
    store = ItemStore(FakeClock(now), shards=2)
    with closing(JournalDirectory(path)) as directory:
        manifest = directory.open()
        assert manifest is not None
        found = recover(path, directory.disk, manifest, store)
    store.new_second()
    return store, found


def cut_copy_of(path: Path, name: str, length: int) -> Path:
    """Make a copy of a journal of one file, as it was when it had this length."""
    directory = path.parent / name
    shutil.rmtree(directory, ignore_errors=True)
    make_journal(directory, (path / FIRST).read_bytes()[:length])
    return directory


_keys = st.sampled_from(KEYS)
_values = st.sampled_from([b"", b"0", b"41", b"text", "grün\r\n".encode(), b"\xff\x00\r\nbinary", b"x" * 5000])
_flags = st.sampled_from([0, 1, 2**32 - 1])
_ttls = st.sampled_from([0, 0, 1, 3, 1000])
_modes = st.sampled_from([Mode.SET, Mode.SET, Mode.ADD, Mode.REPLACE, Mode.APPEND, Mode.PREPEND])

steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("store"), _modes, _keys, _flags, _ttls, _values),
    st.tuples(st.just("plain"), st.sampled_from([b"a", b"b"]), _flags, st.just(b"7")),
    st.tuples(st.just("gets"), _keys),
    st.tuples(st.just("touch"), _keys, _ttls),
    st.tuples(st.just("delta"), _keys, st.sampled_from([1, -1, 2**64 - 1])),
    st.tuples(st.just("delete"), _keys),
    st.tuples(st.just("chosen"), _keys, _values, st.sampled_from([7, 2**63, 2**64 - 1])),
    st.tuples(st.just("mark"), _keys, st.sampled_from([0, STALE, WON, STALE | WON])),
    st.tuples(st.just("advance"), st.integers(1, 4)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("flush_later"), st.integers(1, 5)),
)
"""Steps that make one record at most, but for that of the time."""

two_record_steps: st.SearchStrategy[Step] = st.tuples(st.just("cas"), _keys, _flags, _ttls, _values)
"""Steps that ask for a CAS id and use it."""
