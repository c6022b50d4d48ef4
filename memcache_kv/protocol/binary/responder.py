"""Interfaces through which binary commands reply to a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from memcache_kv.auth.access import CommandClass, Origin
from memcache_kv.protocol.binary.frames import Request, Status
from memcache_kv.protocol.binary.sasl import SaslLogin
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.responder import Responder
from memcache_kv.store.entry import Entry

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials


class PacketResponder(Responder, Protocol):
    """A connection, as a binary command about items sees it."""

    def succeed(self, request: Request, value: bytes = b"", cas: int = 0) -> None:
        """Reply with success, unless the request is a quiet one."""

    def fail(self, request: Request, status: Status, text: bytes = b"") -> None:
        """Reply with an error. Without `text`, memcached's text for the status is sent."""

    def answer(self, request: Request, status: Status, value: bytes, cas: int = 0) -> None:
        """Reply with a status and a value."""

    def answer_hit(self, request: Request, entry: Entry, key: bytes, with_value: bool) -> None:
        """Reply with an item: its client flags and CAS id, `key`, and its value if `with_value`."""


class ServerPacketResponder(PacketResponder, Protocol):
    """A connection, as a binary command about the server or the login sees it."""

    @property
    def context(self) -> Context:
        """The server."""

    def permit(
        self, origin: Origin | None = None, user: bytes | None = None, user_class: CommandClass | None = None
    ) -> None:
        """Set which commands the client may use."""

    def audit_login(self, name: bytes | None, users: Credentials, is_known: bool) -> None:
        """Write a login to the audit log."""

    @property
    def login(self) -> SaslLogin | None:
        """The state of the connection's login; None if no login is needed."""

    def go_on_later(self, act: Callable[[], None]) -> None:
        """Carry out nothing more until the connection is resumed, and then this first."""


PacketHandler: TypeAlias = Callable[[ServerPacketResponder, Request], None]
"""Carries out a command, given a valid request."""
