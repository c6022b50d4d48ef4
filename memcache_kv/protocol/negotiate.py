"""Choose the protocol of a connection by its first byte. The choice never changes afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from memcache_kv.auth.access import HERE, Origin
from memcache_kv.protocol.binary.frames import REQUEST_MAGIC
from memcache_kv.protocol.binary.framing import BinaryProtocol
from memcache_kv.protocol.session import Session
from memcache_kv.protocol.text.framing import TextProtocol
from memcache_kv.protocol.text.login import GuardedTextProtocol

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials
    from memcache_kv.protocol.context import Context


def protocol_for(
    context: Context, fd: int, data: bytes, users: Credentials | None = None, origin: Origin = HERE
) -> Session:
    """Return a new protocol object for a client whose input begins with `data`.

    fd: the connection's number in the log; data: at least one byte; users: the users who may log in, and then a login
    must come first; None if no login is needed; origin: where the client connects from.
    """
    binding = context.settings.binding_protocol
    protocol: Session
    if binding == "binary" or (binding == "auto" and data[0] == REQUEST_MAGIC):
        protocol = BinaryProtocol(context, fd, users)
    else:
        protocol = TextProtocol(context, fd) if users is None else GuardedTextProtocol(context, fd, users)
    if origin is not HERE:
        protocol.permit(origin)
    return protocol


class Undecided(Session):
    """The session of a connection that has sent nothing yet.

    The first input decides the protocol. `settle` then replaces this session with the new one, so later requests need
    no check.
    """

    __slots__ = ("_users", "_settle")

    def __init__(
        self,
        context: Context,
        fd: int,
        users: Credentials | None,
        settle: Callable[[Session], None],
        origin: Origin = HERE,
    ) -> None:
        super().__init__(context, fd)
        self.origin = origin
        self._users = users
        self._settle = settle

    def receive(self, data: bytes) -> bool:
        """Choose the protocol and pass the input on to it.

        The replies are in the new session's `out`. Returns False: the caller must check `paused` and `closing`.
        """
        protocol = protocol_for(self.context, self.fd, data, self._users, self.origin)
        protocol.want = self.want
        self._settle(protocol)
        protocol.receive(data)
        return False
