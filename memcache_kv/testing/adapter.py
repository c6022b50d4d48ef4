"""What the model of `memcache_kv.testing.model` asks of a client: the interface that the client's author writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, Self


class FoundItem(NamedTuple):
    """A value that a client found, with what else the client tells of it."""

    value: bytes
    flags: int | None = None
    """None if the client does not tell them."""
    cas: object = None
    """The token for `cas`, in whatever form the client has it; None if it was not asked for."""


class NotOffered(NotImplementedError):
    """The client has no such command."""


class ClientAdapter(Protocol):
    """Call one client in the terms of the protocol. Its author derives a class and writes the methods that there are.

    Only `get` and `set` must be there. The model leaves out the commands whose methods are not written. All calls come
    from one thread, one after the other, and block until the answer is there. An exception that is in neither
    `refusals` nor `timeouts` ends the run and is shown.

    Keys and values are bytes. A ttl is what the protocol takes: 0 is never, up to 30 days are seconds, more is a unix
    time, less than 0 is at once. Flags are always 0 where `largest_flags` is.
    """

    refusals: tuple[type[Exception], ...] = ()
    """What the client raises for a key that is not allowed, and for `incr` of a value that is not a number. The model
    demands one of these then; if there are none, it leaves such requests out."""
    timeouts: tuple[type[Exception], ...] = ()
    """What the client raises when no answer comes; needed for `MemcachedModel.stalled` only."""
    largest_flags: int = 0
    """The largest client flags that a caller can choose; 0 if it can't."""

    def get(self, key: bytes) -> FoundItem | None:
        """Return the value of a key; None if there is none."""
        ...

    def set(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        """Store a value. Return True."""
        ...

    def quiet(self) -> Self:
        """Return this client with all changes as `noreply`, on the same connection. What they return is ignored."""
        raise NotOffered

    def add(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        """Store a value unless the key has one. Return whether it is stored."""
        raise NotOffered

    def replace(self, key: bytes, value: bytes, flags: int, ttl: int) -> bool:
        """Store a value if the key has one. Return whether it is stored."""
        raise NotOffered

    def append(self, key: bytes, value: bytes) -> bool:
        """Put bytes behind the value of a key. Return whether there is one."""
        raise NotOffered

    def prepend(self, key: bytes, value: bytes) -> bool:
        """Put bytes before the value of a key. Return whether there is one."""
        raise NotOffered

    def gets(self, key: bytes) -> FoundItem | None:
        """Return the value of a key with its token; None if there is none."""
        raise NotOffered

    def cas(self, key: bytes, value: bytes, cas: object, flags: int, ttl: int) -> bool | None:
        """Store a value if the one with this token is still there.

        Return True if it is stored, False if the value was changed, None if the key has no value; False for both if the
        client does not tell them apart.
        """
        raise NotOffered

    def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, FoundItem]:
        """Return the values of the keys that have one."""
        raise NotOffered

    def gets_many(self, keys: Sequence[bytes]) -> Mapping[bytes, FoundItem]:
        """Return the values, with their tokens, of the keys that have one."""
        raise NotOffered

    def set_many(self, values: Mapping[bytes, bytes], flags: int, ttl: int) -> bool:
        """Store several values. Return True if all are stored."""
        raise NotOffered

    def delete(self, key: bytes) -> bool:
        """Remove a key. Return whether it had a value."""
        raise NotOffered

    def incr(self, key: bytes, delta: int) -> int | None:
        """Add to a number. Return the sum; None if the key has no value, which must not make one."""
        raise NotOffered

    def decr(self, key: bytes, delta: int) -> int | None:
        """Subtract from a number. Return the difference, at least 0; None if the key has no value."""
        raise NotOffered

    def touch(self, key: bytes, ttl: int) -> bool:
        """Change when a value expires. Return whether there is one."""
        raise NotOffered

    def gat(self, key: bytes, ttl: int) -> FoundItem | None:
        """Return the value of a key, and change when it expires; None if there is none."""
        raise NotOffered

    def flush_all(self) -> object:
        """Remove everything. What it returns is ignored."""
        raise NotOffered

    def flush_all_later(self, delay: int) -> object:
        """Remove, in `delay` seconds, everything that is there then. What it returns is ignored."""
        raise NotOffered

    def close(self) -> None:
        """Close the client's connections; nothing by default."""
        return


def offers(adapter: ClientAdapter, command: str) -> bool:
    """Tell whether an adapter has a method of this name that its author wrote."""
    method = getattr(type(adapter), command, None)
    return method is not None and method is not getattr(ClientAdapter, command)
