"""What one client may find of its keys: commands with what they do, and the states that their order comes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

CLOCK_SECONDS = 1.5
"""How far the server's clock, which ticks once a second, may be behind ours."""


@dataclass(frozen=True)
class Held:
    """What a key holds."""

    value: bytes
    flags: int = 0
    deadline: int = 0
    stale: bool = False

    def may_be_over(self, now: float) -> bool:
        """Tell whether it may have expired."""
        return 0 < self.deadline <= now + 0.2

    def may_be_there(self, now: float) -> bool:
        """Tell whether it may still be served."""
        return not 0 < self.deadline <= now - CLOCK_SECONDS

    def looks_like(self, found: Held) -> bool:
        """Tell whether a client that reads it finds this."""
        is_close = abs(self.deadline - found.deadline) <= 2 and bool(self.deadline) == bool(found.deadline)
        return is_close and replace(self, deadline=0) == replace(found, deadline=0)


State: TypeAlias = Held | None
States: TypeAlias = frozenset[State]
"""What a key may hold: more than one where no reply has told."""
Keys: TypeAlias = dict[bytes, States]
ABSENT: States = frozenset([None])
Effect: TypeAlias = Callable[[State], tuple[bytes, State]]
"""Given what the key holds: the reply, and what it holds then."""


@dataclass
class Command:
    """A command as it was sent, and what came back."""

    request: bytes
    key: bytes = b""
    effect: Effect | None = None
    replies: tuple[bytes, ...] = ()
    """Any of these, where there is no effect on one key."""
    deletes: bool = False
    flush_at: float | None = None
    """When everything is forgotten: 0 at once."""
    is_flushed: bool = False
    """No command: by now the time of the last flush has come."""
    sent_at: float = field(default_factory=time.time)
    reply: bytes | None = None
    answered_at: float = 0.0


class Model:
    """What keys may hold after the first of some commands.

    evicts: whether a key may be absent at any time, and come back with what it held last.
    """

    def __init__(self, keys: Keys, evicts: bool) -> None:
        self.keys = dict(keys)
        self.flush_at = 0.0
        self._evicts = evicts

    def apply(self, command: Command) -> None:
        """Carry out a command. Fails where its reply is not one that there can be."""
        if command.effect is not None:
            self.keys[command.key] = self._after(command, command.effect)
        elif command.is_flushed or command.flush_at == 0:
            self.keys, self.flush_at = dict.fromkeys(self.keys, ABSENT), 0.0
        elif command.flush_at is not None:
            self.flush_at = command.flush_at
        if command.replies and command.reply is not None:
            assert command.reply in command.replies, f"{command.request!r} was answered {command.reply!r}"

    def _after(self, command: Command, effect: Effect) -> States:
        before = self.keys.get(command.key, ABSENT)
        found = [option for held in before for option in self._options(command, effect, held)]
        states = frozenset(state for reply, state in found if command.reply in (None, reply))
        assert states, f"{command.request[:200]!r} was answered {command.reply!r}, and {before!r} was there"
        return states

    def _options(self, command: Command, effect: Effect, held: State) -> Iterable[tuple[bytes, State]]:
        """Give the replies that there can be with what comes of them."""
        if held is None or held.may_be_there(command.sent_at):
            yield effect(held)
        if held is not None and held.may_be_over(command.answered_at or time.time()):
            yield effect(None)
        if held is not None and self._evicts:
            reply, state = effect(None)
            yield reply, held if state is None and not command.deletes else state

    def explains(self, found: dict[bytes, State], now: float) -> bool:
        """Tell whether a client may find this, of all keys at once."""
        return not any(self.unexplained(found, now))

    def unexplained(self, found: dict[bytes, State], now: float) -> Iterable[bytes]:
        """Name the keys of which it may not."""
        for key, state in found.items():
            if not self.possible(key, state, now):
                yield key

    def possible(self, key: bytes, found: State, now: float) -> States:
        """Return which of the states of a key are those that a client has found."""
        states = self.keys.get(key, ABSENT) if not self.flush_at else ABSENT
        if found is None:
            return frozenset(held for held in states if held is None or self._evicts or held.may_be_over(now))
        return frozenset(held for held in states if held and held.may_be_there(now) and held.looks_like(found))
