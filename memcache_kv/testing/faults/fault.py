"""Faults by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from memcache_kv import Server
from memcache_kv.testing.faults import in_the_server, of_the_server, on_the_wire
from memcache_kv.testing.faults.base import Fault, Place
from memcache_kv.testing.faults.selection import KeyPattern, Selection
from memcache_kv.testing.wire import Direction, Tap

FAULTS: Mapping[str, type[Fault]] = {
    "delay": on_the_wire.Delay,
    "bandwidth": on_the_wire.Bandwidth,
    "stall": on_the_wire.Stall,
    "cut": on_the_wire.Cut,
    "drop": on_the_wire.Drop,
    "close": on_the_wire.Close,
    "reset": on_the_wire.Reset,
    "refuse": on_the_wire.Refuse,
    "down": on_the_wire.Down,
    "error": of_the_server.ErrorAnswer,
    "out_of_memory": of_the_server.OutOfMemoryAnswer,
    "miss": of_the_server.Miss,
    "evict": in_the_server.Evict,
    "forget": in_the_server.Forget,
    "journal_error": in_the_server.JournalFailure,
}
"""Every fault by its name."""


def fault(
    tap: Tap,
    kind: str,
    *,
    server: Server | None = None,
    direction: str | None = None,
    commands: str | Iterable[str] | None = None,
    keys: KeyPattern | None = None,
    probability: float = 1.0,
    seed: int = 0,
    **options: Any,
) -> Fault:
    """Return a fault, which happens to what passes the tap while its `with` block lasts.

    kind: a name of `FAULTS`. server: the server behind the tap, for `evict`, `forget` and `journal_error`. direction:
    "downstream" for replies, "upstream" for requests; by default replies. commands, keys, probability, seed: which
    requests are met, or the replies to which, as `Selection` has them. options: what the class of the kind takes
    besides, with times in seconds.

    Faults may be nested; each request or reply meets them in the order in which they began. Any thread may use them.
    Raises ValueError for a kind or a value that can't be, and TypeError for an argument that this kind does not have.
    """
    made = FAULTS.get(kind)
    if made is None:
        near = get_close_matches(kind, FAULTS, 1) or sorted(FAULTS)
        raise ValueError(f"there is no fault {kind!r}; do you mean {' or '.join(near)}?")
    if direction is not None and not made.can_choose:
        raise TypeError(f"the fault {kind} has no direction")
    if not made.picks and (commands is not None or keys is not None or probability != 1):
        raise TypeError(f"the fault {kind} meets everybody: it takes no commands, keys or probability")
    if made.needs_server and server is None:
        raise ValueError(f"the fault {kind} needs a server that runs in this process")
    selection = Selection(commands, keys, probability, seed)
    return made(Place(tap, server, selection, None if direction is None else Direction(direction)), **options)
