"""What must be found after a crash: a state that the store went through, and no earlier one than was promised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from memcache_kv.errors import JournalCorrupt, JournalError
from memcache_kv.journal import Fsync, Journal, JournalDirectory, Manifest, Recovered, recover
from memcache_kv.store import ItemStore
from memcache_kv.store.entry import pack
from tests.fake_clock import FakeClock
from tests.journal.history import Moment, Visible, shown
from tests.journal.simulated_disk import Loss, SimulatedDisk

JOURNAL = Path("/journal")
DEEPER_CHANCE = 0.05
"""How probable it is, at each operation of a start after a crash, that there is another crash before it."""


class Violation(AssertionError):
    """The journal broke a promise."""


@dataclass
class Names:
    """The CAS ids that clients were told, and of what."""

    values: dict[int, set[tuple[bytes, bytes, int]]] = field(default_factory=lambda: defaultdict(set))
    highest: int = 0
    """The highest that the store gave."""

    def note(self, table: Visible, chosen: set[int]) -> None:
        """Note the ids that items have."""
        for key, (value, flags, _, cas, _) in table.items():
            if cas:
                self.values[cas].add((key, value, flags))
                self.highest = max(self.highest, cas if cas not in chosen else 0)


@dataclass
class Expectation:
    """What may be found.

    moments: what the store went through; least: the number of the first that may be found;
    names: the ids that were given; fsync: how the journal goes on; now: the time of the start after the crash, by the
    wall clock; is_new: whether there may be no journal at all; most_set_back: by how many seconds the wall clock was
    set back in all; found_set_backs: how much of that starts may have recorded since.
    """

    moments: list[Moment]
    least: int
    names: Names
    fsync: Fsync
    now: float
    is_new: bool = False
    most_set_back: int = 0
    found_set_backs: frozenset[int] = frozenset([0])

    def check(self, store: ItemStore, last_cas: int, set_back: int = 0) -> None:
        """See that a recovered store is as it may be. Raises Violation.

        set_back: by how many seconds the start has found the wall clock set back.
        """
        if set_back > self.most_set_back:
            raise Violation(f"the clock is said to be set back by {set_back} s")
        moment = _moment(store)
        table = moment.seen_at(int(self.now))
        self._check_names(table, last_cas)
        found, flush_at = without_ids(table), _waiting(moment, self.now)
        set_backs = {before + set_back for before in self.found_set_backs}
        least = self._least_without_time() if self.most_set_back else self.least
        for moment in reversed(self.moments[least:]):
            if self._is(moment, found, flush_at, set_backs):
                return
        earlier = [number for number in range(least) if self._is(self.moments[number], found, flush_at, set_backs)]
        if earlier:
            raise Violation(f"as after change {earlier[-1]}, and {self.least} had been promised")
        raise Violation(f"never was like this: {found}, flush at {flush_at}; the last was {self.moments[-1]}")

    def _least_without_time(self) -> int:
        """Return the number of the last moment at which a client changed something, of those that must be found.

        If the clock was set back, time that has passed since the last record of it may seem not to have passed.
        """
        least = self.least
        while self.moments[least].by_time:
            least -= 1
        return least

    def _is(self, moment: Moment, found: Visible, flush_at: int, set_backs: set[int]) -> bool:
        return any(self._is_exactly(moment.by_wall(seconds), found, flush_at) for seconds in set_backs)

    def _is_exactly(self, moment: Moment, found: Visible, flush_at: int) -> bool:
        return _waiting(moment, self.now) == flush_at and without_ids(moment.seen_at(int(self.now))) == found

    def _check_names(self, found: Visible, last_cas: int) -> None:
        for key, (value, flags, _, cas, _) in found.items():
            if cas and (key, value, flags) not in self.names.values[cas]:
                raise Violation(f"the id {cas} belongs to {key!r} with {value!r}, of which no client was told it")
        if last_cas < self.names.highest and not self.is_new:
            raise Violation(f"the next run gives ids from {last_cas} on, and {self.names.highest} was given")


def with_set_back(found: frozenset[int], seconds: int) -> frozenset[int]:
    """Add what one more start has found, which it may have recorded."""
    return found | {before + seconds for before in found}


def _waiting(moment: Moment, now: float) -> int:
    """Return when a flush is to come, 0 where none waits by now."""
    return moment.flush_at if moment.flush_at > now else 0


def without_ids(table: Visible) -> Visible:
    """Leave out the CAS ids: an id may be lost, and is checked apart from the rest."""
    return {key: (value, flags, deadline, 0, state) for key, (value, flags, deadline, _, state) in table.items()}


@dataclass
class Started:
    """What a process has after it read the journal."""

    store: ItemStore
    directory: JournalDirectory
    manifest: Manifest | None
    last_cas: int
    stepped: int | None = None
    set_back: int = 0


def start(disk: SimulatedDisk, clock: FakeClock) -> Started:
    """Read the journal on a disk, as a server does that starts. Raises JournalError as it does."""
    directory = JournalDirectory(JOURNAL, disk)
    manifest = directory.open()
    store, last_cas, found = ItemStore(clock, shards=1), 0, Recovered()
    if manifest is not None:
        found = recover(JOURNAL, disk, manifest, store)
        manifest, last_cas = found.manifest, found.next_run()
    store.start_cas_at(last_cas + 1)
    return Started(store, directory, manifest, last_cas, found.stepped, found.set_back)


def begin(
    started: Started,
    fsync: Fsync,
    journal_class: type[Journal] = Journal,
    monotonic: Callable[[], float] = lambda: 0.0,
    keep: int = 0,
) -> Journal:
    """Begin to write the journal of a process, as a server does that starts. Raises JournalFailed."""
    clock = started.store.clock
    journal = journal_class(
        started.directory,
        fsync,
        started.manifest,
        started.last_cas,
        monotonic=monotonic,
        now=clock.now,
        stepped=started.stepped,
        keep=keep,
    )
    started.store.log = journal
    return journal


class Inspection:
    """Start a server on what a crash left and compare; then write, stop and start it once more.

    expected: what may be found now; after_power: what may be found where the power fails during that start.
    rng: decides whether, and when, it does; what is found then must be right as well.
    """

    def __init__(
        self, found: SimulatedDisk, expected: Expectation, after_power: Expectation, loss: Loss, rng: Random
    ) -> None:
        self.starts = 0
        """How often a server was started on what a crash had left."""
        self._found = found
        self._expected = expected
        self._after_power = after_power
        self._loss = loss
        self._rng = rng
        self._again: list[tuple[SimulatedDisk, Expectation]] = []

    def run(self) -> None:
        """Do it all. Raises Violation."""
        before = self._found.shown()
        self._found.before = self._crash_again
        try:
            self._go_on()
            self._found.before = lambda: None
            for disk, expected in self._again:
                self._read(disk, expected)
        except Violation as violation:
            raise Violation(f"{violation}\nafter {self._loss.value}:\n{before}") from None

    def _crash_again(self) -> None:
        """Now and then, note what a power loss would leave now."""
        if self._rng.random() < DEEPER_CHANCE:
            loss = self._rng.choice((Loss.ANY_NAMES, Loss.PAGES))
            self._again.append((self._found.left_by(loss, self._rng), self._after_power))

    def _go_on(self) -> None:
        """Serve with what was found, change something, and stop."""
        started = self._read(self._found, self._expected)
        found_set_backs = with_set_back(self._after_power.found_set_backs, started.set_back)
        self._after_power = replace(self._after_power, found_set_backs=found_set_backs)
        journal = begin(started, self._expected.fsync)
        moments = [_moment(started.store)]
        self._after_power = replace(
            self._expected, moments=moments, least=0, is_new=False, most_set_back=0, found_set_backs=frozenset([0])
        )
        started.store.new_second()
        started.store.put(b"after", pack(0, b"the crash"))
        moments.append(_moment(started.store))
        journal.close()
        started.directory.close()
        self._after_power = replace(self._after_power, least=1)
        self._read(self._found, self._after_power)

    def _read(self, disk: SimulatedDisk, expected: Expectation) -> Started:
        """Start a server, and see that it has what it should. Raises Violation."""
        self.starts += 1
        try:
            started = start(disk, FakeClock(int(expected.now)))
        except JournalCorrupt as error:
            raise Violation(f"refuses to start: {error}") from None
        except JournalError as error:
            raise Violation(f"can't start: {error}") from None
        if started.manifest is None and not expected.is_new:
            raise Violation("there is no journal any more")
        expected.check(started.store, started.last_cas, started.set_back)
        self._check_kept(started, expected)
        return started

    def _check_kept(self, started: Started, expected: Expectation) -> None:
        """See that each kept generation is whole, and leads to the same items. Raises Violation."""
        unusable = started.directory.unusable
        if unusable:
            raise Violation(f"a kept generation is not whole: {unusable[0]}")
        kept = started.manifest.kept if started.manifest is not None else ()
        for number in range(len(kept)):
            assert started.manifest is not None
            store = ItemStore(started.store.clock, shards=1)
            try:
                recover(JOURNAL, started.directory.disk, started.manifest.since(number), store)
            except JournalError as error:
                raise Violation(f"a kept generation can't be read: {error}") from None
            expected.check(store, started.last_cas, started.set_back)


def _moment(store: ItemStore) -> Moment:
    return Moment(0, shown(store), store.flush_at)
