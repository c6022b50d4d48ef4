"""Runs of a journal on a simulated disk, made from a seed: changes, time, compactions, faults and restarts.

Before each operation of the disk the run crashes there, on a copy of the disk, and what is found is inspected.
"""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from unittest.mock import patch

from memcache_kv.errors import JournalCorrupt, JournalError, JournalLost, WritesRejected
from memcache_kv.journal import Fsync, Journal, codec, compaction, recovery
from memcache_kv.journal.compaction import Compaction
from memcache_kv.store import Entry, ItemStore, Mode
from memcache_kv.store.entry import STALE, WON, cas_of, deadline_of, make_entry, pack, wire_bytes_of
from memcache_kv.store.writes import Write
from tests.commands.asking import add_to
from tests.fake_clock import FakeClock
from tests.journal.crash_checks import (
    Expectation,
    Inspection,
    Names,
    Started,
    Violation,
    begin,
    start,
    with_set_back,
    without_ids,
)
from tests.journal.history import Moment, shown
from tests.journal.simulated_disk import Fault, Loss, SimulatedDisk

KEYS = (b"a", b"b", b"c", "käse".encode(), b"\xff\xfe key")
STARTED = 1_700_000_000
SLICE_SECONDS = 0.02
RUNS_PER_THREADED = 10
"""One run of so many decodes ahead in a second thread. To start it takes most of the time that a short journal does."""
PROMISE_SECONDS = 1.0
"""everysec: what is older than this is on disk."""
LOSSES = (Loss.ORDERED, Loss.ANY_NAMES, Loss.ANY_NAMES, Loss.KILLED, Loss.PAGES, Loss.PAGES)
WAITS_BEFORE_START = (0, 0, 0, 1, 2, 5, 2000, -3, -500)
"""By the wall clock: it may be set back while no server runs."""
CLOCK_STEPS = (-4000, -900, -5, -1, 1, 5, 900, 4000)
STEPS = (15, 45)
MEANWHILE = 0.05
"""How often a worker changes something and appends it while another thread waits for an operation of the disk."""
WEIGHTS = {
    "change": 30,
    "change and append": 20,
    "several changes": 8,
    "gets": 6,
    "a moment passes": 12,
    "journal steps": 20,
    "time passes": 4,
    "set the clock": 2,
    "compact": 12,
    "close an increment": 2,
    "give up the compaction": 1,
    "break the disk": 9,
    "mend the disk": 3,
    "restart": 1,
    "crash and restart": 2,
}
"""How often each step is taken; a run has its own likes and dislikes among them."""
FAULTS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("write", "create"), errno.ENOSPC),
    (("write", "create"), errno.ENOSPC),
    (("write",), errno.EIO),
    (("write", "truncate"), errno.EIO),
    (("sync",), errno.EIO),
    (("sync",), errno.EIO),
    (("rename",), errno.EIO),
    (("sync_directory",), errno.EIO),
    (("create",), errno.EMFILE),
    (("remove",), errno.EIO),
    (("write", "sync", "truncate", "create", "rename", "remove", "sync_directory"), errno.EIO),
)


class RunClock(FakeClock):
    """A clock in fractions of seconds, of which the store sees the whole ones."""

    def __init__(self) -> None:
        super().__init__(STARTED)
        self.seconds = float(STARTED)

    def pass_by(self, seconds: float) -> bool:
        """Let time pass; True when a new second has begun."""
        self.seconds += seconds
        self.advance(int(self.seconds) - self.now)
        return self.tick()

    @property
    def wall_seconds(self) -> float:
        """The time by the wall clock."""
        return self.seconds + self.wall_ahead

    def begin_anew(self) -> None:
        """Be the clock of a new process, which begins by the wall clock."""
        self.seconds, self.wall_ahead = self.wall_seconds, 0
        self.now = int(self.seconds)


@dataclass
class Rig:
    """What runs are made with: the real journal on a good disk, or something that is broken on purpose."""

    disk: type[SimulatedDisk] = SimulatedDisk
    journal: type[Journal] = Journal
    policies: tuple[Fsync, ...] = tuple(Fsync)
    losses: tuple[Loss, ...] = LOSSES
    faults: tuple[tuple[tuple[str, ...], int], ...] = FAULTS
    keeps: tuple[int, ...] = (0, 1, 2)
    """How many generations of files a rewrite keeps."""
    often: tuple[str, ...] = ()
    """The steps that are taken five times as often."""


@dataclass
class Totals:
    """What was counted over all runs."""

    runs: int = 0
    points: int = 0
    starts: int = 0
    by: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Show them, a line each."""
        lines = [f"{self.points} crash points in {self.runs} runs, {self.starts} starts"]
        lines += [f"  {name}: {count}" for name, count in sorted(self.by.items())]
        return "\n".join(lines)


class CrashRun:
    """One run. `play` does it; it raises Violation, which says how to repeat it."""

    def __init__(self, seed: int, rig: Rig, totals: Totals) -> None:
        self.rng = Random(seed)
        self.seed = seed
        self.rig = rig
        self.totals = totals
        self.clock = RunClock()
        self.fsync = self.rng.choice(rig.policies)
        self.keep = self.rng.choice(rig.keeps)
        self.disk = rig.disk(Random(seed + 1))
        self.disk.short_writes = self.rng.choice((0.0, 0.2, 0.7))
        self.names = Names()
        self.chosen: set[int] = set()
        self.journal: Journal | None = None
        self.moments = [Moment(0, {}, 0)]
        self.made_at = [self.clock.seconds]
        self.failed_at = 0.0
        self.acknowledged = 0
        self.done: list[str] = []
        self._serial = 0
        self._is_serving = False
        """Whether a worker may change something."""
        self._set_back = 0
        """By how many seconds the wall clock was set back in all."""
        self._found_set_backs = frozenset([0])
        """How much of that the starts that are under way may have recorded."""
        self._lost_power = False
        """Whether the power has failed since the journal was last begun."""
        self._started: Started
        self._store: ItemStore
        self._compaction: tuple[Compaction, Iterator[None]] | None = None
        self._weights = [self._weight(name, weight) for name, weight in WEIGHTS.items()]
        self._listen()

    def _weight(self, name: str, weight: float) -> float:
        """Choose how often a step is taken in this run: rarely, as often as others, or often."""
        return weight * (5 if name in self.rig.often else 1) * self.rng.choice((0.2, 1, 1, 3))

    def play(self) -> None:
        """Start, do some steps, stop and start once more."""
        steps = self.rng.randint(*STEPS)
        try:
            self._start()
            for _ in range(steps):
                self._step()
            self._mend()
            self._restart_cleanly()
            self._crash()
        except Violation as violation:
            where = f"seed {self.seed}, {self.fsync}, keeps {self.keep}"
            where += f", operation {self.disk.operations} ({self.disk.last})"
            raise Violation(f"{where}: {violation}\nsteps before: {', '.join(self.done[-15:])}") from None
        self.totals.runs += 1

    # Crashing

    def _listen(self) -> None:
        self.disk.before, self.disk.failed = self._operate, self._failed

    def _failed(self) -> None:
        self.failed_at = self.clock.seconds

    def _operate(self) -> None:
        """Crash before an operation, and let a worker go on while it takes its time."""
        self._crash()
        if self._is_serving and self.rng.random() < MEANWHILE:
            self._is_serving = False  # its own operations take no time
            self._change_and_append()
            self._is_serving = True

    def _crash(self) -> None:
        """Crash here, on a copy of the disk, and look into what is found."""
        loss = self.rng.choice(self.rig.losses)
        rng = Random(self.rng.random())
        wait = rng.choice(WAITS_BEFORE_START)
        now = self.clock.wall_seconds + wait
        after_power = self._expected(now, False, max(0, -wait))
        expected = self._expected(now, True, max(0, -wait)) if loss is Loss.KILLED else after_power
        inspection = Inspection(self.disk.left_by(loss, rng), expected, after_power, loss, rng)
        inspection.run()
        self._count(loss, inspection.starts)

    def _count(self, loss: Loss, starts: int) -> None:
        self.totals.points += 1
        self.totals.starts += starts
        by = self.totals.by
        by[f"policy {self.fsync}"] += 1
        by[f"after {self.disk.last}"] += 1
        by[f"by {loss.value}"] += 1
        by[f"with {len(self.journal.files.kept) if self.journal is not None else 0} generations"] += 1
        by["during a compaction"] += self._compaction is not None
        by["during a fault"] += self.disk.fault is not None and self.disk.fault.times > 0
        by["while changes are refused"] += self.journal is not None and self.journal.refuses

    def _expected(self, now: float, is_killed: bool, set_back: int = 0) -> Expectation:
        """Say what may be found at a time, by a wall clock that was set back so far since it was last set."""
        least, most = self._least(is_killed), self._set_back + set_back
        return Expectation(
            self.moments, least, self.names, self.fsync, now, self.journal is None, most, self._found_set_backs
        )

    def _least(self, is_killed: bool) -> int:
        """Return the number of the last moment that must not be lost."""
        journal = self.journal
        if journal is None:
            return 0
        if self.fsync is Fsync.ALWAYS:
            while not journal.must_wait(self.acknowledged + 1) and self.acknowledged < journal.position:
                self.acknowledged += 1
        sure = max(journal.written if is_killed and not self._lost_power else journal.synced, self.acknowledged)
        least = max(number for number, moment in enumerate(self.moments) if moment.position <= sure)
        return max(least, self._promised()) if self.fsync is Fsync.EVERYSEC else least

    def _promised(self) -> int:
        """Return the number of the last moment that everysec promises: old enough, and no fault since."""
        number = 0
        for later, made_at in enumerate(self.made_at):
            if self.failed_at < made_at < self.clock.seconds - PROMISE_SECONDS:
                number = later
        return number

    # Steps

    def _step(self) -> None:
        name = self.rng.choices(list(WEIGHTS), weights=self._weights)[0]
        self.done.append(name)
        self._actions()[name]()
        self._note()

    def _actions(self) -> dict[str, Callable[[], None]]:
        return {
            "change": self._change,
            "change and append": self._change_and_append,
            "several changes": self._several_changes,
            "gets": self._gets,
            "a moment passes": lambda: self._pass(self.rng.uniform(0, 0.3)),
            "journal steps": self._write,
            "time passes": lambda: self._pass(self.rng.uniform(0.5, 3)),
            "set the clock": self._set_clock,
            "compact": self._compact,
            "close an increment": self._close_increment,
            "give up the compaction": self._abandon,
            "break the disk": self._break,
            "mend the disk": self._mend,
            "restart": self._restart_cleanly,
            "crash and restart": self._restart_after_crash,
        }

    def _note(self) -> None:
        """Note how the store is now."""
        if self.journal is None:
            return
        table = shown(self._store)
        self.names.note(table, self.chosen)
        by_time = without_ids(self.moments[-1].seen_at(self.clock.now)) == without_ids(table)
        self.moments.append(Moment(self.journal.position, table, self._store.flush_at, self.clock.wall_ahead, by_time))
        self.made_at.append(self.clock.seconds)

    def _write(self) -> None:
        assert self.journal is not None
        self.journal.step()

    def _pass(self, seconds: float) -> None:
        """Let time pass, with the journal's thread and a worker at work."""
        while seconds > 0:
            seconds -= SLICE_SECONDS
            if self.clock.pass_by(SLICE_SECONDS):
                self._store.new_second()
                self._note()
            self._write()

    def _set_clock(self) -> None:
        """Step the wall clock, which a worker notices."""
        step = self.rng.choice(CLOCK_STEPS)
        self._set_back += max(0, -step)
        self.clock.wall_ahead += step
        self._store.new_second()

    def _change_and_append(self) -> None:
        """Change something, as a worker does before it replies."""
        assert self.journal is not None
        self._change()
        self._note()
        position = self.journal.position  # another worker may go on meanwhile
        if self.journal.append():
            self.totals.by["appended by a worker"] += 1
            if self.journal.must_wait(position):
                raise Violation("a worker has appended all, and must wait")

    def _several_changes(self) -> None:
        for _ in range(self.rng.randint(2, 6)):
            self._change()
            self._note()

    def _change(self) -> None:
        before = shown(self._store)
        try:
            self.rng.choice(self._changes())()
        except WritesRejected:
            if without_reading(before) != without_reading(shown(self._store)):
                raise Violation("a change was refused, and done") from None

    def _changes(self) -> list[Callable[[], object]]:
        rng, store = self.rng, self._store
        key = rng.choice(KEYS)
        wire_bytes = pack(rng.choice((0, 0, 7, 2**32 - 1)), self._value())
        mode = rng.choice([mode for mode in Mode if mode is not Mode.CAS])
        return [
            lambda: store.put(key, make_entry(key, wire_bytes, 0)),
            lambda: store.store(Mode.SET, key, wire_bytes, self._deadline()),
            lambda: store.store(mode, key, wire_bytes, self._deadline()),
            lambda: store.store(Mode.SET, key, pack(0, b"%d" % rng.randint(1, 99))),
            lambda: add_to(store, key, rng.choice((1, 9, -1))),
            lambda: store.touch(key, self._deadline(), rng.random() < 0.3),
            lambda: store.delete(key),
            lambda: self._compare_and_store(key, wire_bytes),
            lambda: self._store_named(key, wire_bytes),
            lambda: store.update(key, lambda old: self._marked(key, old)),
            lambda: store.flush(rng.choice((0, store.clock.now + rng.randint(1, 4)))) if rng.random() < 0.3 else None,
        ]

    def _value(self) -> bytes:
        """Make a value that no other is like, sometimes binary, sometimes longer than what is read at once."""
        self._serial += 1
        tail = self.rng.choice((b"", b"", b"\r\nx", b"\xff\x00\r\n", b"long " * 100))
        return b"v%d" % self._serial + tail

    def _deadline(self) -> int:
        ttl = self.rng.choice((0, 0, 1, 3, 1000))
        return self.clock.now + ttl if ttl else 0

    def _gets(self) -> None:
        self._store.gets(self.rng.choice(KEYS))

    def _compare_and_store(self, key: bytes, wire_bytes: bytes) -> None:
        item = self._store.gets(key)
        self._note()
        if item is not None:
            self._store.store(Mode.CAS, key, wire_bytes, self._deadline(), cas_of(item) - self.rng.choice((0, 0, 1)))

    def _store_named(self, key: bytes, wire_bytes: bytes) -> None:
        chosen = self.rng.choice((0, 0, 2**63 + self._serial))
        self.chosen.add(chosen)
        self._store.write(Write(Mode.SET, key, wire_bytes, self._deadline(), new_cas=chosen, needs_cas=True))

    def _marked(self, key: bytes, old: Entry | None) -> Entry | None:
        if old is None:
            return None
        state = self.rng.choice((0, STALE, WON, STALE | WON))
        return self._store.renewed(key, wire_bytes_of(old), deadline_of(old), self._store.next_cas(), state, old)

    # Compaction

    def _compact(self) -> None:
        """Begin a compaction, or come further with the one that is under way."""
        assert self.journal is not None
        if self._compaction is None:
            compaction = Compaction(self.journal, self._store)
            self._compaction = (compaction, compaction.steps())
        try:
            for _ in range(self.rng.randint(1, 4)):
                if next(self._compaction[1], self) is self:
                    self._abandon()
                    return
        except OSError:
            self._abandon()

    def _close_increment(self) -> None:
        """Go on in a new increment, and let a manifest name the old one, as the shipper does."""
        assert self.journal is not None
        with contextlib.suppress(OSError, JournalLost):
            self.journal.rotate()
            self.journal.sync_closed()

    def _abandon(self) -> None:
        if self._compaction is not None:
            self._compaction[0].discard()
            self._compaction = None

    # Trouble

    def _break(self) -> None:
        if not self.rig.faults:
            return
        kinds, number = self.rng.choice(self.rig.faults)
        times, chance = self.rng.choice((1, 1, 2, 5, 20)), self.rng.choice((1.0, 1.0, 0.4))
        self.disk.fault = Fault(kinds, number, times, chance, self.rng.randint(0, 300))

    def _mend(self) -> None:
        self.disk.fault = None

    def _restart_cleanly(self) -> None:
        """Stop and start; where the disk does not let the journal be closed, that is as if it were killed."""
        assert self.journal is not None
        self._abandon()
        self._is_serving = False
        try:
            self.journal.close()
        except JournalError:
            self.disk.fault = None
        self._started.directory.close()
        self.disk.end_process()
        self._start()

    def _restart_after_crash(self) -> None:
        """Go on with what a crash leaves."""
        self._compaction, self._is_serving = None, False
        self.disk.end_process()
        if self.rng.random() < 0.5:
            self._lost_power = True
            self.disk.lose_power()
        self._start()

    def _start(self) -> None:
        """Start a server; with a fault in the way, once more without it."""
        try:
            self._start_once()
        except JournalCorrupt as error:
            raise Violation(f"refuses to start: {error}\n{self.disk.shown()}") from None
        except JournalError:
            if self.disk.fault is None:
                raise
            self.disk.fault = None
            self.disk.end_process()
            self._start_once()

    def _start_once(self) -> None:
        clock = self.clock
        self.failed_at += clock.wall_ahead
        self.made_at = [seconds + clock.wall_ahead for seconds in self.made_at]
        clock.begin_anew()
        self._started = started = start(self.disk, clock)
        if self.journal is not None:
            self._expected(clock.seconds, is_killed=False).check(started.store, started.last_cas, started.set_back)
        self._found_set_backs = with_set_back(self._found_set_backs, started.set_back)
        journal = begin(started, self.fsync, self.rig.journal, lambda: clock.seconds, self.keep)
        self.journal, self._store, self.acknowledged, self._lost_power = journal, started.store, 0, False
        self.moments = [Moment(0, shown(started.store), started.store.flush_at)]
        self.made_at = [clock.seconds]
        self._found_set_backs = frozenset([0])
        started.store.new_second()
        self._note()
        self._is_serving = True


def without_reading(table: dict[bytes, tuple[bytes, int, int, int, int]]) -> object:
    """Leave out what a read may change: CAS ids."""
    return {key: (value, flags, deadline, state) for key, (value, flags, deadline, _, state) in table.items()}


def play_runs(seed: int, points: int, rig: Rig | None = None) -> Totals:
    """Play runs, the first of this seed, until there were so many crash points. Raises Violation."""
    totals = Totals()
    with patch.object(compaction, "ITEMS_AT_ONCE", 1):
        while totals.points < points:
            run_seed = seed + totals.runs
            with patch.object(recovery, "BLOCKS_AHEAD", 0 if run_seed % RUNS_PER_THREADED else codec.BLOCKS_AHEAD):
                CrashRun(run_seed, rig or Rig(), totals).play()
    return totals
