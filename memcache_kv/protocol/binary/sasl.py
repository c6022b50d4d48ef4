"""The login of the binary protocol: SASL with the mechanism PLAIN (RFC 4616), with memcached's steps."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials

MECHANISM = b"PLAIN"
MECHANISM_LIMIT_BYTES = 32
MESSAGE_LIMIT_BYTES = 16384


class LoginProgress(Enum):
    """The result of one step of a login."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CONTINUES = "continues"
    IS_CHECKED = "is checked"
    """A thread checks the password; `SaslLogin.conclude` says later what became of it."""


class SaslLogin:
    """The login of one connection. `start` begins it; if `start` had no message, `step` takes it.

    A login succeeds only once per connection. A client that has logged in and then starts another login, or lists the
    mechanisms, is logged out and has to reconnect, as in memcached.
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
        """Begin a login. Returns CONTINUES if `message` is empty: the client must then send it in a step."""
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
        """Complete a login that began without a message."""
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
        if not name or not password or acts_as not in (b"", name):
            return LoginProgress.FAILED
        known = self.users.is_known(name, password)
        return LoginProgress.IS_CHECKED if known is None else self._finish(known)

    def conclude(self) -> LoginProgress:
        """Return what became of a login whose password was checked by a thread."""
        return self._finish(self.users.outcome())

    def _finish(self, known: bool) -> LoginProgress:
        self.succeeded = self._is_over = known
        return LoginProgress.SUCCEEDED if known else LoginProgress.FAILED
