"""Protocols that have listeners of their own, so that a connection's first byte need not decide which it speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from memcache_kv.auth.access import CommandClass, Origin
    from memcache_kv.auth.users import Credentials
    from memcache_kv.protocol.context import Context
    from memcache_kv.protocol.session import Session

SessionMaker: TypeAlias = "Callable[[Context, int, Credentials | None, Origin], Session]"
"""Makes the session of a connection, given its number, the users who may log in (None if no login is needed), and where
the client connects from."""


class Dialect(NamedTuple):
    """A protocol with its own listeners.

    name: for the log and the settings; make: makes a connection's session; opening: what the verbose log says of a new
    connection.
    """

    name: str
    make: SessionMaker
    opening: str
    has_login: bool = True
    """Whether clients can log in. If not, and users are configured, a listener serves only if it has a class."""
    rejection: bytes = b"ERROR Too many open connections\r\n"
    """What a client is sent that is rejected because there are too many connections."""

    def asks_for_login(self, listener_class: CommandClass | None) -> bool:
        """Return whether a listener with this class needs a login where users are configured."""
        return self.has_login or listener_class is None
