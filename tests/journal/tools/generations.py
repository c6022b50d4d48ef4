"""A journal of several generations: a server that keeps them, with a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from memcache_kv.journal import Fsync, Journal, JournalDirectory
from memcache_kv.journal.compaction import Compaction
from memcache_kv.store import ItemStore, Mode
from memcache_kv.store.entry import pack
from tests.fake_clock import FakeClock
from tests.journal.tools.journals import STARTED


class Served:
    """A store, and a new journal in a directory; `said` is what it told of."""

    def __init__(self, path: Path, keep: int, fsync: Fsync = Fsync.NEVER) -> None:
        self.clock = FakeClock(STARTED)
        self.store = ItemStore(self.clock, shards=1)
        self.directory = JournalDirectory(path)
        self.said: list[str] = []
        self.journal = Journal(
            self.directory,
            fsync,
            self.directory.open(),
            say=self.said.append,
            now=self.clock.now,
            keep=keep,
        )
        self.store.log = self.journal

    def at(self, seconds: int, *keys: str) -> Self:
        """Let it be so many seconds after the start, and store these keys."""
        self.clock.advance(STARTED + seconds - self.clock.now)
        self.store.new_second()
        for key in keys:
            self.store.store(Mode.SET, key.encode(), pack(0, b"value of " + key.encode()))
        self.journal.step()
        return self

    def flush(self) -> None:
        """Remove all items."""
        self.store.flush()

    def rewrite(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Rewrite the journal. meanwhile: what is done after it was begun."""
        steps = Compaction(self.journal, self.store).steps()
        next(steps)
        meanwhile()
        for _ in steps:
            pass
        self.journal.step()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.close()
        self.directory.close()


def three_generations(path: Path, keep: int = 2) -> Path:
    """Serve for 40 s: a and b, a rewrite at 15 s, c, a flush at 25 s, f, a rewrite from 30 to 32 s with d, and e."""
    with Served(path, keep) as served:
        served.at(0, "a").at(10, "b")
        served.at(15).rewrite()
        served.at(20, "c").at(25).flush()
        served.at(26, "f")
        served.at(30).rewrite(meanwhile=lambda: served.at(31, "d").at(32))
        served.at(40, "e")
    return path
