"""What a memcached does with its items, in the plainest Python: the model compares a client's answers with it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

from memcache_kv.commands.arithmetic import LARGEST_NUMBER

LAST_RELATIVE_TTL = 30 * 24 * 3600
"""A larger ttl is a unix time."""
NUMBER_TEXT = re.compile(rb"([0-9]{1,20}) *")
LONGEST_NUMBER = 20
SIGNS_AND_SPACES = tuple(bytes([byte]) for byte in b"+- \t\n\v\f\r")


class NotANumber(Exception):
    """`incr` or `decr` of a value that is not a decimal number below 2^64."""


@dataclass(frozen=True)
class PlainItem:
    """A value with what belongs to it. Times are unix times."""

    value: bytes
    flags: int
    expires: float
    """Infinite if never."""
    stored_at: float
    version: int
    """Changes whenever the token for `cas` does."""


@dataclass
class PlainCache:
    """Hold items by key. `now` is the server's unix time; whoever uses the cache moves it."""

    now: float
    items: dict[bytes, PlainItem] = field(default_factory=dict)
    flush_at: float = math.inf
    """When everything is removed; infinite if no `flush_all` waits."""
    _changes: int = 0

    def deadline(self, ttl: int) -> float:
        """Return the unix time at which an item with this ttl expires."""
        if ttl == 0:
            return math.inf
        if ttl < 0:
            return -math.inf
        return self.now + ttl if ttl <= LAST_RELATIVE_TTL else float(ttl)

    def get(self, key: bytes) -> PlainItem | None:
        """Return a key's item that has not expired."""
        item = self.items.get(key)
        if item is not None and item.expires <= self.now:
            del self.items[key]
            return None
        return item

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        """Store a value."""
        self._put(key, value, flags, self.deadline(ttl))
        return True

    def _put(self, key: bytes, value: bytes, flags: int, expires: float) -> None:
        self._changes += 1
        self.items[key] = PlainItem(value, flags, expires, self.now, self._changes)

    def add(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        """Store a value unless the key has one."""
        return self.get(key) is None and self.set(key, value, flags, ttl)

    def replace(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        """Store a value if the key has one."""
        return self.get(key) is not None and self.set(key, value, flags, ttl)

    def cas(self, key: bytes, value: bytes, version: int, flags: int, ttl: int) -> bool | None:
        """Store a value if the version is still there; False if another one is, None if none is."""
        item = self.get(key)
        if item is None:
            return None
        return item.version == version and self.set(key, value, flags, ttl)

    def append(self, key: bytes, value: bytes) -> bool:
        """Put bytes behind a value. Flags and expiry time stay."""
        item = self.get(key)
        return item is not None and self._rewrite(key, item, item.value + value)

    def prepend(self, key: bytes, value: bytes) -> bool:
        """Put bytes before a value. Flags and expiry time stay."""
        item = self.get(key)
        return item is not None and self._rewrite(key, item, value + item.value)

    def _rewrite(self, key: bytes, item: PlainItem, value: bytes) -> bool:
        self._put(key, value, item.flags, item.expires)
        return True

    def count(self, key: bytes, delta: int) -> int | None:
        """Add to a number, or subtract from it if `delta` is negative. Raises NotANumber.

        A sum wraps at 2^64, a difference stops at 0. A number that has become shorter keeps its length, with spaces
        behind it.
        """
        item = self.get(key)
        if item is None:
            return None
        number = (max(0, number_of(item.value) + delta)) % (LARGEST_NUMBER + 1)
        self._rewrite(key, item, (b"%d" % number).ljust(len(item.value)))
        return number

    def touch(self, key: bytes, ttl: int) -> bool:
        """Change when an item expires; its version stays."""
        item = self.get(key)
        if item is not None:
            self.items[key] = replace(item, expires=self.deadline(ttl))
        return item is not None

    def delete(self, key: bytes) -> bool:
        """Remove a key."""
        there = self.get(key) is not None
        self.items.pop(key, None)
        return there

    def flush(self, delay: int) -> None:
        """Remove everything, now or when the last second of the delay begins. A flush that waits is forgotten."""
        self.flush_at = math.inf
        if delay:
            self.flush_at = self.now + delay - 1
        else:
            self.items.clear()


def number_of(value: bytes) -> int:
    """Read a number as `incr` does. Raises NotANumber."""
    match = NUMBER_TEXT.fullmatch(value)
    if match is None or len(value) > LONGEST_NUMBER or int(match[1]) > LARGEST_NUMBER:
        raise NotANumber
    return int(match[1])


def is_clear(value: bytes) -> bool:
    """Tell whether servers agree if a value is a number: of one that begins with a space or a sign, they do not."""
    if value[:1].isdigit():
        return len(value) <= LONGEST_NUMBER and NUMBER_TEXT.fullmatch(value) is not None
    return value[:1] not in SIGNS_AND_SPACES
