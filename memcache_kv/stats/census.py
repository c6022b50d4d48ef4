"""Counts of the items by size, for `stats items`, `stats slabs` and `stats sizes`.

Writes do not count by size, as that would slow down every one of them. Instead all items are counted when somebody
asks, a few at a time, and the result serves all who ask within the next moments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from itertools import islice, repeat
from operator import itemgetter
from typing import Any

from memcache_kv.clock import monotonic
from memcache_kv.store.entry import (
    EXPIRING,
    EXPIRING_BYTES,
    LINE_FEED,
    WITH_CAS,
    WITH_CAS_BYTES,
    Entry,
    Item,
    wire_bytes_of,
)
from memcache_kv.store.sizes import ClassContents
from memcache_kv.store.store import ItemStore

COUNTED_AT_ONCE = 512
"""How many items one step counts."""
SMALL_STORE_ITEMS = 4096
"""Up to so many items are counted anew after every change."""
SHORTEST_AGE_SECONDS = 1.0
"""So long the counts of a larger store are used, whatever changes."""
AGE_PER_SECOND = 20
"""They are used for longer where counting takes long, so that it takes a twentieth of the time at most."""
SIZE_STEP_BYTES = 32
SURPLUS_BYTES = {
    LINE_FEED: len(b"\n\r\n"),
    EXPIRING: 1 + EXPIRING_BYTES,
    WITH_CAS: 1 + WITH_CAS_BYTES,
}
"""By an entry's last byte, how much longer it is than its data and what comes before the line feed of its head."""
KIND_OF: Callable[[Any], int] = itemgetter(-1)
NO_STEP = object()
"""What stands for the end of the steps."""

StoreState = tuple[int, ...]


class Counts:
    """The items of a store at one time, those included that have expired and are not removed yet."""

    __slots__ = ("classes", "sizes")

    def __init__(self) -> None:
        self.classes: dict[int, ClassContents] = {}
        """The contents of each size class."""
        self.sizes: Counter[int] = Counter()
        """The number of items by the memory that they take here, in steps of 32 bytes."""


class Census:
    """Count a store's items by size when they are asked for. Used by one thread.

    While a count is under way, all who ask take part in it: each step serves them all.

    with_sizes: whether to count for `stats sizes` too.
    """

    def __init__(self, store: ItemStore, with_sizes: bool = False) -> None:
        self._store = store
        self._with_sizes = with_sizes
        self._latest = Counts()
        self._latest_state: StoreState = ()
        self._latest_started_at = 0.0
        self._use_until = 0.0
        self._steps: Iterator[None] = iter(())
        """The rest of the count that is under way."""
        self._askers = 0
        self._goes_on = False
        """Whether a count goes on although nobody waits for it."""

    def count(self) -> Generator[Counts | None, None, None]:
        """Yield None after each step of the count, then the counts."""
        asked_at = monotonic()
        self._askers += 1
        try:
            while next(self._steps, NO_STEP) is not NO_STEP or not self._is_current(asked_at):
                yield None
            counts = self._latest
        finally:
            self._askers -= 1
            if not self._askers and not self._goes_on:
                self._steps = iter(())  # nobody waits for it any more
        yield counts

    def count_within(self, seconds: float) -> Iterator[Counts | None]:
        """Yield None after each step of a count, then the latest counts that are complete.

        If the count takes longer than so many seconds, they are of an earlier one, and the next call goes on with it.
        """
        ends_at = monotonic() + seconds
        self._goes_on = True
        if next(self._steps, NO_STEP) is NO_STEP and not self._is_recent():
            self._steps = self._count()
        while monotonic() < ends_at and next(self._steps, NO_STEP) is not NO_STEP:
            yield None
        yield self._latest

    def _is_current(self, asked_at: float) -> bool:
        """Tell whether the latest counts answer what was asked at this time; if not, begin to count anew."""
        if self._latest_started_at >= asked_at or self._is_recent():
            return True
        self._steps = self._count()
        return False

    def _is_recent(self) -> bool:
        if self._latest_state == self._state():
            return True
        return len(self._store) > SMALL_STORE_ITEMS and monotonic() < self._use_until

    def _state(self) -> StoreState:
        """Return numbers that change whenever the counts may change, or the ages of items."""
        store = self._store
        stored = sum([shard.total_items for shard in store.shards])
        return store.clock.now, stored, len(store), store.used_bytes

    def _count(self) -> Iterator[None]:
        counts, state, started_at, spent_seconds = Counts(), self._state(), monotonic(), 0.0
        tally = Tally(self._store, self._with_sizes)
        for table in self._store.tables:
            keys = iter(list(table))
            while batch := list(islice(keys, COUNTED_AT_ONCE)):
                step_at = monotonic()
                tally.add(batch, list(map(table.get, batch)))
                spent_seconds += monotonic() - step_at
                yield
        tally.finish(counts)
        self._latest, self._latest_state, self._latest_started_at = counts, state, started_at
        self._use_until = monotonic() + max(SHORTEST_AGE_SECONDS, AGE_PER_SECOND * spent_seconds)


class Tally:
    """One count, as far as it has come. Most entries are bytes, which are counted many at a time."""

    __slots__ = ("_store", "_with_sizes", "_lengths", "_sizes", "_items")

    def __init__(self, store: ItemStore, with_sizes: bool) -> None:
        self._store = store
        self._with_sizes = with_sizes
        self._lengths: Counter[int] = Counter()
        """The number of entries that are bytes, by the length of key and data; negative where there are flags."""
        self._sizes: Counter[int] = Counter()
        self._items: dict[int, ClassContents] = {}

    def add(self, keys: list[bytes], entries: list[Entry | None]) -> None:
        """Count these keys, of which some may be gone."""
        if self._with_sizes:
            size_of, step = self._store.size_of, SIZE_STEP_BYTES
            sizes = [size_of(key, entry) for key, entry in zip(keys, entries, strict=True) if entry is not None]
            self._sizes.update([-(-size // step) * step for size in sizes])
        try:
            self._add_bytes(keys, entries)
        except TypeError:  # there is an Item, or a key is gone
            self._add_any(keys, entries)

    def _add_bytes(self, keys: list[bytes], entries: list[Any]) -> None:
        """Count entries that all are bytes. Raises TypeError, and counts nothing, where one is not."""
        surplus = SURPLUS_BYTES
        shapes = zip(
            map(len, keys),
            map(len, entries),
            map(bytes.find, entries, repeat(b"\n")),
            map(bytes.startswith, entries, repeat(b" 0 ")),
            map(KIND_OF, entries),
            strict=True,
        )
        self._lengths.update(
            [
                size if has_no_flags else -size
                for key, entry, head, has_no_flags, last in shapes
                for size in (key + entry - head - surplus[last],)
            ]
        )

    def _add_any(self, keys: list[bytes], entries: list[Entry | None]) -> None:
        pairs = [(key, entry) for key, entry in zip(keys, entries, strict=True) if entry.__class__ is bytes]
        self._add_bytes([key for key, _ in pairs], [entry for _, entry in pairs])
        for key, entry in zip(keys, entries, strict=True):
            if isinstance(entry, Item):
                size = self._store.sizes.item_bytes(key, wire_bytes_of(entry))
                self._add_sized(size, 1, self._store.accessed_at(entry))

    def finish(self, counts: Counts) -> None:
        """Put the result into `counts`."""
        sizes, since = self._store.sizes, self._store.clock.started
        for length, number in self._lengths.items():
            self._add_sized(sizes.bytes_with_header(abs(length), has_flags=length < 0), number, since)
        counts.classes, counts.sizes = self._items, self._sizes

    def _add_sized(self, item_bytes: int, number: int, accessed_at: int) -> None:
        sizes = self._store.sizes
        class_number = sizes.class_of(item_bytes)
        here = self._items.get(class_number)
        if here is None:
            here = self._items[class_number] = ClassContents(accessed_at)
        here.number += number
        here.item_bytes += item_bytes * number
        here.chunks += sizes.chunks_of(item_bytes) * number
        here.accessed_at = min(here.accessed_at, accessed_at)
