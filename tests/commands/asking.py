"""Who asks for a command in tests: a store with what the command needs beside it."""

import io
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field

from memcache_kv.commands import arithmetic
from memcache_kv.commands.arithmetic import Arithmetic
from memcache_kv.observe.log import Log
from memcache_kv.observe.observers import Observers
from memcache_kv.observe.watchers import Stream
from memcache_kv.stats.counters import Counters
from memcache_kv.store import ItemStore, Outcome


@dataclass
class Asking:
    """A `Caller` without a connection."""

    store: ItemStore
    counters: Counters = field(default_factory=Counters)
    observers: Observers = field(default_factory=lambda: Observers(Log(0, io.StringIO())))
    fd: int = 30

    def counts(self) -> dict[str, int]:
        """The counts that are not 0."""
        return {name: count for name in Counters.__slots__ if (count := getattr(self.counters, name))}

    def lines_of(self, ask: Callable[[], object], *streams: Stream) -> list[bytes]:
        """The lines that a watcher of these streams gets of what `ask` does, without time and number."""
        watcher = self.observers.watchers.add(frozenset(streams), lambda: None)
        assert watcher is not None
        ask()
        return [line.split(b" ", 2)[2] for line in watcher.take()]


def add_to(store: ItemStore, key: bytes, amount: int) -> int | Outcome:
    """Count up, or down by a negative amount; return the new number, or why there is none."""
    counted = arithmetic.count(Asking(store), Arithmetic(key, abs(amount), amount >= 0))
    return counted.number if counted.outcome is Outcome.STORED else counted.outcome


def allocated_by(work: Callable[[], object]) -> int:
    """The most bytes that this had allocated at a time."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
