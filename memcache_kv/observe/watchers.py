"""`watch`: log lines for the connections that request them (memcached's protocol.txt, "Watchers").

The lines have the fields of memcached 1.6.45's logger, in the same order.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from urllib.parse import quote_from_bytes

from memcache_kv.store import Entry, Mode, Outcome
from memcache_kv.store.entry import deadline_of, length_of, wire_bytes_of
from memcache_kv.store.sizes import DEFAULT_SIZES, SizeClasses
from memcache_kv.store.time import Time
from memcache_kv.store.writes import Write
from memcache_kv.unpatched import threading, time

LINES_LIMIT_BYTES = 256 * 1024
"""The size of a watcher's buffer, as in memcached."""
SKIPPED_LINE_BYTES = 128
"""The part of it that is kept free for the line that says how many lines were skipped."""
WATCHERS_LIMIT = 20


class Stream(enum.Enum):
    """What a client can watch. Streams about what does not exist here have no lines."""

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
"""The streams with lines about single requests."""


class Watcher:
    """A connection that watches: its buffered lines, and how many were skipped. Made by `Watchers.add`.

    streams: what it watches; limit_bytes: the size of its buffer; lock: the lock of `Watchers`; notify: called when the
    first line is put into the empty buffer, by any thread and with locks held, so it must not block.
    """

    __slots__ = ("streams", "limit_bytes", "_lock", "_notify", "_lines", "_waiting_bytes", "_skipped")

    def __init__(
        self, streams: frozenset[Stream], limit_bytes: int, lock: threading.Lock, notify: Callable[[], None]
    ) -> None:
        self.streams = streams
        self._lock = lock
        self.limit_bytes = limit_bytes
        self._notify = notify
        self._lines: list[bytes] = []
        self._waiting_bytes = 0
        self._skipped = 0

    def skip_locked(self, lines: int) -> None:
        """Count lines that were not made, for the line that says how many are missing. The lock must be held."""
        self._skipped += lines

    def offer_locked(self, line: bytes) -> bool:
        """Buffer a line and return True, or skip it and return False if there is no room. The lock must be held."""
        if self._waiting_bytes + len(line) + SKIPPED_LINE_BYTES > self.limit_bytes:
            self._skipped += 1
            return False
        if self._skipped:
            line = b"skipped=%d\n%b" % (self._skipped, line)
            self._skipped = 0
        self._lines.append(line)
        self._waiting_bytes += len(line)
        if len(self._lines) == 1:
            self._notify()
        return True

    def take(self) -> list[bytes]:
        """Return the buffered lines and empty the buffer. For the thread that sends them."""
        with self._lock:
            lines, self._lines = self._lines, []
            self._waiting_bytes = 0
        return lines


class Watchers:
    """All watchers. Each gets the lines of the streams that it watches.

    clock: the time, for expiry times; lines_limit_bytes: the size of each watcher's buffer; now_us: the unix time in
    microseconds, for the lines; sizes: the size classes.

    Any thread may call any method, also while it holds a shard's lock. Each takes one lock, only to buffer a line and
    to call `notify`. Nobody waits for a watcher: lines that do not fit into its buffer are skipped. Callers check
    `is_watched` first, which saves making lines for nobody.
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
        self._dropped: dict[Stream, int] = {}
        """For each stream, how many dropped lines its watchers do not know of yet."""
        self.reset()

    def reset(self) -> None:
        """Set the counts to 0, as `stats reset` does."""
        self.written = 0
        """The number of lines made."""
        self.sent = 0
        """The number of lines buffered, counted for each watcher."""
        self.skipped = 0
        """The number of lines skipped, counted for each watcher."""
        self.dropped = 0
        """The number of lines that were not made, as there was no time."""

    @property
    def count(self) -> int:
        """The number of watchers."""
        return len(self._watchers)

    def is_watched(self, *streams: Stream) -> bool:
        """Return whether a watcher has one of these streams."""
        return not self._streams.isdisjoint(streams)

    def follow(self, changed: Callable[[], None]) -> None:
        """Call a function whenever watchers come or go, with the lock held: it must not call `add` or `remove`."""
        self._followers.append(changed)

    def add(self, streams: frozenset[Stream], notify: Callable[[], None]) -> Watcher | None:
        """Add a watcher of these streams, or return None if there are too many. `Watcher` describes `notify`."""
        with self._lock:
            if len(self._watchers) >= WATCHERS_LIMIT:
                return None
            self._settle_locked()
            watcher = Watcher(streams, self._lines_limit_bytes, self._lock, notify)
            self._watchers.append(watcher)
            self._line_id += 1  # as in memcached, where this id marks the first line for the new watcher
            self._changed_locked()
            return watcher

    def remove(self, watcher: Watcher) -> None:
        """Remove a watcher. Its `notify` is not called any more."""
        with self._lock:
            self._watchers.remove(watcher)
            self._changed_locked()

    def _changed_locked(self) -> None:
        self._streams = frozenset[Stream]().union(*(watcher.streams for watcher in self._watchers))
        for changed in self._followers:
            changed()

    def drop(self, stream: Stream, lines: int) -> None:
        """Count lines for which there was no time. The watchers of their stream are told with their next line."""
        if lines and stream in self._streams:
            with self._lock:
                self._dropped[stream] = self._dropped.get(stream, 0) + lines
                self.dropped += lines

    def _settle_locked(self) -> None:
        """Add the dropped lines to what each watcher is told."""
        for stream, lines in self._dropped.items():
            for watcher in self._watchers:
                if stream in watcher.streams:
                    watcher.skip_locked(lines)
        self._dropped.clear()

    # Events

    def looked_up(self, fd: int, key: bytes, entry: Entry | None, flushed: bool = False) -> None:
        """Report the lookup of a key; see `Observers.looked_up`."""
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
        """Report the outcome of a storage command, and the entry that it stored."""
        deadline, wire_bytes = write.deadline, write.wire_bytes
        if entry is not None:  # it may have joined them to older ones
            deadline, wire_bytes = deadline_of(entry), wire_bytes_of(entry)
        status, clsid = outcome.name.lower(), self._class_of(write.key, wire_bytes)
        self._store(fd, write.key, status, write.mode, self._ttl(deadline), clsid, length_of(wire_bytes))

    def rejected(self, fd: int, key: bytes, mode: Mode) -> None:
        """Report a value that was too large to be stored."""
        self._store(fd, key, "too_large", mode, 0, 0, 0)

    def _store(self, fd: int, key: bytes, status: str, mode: Mode, ttl: int, clsid: int, size: int) -> None:
        self._write(
            Stream.MUTATIONS,
            f"item_store key={_encoded(key)} status={status} cmd={mode.value} ttl={ttl} clsid={clsid} cfd={fd} "
            f"size={size}",
        )

    def _ttl(self, deadline: int) -> int:
        """Return the seconds until a deadline. If it has passed, wrap around like memcached's unsigned 32 bits."""
        return (max(deadline, self._clock.started) - self._clock.now) & 0xFFFFFFFF if deadline else 0

    def deleted(self, key: bytes, entry: Entry, command: str) -> None:
        """Report that a command deleted an entry."""
        clsid, size = self._class_of(key, wire_bytes_of(entry)), length_of(wire_bytes_of(entry))
        self._write(Stream.DELETIONS, f"deleted key={_encoded(key)} cmd={command} clsid={clsid} size={size}")

    def evicted(self, key: bytes, entry: Entry, accessed: int, was_read: bool) -> None:
        """Report an eviction. accessed: the unix time when the item was last read or stored, as far as it is known."""
        now, deadline = self._clock.now, deadline_of(entry)
        fetched = "yes" if was_read else "no"
        ttl = deadline - now if deadline else -1
        clsid = self._class_of(key, wire_bytes_of(entry))
        self._write(
            Stream.EVICTIONS,
            f"eviction key={_encoded(key)} fetch={fetched} ttl={ttl} la={now - accessed} clsid={clsid} "
            f"size={length_of(wire_bytes_of(entry))}",
        )

    def opened(self, fd: int, peer: object) -> None:
        """Report a new connection. peer: the client's socket address."""
        self._write(Stream.CONNEVENTS, f"conn_new {_endpoint(peer)} cfd={fd}")

    def closed(self, fd: int, peer: object, reason: str) -> None:
        """Report that a connection ended. reason: "normal", "error", "idle_timeout" or "shutdown"."""
        self._write(Stream.CONNEVENTS, f"conn_close {_endpoint(peer)} reason={reason} cfd={fd}")

    def _write(self, stream: Stream, text: str) -> None:
        """Buffer a line for every watcher of its stream."""
        if stream not in self._streams:
            return
        with self._lock:
            self._line_id += 1
            seconds, micros = divmod(self._now_us(), 1_000_000)
            line = f"ts={seconds}.{micros:06d} gid={self._line_id} type={text}\n".encode()
            self.written += 1
            if self._dropped:
                self._settle_locked()
            for watcher in self._watchers:
                if stream not in watcher.streams:
                    continue
                if watcher.offer_locked(line):
                    self.sent += 1
                else:
                    self.skipped += 1


def _encoded(key: bytes) -> str:
    """Encode a key like a part of a URI, as memcached does."""
    return quote_from_bytes(key, safe="")


def _endpoint(peer: object) -> str:
    """Return the fields of a line that say where a client connects from."""
    if isinstance(peer, tuple):
        host, port = peer[:2]
        return f"rip={host.partition('%')[0]} rport={port} transport=tcp"
    return "rip=unix rport=0 transport=local"
