"""`watch`: lines about what the server does, for the connections that asked for them (protocol.txt, "Watchers").

The lines have the fields of memcached 1.6.45's logger in its order.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from urllib.parse import quote_from_bytes

from memcache_kv.store import Entry, Mode, Outcome
from memcache_kv.store.entry import FETCHED, deadline_of, length_of, state_of, wire_bytes_of
from memcache_kv.store.sizes import DEFAULT_SIZES, SizeClasses
from memcache_kv.store.time import Time
from memcache_kv.store.writes import Write

LINES_LIMIT_BYTES = 256 * 1024
"""Lines kept for one who does not read them, as in memcached."""
SKIPPED_LINE_BYTES = 128
"""Room that is kept free for the line that tells how many are missing."""
WATCHERS_LIMIT = 20


class Stream(enum.Enum):
    """What one can watch. Where memcached has lines that have no meaning here, none come."""

    RAWCMDS = "rawcmds"
    EVICTIONS = "evictions"
    FETCHERS = "fetchers"
    MUTATIONS = "mutations"
    SYSEVENTS = "sysevents"
    CONNEVENTS = "connevents"
    PROXYREQS = "proxyreqs"
    PROXYEVENTS = "proxyevents"
    PROXYUSER = "proxyuser"
    DELETIONS = "deletions"


REQUEST_STREAMS = frozenset({Stream.FETCHERS, Stream.MUTATIONS, Stream.DELETIONS})
"""Those that tell of single requests."""


class Watcher:
    """One who watches: the lines that wait for it, and how many it has missed. Made by `Watchers.add`.

    tell: called when a line waits that nobody has been told of; it may be called by any thread, and returns at once.
    """

    __slots__ = ("streams", "_lock", "_limit_bytes", "_tell", "_lines", "_waiting_bytes", "_missed")

    def __init__(
        self, streams: frozenset[Stream], limit_bytes: int, lock: threading.Lock, tell: Callable[[], None]
    ) -> None:
        self.streams = streams
        self._lock = lock
        self._limit_bytes = limit_bytes
        self._tell = tell
        self._lines: list[bytes] = []
        self._waiting_bytes = 0
        self._missed = 0

    def offer_locked(self, line: bytes) -> bool:
        """Put a line by; False, and it is missed, where there is no room. The watchers' lock is held."""
        if self._waiting_bytes + len(line) + SKIPPED_LINE_BYTES > self._limit_bytes:
            self._missed += 1
            return False
        if self._missed:
            line = b"skipped=%d\n%b" % (self._missed, line)
            self._missed = 0
        self._lines.append(line)
        self._waiting_bytes += len(line)
        if len(self._lines) == 1:
            self._tell()
        return True

    def take(self) -> list[bytes]:
        """Return the lines that wait, and forget them. For the one thread that sends them."""
        with self._lock:
            lines, self._lines = self._lines, []
            self._waiting_bytes = 0
        return lines


class Watchers:
    """All who watch. Tell of what happens; each gets the lines of the streams that it asked for.

    Every method may be called by any thread, with a shard's lock held too: one lock is taken, for the time that it
    takes to put a line by, and within it none but memory is touched and `tell` called. Nobody waits for one who
    watches: what it does not read in time is missed. Who asks first whether a stream is watched (`is_watched`) saves
    the making of its lines.

    lines_limit_bytes: what may wait for one watcher; now_us: microseconds of unix time; sizes: the items' classes.
    """

    def __init__(
        self,
        clock: Time,
        lines_limit_bytes: int = LINES_LIMIT_BYTES,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        sizes: SizeClasses = DEFAULT_SIZES,
    ) -> None:
        self._clock = clock
        self._lines_limit_bytes = lines_limit_bytes
        self._now_us = now_us
        self._class_of = sizes.class_of_item
        self._lock = threading.Lock()
        self._watchers: list[Watcher] = []
        self._followers: list[Callable[[], None]] = []
        self._streams: frozenset[Stream] = frozenset()
        self._line_id = 0
        self.reset()

    def reset(self) -> None:
        """Count the lines anew, as `stats reset` does."""
        self.written = 0
        """Lines that somebody was to have."""
        self.sent = 0
        """How often one was put by for somebody."""
        self.skipped = 0
        """How often somebody missed one."""

    @property
    def count(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def is_watched(self, *streams: Stream) -> bool:
        """Tell whether somebody watches one of these."""
        return not self._streams.isdisjoint(streams)

    def follow(self, changed: Callable[[], None]) -> None:
        """Call this from now on whenever other streams are watched, with the lock held: it must not watch itself."""
        self._followers.append(changed)

    def add(self, streams: frozenset[Stream], tell: Callable[[], None]) -> Watcher | None:
        """Watch these streams; None where there are too many who watch. `Watcher` says what `tell` is."""
        with self._lock:
            if len(self._watchers) >= WATCHERS_LIMIT:
                return None
            watcher = Watcher(streams, self._lines_limit_bytes, self._lock, tell)
            self._watchers.append(watcher)
            self._line_id += 1  # as in memcached, where it marks from when on lines are for the new one
            self._changed_locked()
            return watcher

    def remove(self, watcher: Watcher) -> None:
        """Watch no longer: `tell` is not called any more."""
        with self._lock:
            self._watchers.remove(watcher)
            self._changed_locked()

    def _changed_locked(self) -> None:
        self._streams = frozenset[Stream]().union(*(watcher.streams for watcher in self._watchers))
        for changed in self._followers:
            changed()

    # What happens

    def looked_up(self, fd: int, key: bytes, entry: Entry | None, flushed: bool = False) -> None:
        """Tell that a command looks for a key, for which this is kept, expired or not, or nothing since a flush."""
        clsid = size = 0
        if entry is None:
            status = "flushed" if flushed else "not_found"
        elif 0 < deadline_of(entry) <= self._clock.now:
            status = "expired"
        else:
            status, size = "found", length_of(wire_bytes_of(entry))
            clsid = self._class_of(key, wire_bytes_of(entry))
        self._write(Stream.FETCHERS, f"item_get key={_encoded(key)} status={status} clsid={clsid} cfd={fd} size={size}")

    def stored(self, fd: int, write: Write, outcome: Outcome, entry: Entry | None) -> None:
        """Tell what became of a storage command, and what it stored."""
        deadline, wire_bytes = write.deadline, write.wire_bytes
        if entry is not None:  # it may have joined them to older ones
            deadline, wire_bytes = deadline_of(entry), wire_bytes_of(entry)
        status, clsid = outcome.name.lower(), self._class_of(write.key, wire_bytes)
        self._store(fd, write.key, status, write.mode, self._ttl(deadline), clsid, length_of(wire_bytes))

    def refused(self, fd: int, key: bytes, mode: Mode) -> None:
        """Tell that a value was too large to be stored."""
        self._store(fd, key, "too_large", mode, 0, 0, 0)

    def _store(self, fd: int, key: bytes, status: str, mode: Mode, ttl: int, clsid: int, size: int) -> None:
        self._write(
            Stream.MUTATIONS,
            f"item_store key={_encoded(key)} status={status} cmd={mode.value} ttl={ttl} clsid={clsid} cfd={fd} "
            f"size={size}",
        )

    def _ttl(self, deadline: int) -> int:
        """Return the seconds to a deadline. One that has passed shows as memcached's unsigned 32 bits show it."""
        return (max(deadline, self._clock.started) - self._clock.now) & 0xFFFFFFFF if deadline else 0

    def deleted(self, key: bytes, entry: Entry, command: str) -> None:
        """Tell that a command deleted a key, for which this was kept."""
        clsid, size = self._class_of(key, wire_bytes_of(entry)), length_of(wire_bytes_of(entry))
        self._write(Stream.DELETIONS, f"deleted key={_encoded(key)} cmd={command} clsid={clsid} size={size}")

    def evicted(self, key: bytes, entry: Entry, accessed: int) -> None:
        """Tell that an item, last read or stored at this unix time, had to make room."""
        now, deadline = self._clock.now, deadline_of(entry)
        fetched = "yes" if state_of(entry) & FETCHED else "no"
        ttl = deadline - now if deadline else -1
        clsid = self._class_of(key, wire_bytes_of(entry))
        self._write(
            Stream.EVICTIONS,
            f"eviction key={_encoded(key)} fetch={fetched} ttl={ttl} la={now - accessed} clsid={clsid} "
            f"size={length_of(wire_bytes_of(entry))}",
        )

    def opened(self, fd: int, peer: object) -> None:
        """Tell of a new connection; `peer` is its other end's address."""
        self._write(Stream.CONNEVENTS, f"conn_new {_endpoint(peer)} cfd={fd}")

    def closed(self, fd: int, peer: object, reason: str) -> None:
        """Tell that a connection ended: "normal", "error", "idle_timeout" or "shutdown"."""
        self._write(Stream.CONNEVENTS, f"conn_close {_endpoint(peer)} reason={reason} cfd={fd}")

    def _write(self, stream: Stream, text: str) -> None:
        """Put a line by for everybody who watches its stream."""
        if stream not in self._streams:
            return
        with self._lock:
            self._line_id += 1
            seconds, micros = divmod(self._now_us(), 1_000_000)
            line = f"ts={seconds}.{micros:06d} gid={self._line_id} type={text}\n".encode()
            self.written += 1
            for watcher in self._watchers:
                if stream not in watcher.streams:
                    continue
                if watcher.offer_locked(line):
                    self.sent += 1
                else:
                    self.skipped += 1


def _encoded(key: bytes) -> str:
    """Write a key as part of a URI."""
    return quote_from_bytes(key, safe="")


def _endpoint(peer: object) -> str:
    """Write the fields for the other end of a connection: an address and a port, or a unix socket's path."""
    if isinstance(peer, tuple):
        host, port = peer[:2]
        return f"rip={host.partition('%')[0]} rport={port} transport=tcp"
    return "rip=unix rport=0 transport=local"
