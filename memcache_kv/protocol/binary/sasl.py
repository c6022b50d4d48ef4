"""The login of the binary protocol: SASL with its mechanism PLAIN (RFC 4616), in memcached's steps."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials

MECHANISM = b"PLAIN"
MECHANISM_LIMIT_BYTES = 32
MESSAGE_LIMIT_BYTES = 16384


class LoginProgress(Enum):
    """How far a login has come."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CONTINUES = "continues"


class SaslLogin:
    """One connection's login: begun by `start`, which may leave the message to `step`.

    It succeeds once; whoever tries again, or asks for the mechanisms, has to connect anew, as in memcached.
    """

    __slots__ = ("succeeded", "name", "users", "_has_started", "_is_over")

    def __init__(self, users: Credentials) -> None:
        self.users = users
        self.name: bytes | None = None
        """The user that the last message names."""
        self.succeeded = False
        """Whether the client is logged in."""
        self._has_started = False
        self._is_over = False

    def forget(self) -> None:
        """Log the client out."""
        self.succeeded = False

    def start(self, mechanism: bytes, message: bytes) -> LoginProgress:
        """Begin a login; without a message the client is asked for it."""
        self.forget()
        self._has_started, self.name = False, None
        if self._is_over or mechanism.upper() != MECHANISM:
            return LoginProgress.FAILED
        if not message:
            self._has_started = True
            return LoginProgress.CONTINUES
        progress = self._check(message)
        self._has_started = self.succeeded
        return progress

    def step(self, message: bytes) -> LoginProgress:
        """Take the message of a login that was begun without."""
        self.forget()
        if self._is_over or not self._has_started:
            return LoginProgress.FAILED
        return self._check(message)

    def _check(self, message: bytes) -> LoginProgress:
        self.name = None
        parts = message.split(b"\0")
        if len(parts) != 3:
            return LoginProgress.FAILED
        acts_as, name, password = parts
        self.name = name
        if not name or not password or acts_as not in (b"", name) or not self.users.is_known(name, password):
            return LoginProgress.FAILED
        self.succeeded = self._is_over = True
        return LoginProgress.SUCCEEDED
