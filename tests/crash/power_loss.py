"""Power losses that a recorded run of a server could have met: what is left is started, and what it has compared."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from random import Random
from typing import TypeAlias

from memcache_kv.errors import JournalError
from memcache_kv.journal import Fsync, Journal, JournalDirectory, recover
from memcache_kv.store import ItemStore
from memcache_kv.store.entry import make_entry, pack, value_of, wire_bytes_of
from tests.crash.platter import Names
from tests.crash.traced_run import TracedRun
from tests.fake_clock import FakeClock
from tests.integration.wire import OURS, RunningServer, Wire

STARTED_AT = 1_700_000_000
ONE_IN_SO_MANY = 20
"""So rarely a state is also started by a process of its own."""
AFTER = b"after the power loss"

Table: TypeAlias = dict[bytes, bytes]


class LossError(AssertionError):
    """A start did not find what it should have."""


class PowerLosses:
    """States that power losses may leave of a run. `check` makes one, and starts a server on it."""

    def __init__(self, run: TracedRun, directory: Path, rng: Random) -> None:
        self.counts: Counter[str] = Counter()
        self.longest_unsynced = 0.0
        """For how long an acknowledged write was not yet sure to survive."""
        self.run = run
        self._directory = directory
        self._rng = rng
        self._lines = sorted(set(run.platter.lines))
        self._versions = versions_of(run)

    def check_many(self, states: int) -> None:
        """Check so many states. Raises LossError."""
        for _ in range(states):
            self.check()

    def check(self) -> None:
        """Let the power fail at some time of the run. Raises LossError."""
        at = self._rng.choice(self._lines) + 1
        if self._rng.random() < 0.3:
            at = self._rng.randint(self._lines[0], self._lines[-1])
        names = self._rng.choice(list(Names))
        run = self.run
        synced, acknowledged, begun = run.synced(at, names), run.acknowledged(at), run.begun(at)
        least = max(synced, acknowledged) if run.fsync is Fsync.ALWAYS else synced
        state = run.platter.left_by(at, names, self._rng)
        where = f"{run.fsync}, line {at}, names {names.value}, {synced} records synced, {acknowledged} acknowledged"
        self.counts[f"{run.fsync}, names {names.value}"] += 1
        self.longest_unsynced = max(self.longest_unsynced, run.seconds_unsynced(at, synced))
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()
        for name, content in state.items():
            (self._directory / name).write_bytes(content)
        try:
            self._start(least, begun)
        except (LossError, JournalError, ValueError) as error:
            lengths = {name: len(content) for name, content in state.items()}
            raise LossError(f"{where}: {error}\n{lengths}") from error

    def _start(self, least: int, begun: int) -> None:
        """Start, compare, write, stop and start again."""
        if self._rng.randrange(ONE_IN_SO_MANY) == 0:
            self._start_process(least, begun)
            return
        before = self._recovered()
        self._compare(before, least, begun)
        after = self._recovered()
        if after != before | {AFTER: AFTER}:
            raise LossError("a second start found something else than the first one")

    def _recovered(self) -> Table:
        """Start as a server does, return what is found, write one item more, and stop."""
        store = ItemStore(FakeClock(STARTED_AT), shards=2)
        with closing(JournalDirectory(self._directory)) as directory:
            manifest, last_cas = directory.open(), 0
            if manifest is not None:
                found = recover(self._directory, directory.disk, manifest, store)
                manifest, last_cas = found.manifest, found.next_run()
                self.counts["tails cut off"] += found.tail is not None
            else:
                self.counts["without a journal"] += 1
            table = {key: value_of(wire_bytes_of(entry)) for key, entry in store.items()}
            store.log = journal = Journal(directory, self.run.fsync, manifest, last_cas, now=STARTED_AT)
            store.put(AFTER, make_entry(AFTER, pack(0, AFTER), 0))
            journal.close()
        return table

    def _start_process(self, least: int, begun: int) -> None:
        self.counts["started by a process"] += 1
        with closing(self._server()) as server, Wire(server) as wire:
            found: Table = {}
            for key in self._versions:
                reply = wire.ask(b"get %b\r\n" % key)
                if reply.startswith(b"VALUE"):
                    found[key] = reply.partition(b"\r\n")[2].removesuffix(b"\r\nEND\r\n")
        self._compare(found, least, begun)

    def _server(self) -> RunningServer:
        try:
            return RunningServer(OURS, ("--journal", str(self._directory)))
        except AssertionError as error:
            raise LossError(f"a process refuses to start: {error}") from None

    def _compare(self, found: Table, least: int, begun: int) -> None:
        """See that a table is what the journal's first records make, at least so many of them."""
        unknown = found.keys() - self._versions.keys()
        if unknown:
            raise LossError(f"nobody stored {unknown}")
        counts = possible_counts(self._versions, found, begun)
        if not counts:
            raise LossError("what was found is no beginning of what was written")
        if counts[-1] < least:
            raise LossError(f"the first {counts[-1]} records were found, and {least} are safe")


Versions: TypeAlias = dict[bytes, list[tuple[int, bytes | None]]]
"""For each key: how many records there are when it gets a value, and that value."""


def versions_of(run: TracedRun) -> Versions:
    """Return what the keys held, and from which record on."""
    versions: Versions = defaultdict(lambda: [(0, None)])
    for count, record in enumerate(run.records, 1):
        key, value = record.request
        versions[key].append((count, value))
    return dict(versions)


def possible_counts(versions: Versions, found: Table, most: int) -> list[int]:
    """Return after how many records, `most` at most, all keys hold what was found."""
    changes: Counter[int] = Counter()
    for key, history in versions.items():
        ends = [count for count, _ in history[1:]] + [most + 1]
        for (count, value), end in zip(history, ends, strict=True):
            if value == found.get(key):
                changes[count] += 1
                changes[end] -= 1
    fitting, counts = 0, []
    for count in range(most + 1):
        fitting += changes[count]
        if fitting == len(versions):
            counts.append(count)
    return counts
