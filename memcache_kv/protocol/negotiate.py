"""Which protocol a connection speaks: its first byte decides, once, before there is an object for the protocol."""

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
    """Make the protocol of a client that begins with these bytes, of which there is at least one.

    users: those who may log in, which then has to come first; None asks for no login; origin: where the client is.
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
    """A connection that has sent nothing yet.

    With the first input it makes the protocol, hands it to `settle`, which puts it in the place of this session, and
    lets it answer: so no later request has to ask whether the protocol is known.
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
        """Decide, and let the protocol take what arrived: what it answers is in its `out`, not in this one's."""
        protocol = protocol_for(self.context, self.fd, data, self._users, self.origin)
        protocol.want = self.want
        self._settle(protocol)
        protocol.receive(data)
        return False
