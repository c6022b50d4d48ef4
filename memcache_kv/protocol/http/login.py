"""Bearer tokens (RFC 6750): a token is user:password, as a line of the users file begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcache_kv.protocol.http.message import HttpReply
from memcache_kv.protocol.http.problems import problem_reply

if TYPE_CHECKING:
    from memcache_kv.auth.users import Credentials

CHALLENGE = ((b"WWW-Authenticate", b'Bearer realm="memcache_kv"'),)
NO_TOKEN = problem_reply(401, "A login is required: send Authorization: Bearer user:password", CHALLENGE)
WRONG_TOKEN = problem_reply(
    401,
    "The token is not valid. It is user:password, as in the users file.",
    ((b"WWW-Authenticate", b'Bearer realm="memcache_kv", error="invalid_token"'),),
)


class BearerLogin:
    """The login of one connection. Each request has its token; one that equals the last valid one is not checked again.

    users: the users who may log in.
    """

    __slots__ = ("users", "_valid", "_checked", "name")

    def __init__(self, users: Credentials) -> None:
        self.users = users
        self.name = b""
        """The user that the last token names."""
        self._valid = b""
        self._checked = b""

    def is_valid(self, authorization: bytes) -> bool:
        """Return whether this is the header with which the client is logged in."""
        return authorization == self._valid and bool(authorization)

    def check(self, authorization: bytes) -> bool | None:
        """Return whether the token of this header is valid. None: a thread checks it; call `conclude` afterwards."""
        self._valid, self._checked = b"", authorization
        self.name, _, password = authorization[len(b"Bearer ") :].strip().partition(b":")
        known = self.users.is_known(self.name, password)
        return None if known is None else self._finish(known)

    def conclude(self) -> bool:
        """Return what the thread has found."""
        return self._finish(self.users.outcome())

    def _finish(self, is_known: bool) -> bool:
        if is_known:
            self._valid = self._checked
        return is_known


def refusal_without_token(authorization: bytes) -> HttpReply | None:
    """Return the reply to a request whose header has no bearer token; None if it has one."""
    scheme, _, token = authorization.partition(b" ")
    return None if scheme.lower() == b"bearer" and b":" in token else NO_TOKEN
