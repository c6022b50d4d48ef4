"""The login of the text protocol, which -Y demands.

A client logs in with `set <any key> <flags> <exptime> <bytes>` and the data block `user password`.
"""

from __future__ import annotations

from memcache_kv.auth.users import Credentials
from memcache_kv.protocol.context import Context
from memcache_kv.protocol.numbers import unsigned32
from memcache_kv.protocol.text.framing import LINE_LIMIT_BYTES, TextProtocol

SHORTEST_LINE_BYTES = 6
SHORTEST_INPUT_BYTES = 3
TOKEN_LIMIT_BYTES = 16384
SIZE_WORD = 4
"""The index of the word that gives the length of the data block."""


class GuardedTextProtocol(TextProtocol):
    """A text protocol that accepts no other command before a login.

    users: the users who may log in.
    """

    __slots__ = ("_users", "logged_in", "_before_login", "_token_bytes", "_user_to_check")

    def __init__(self, context: Context, fd: int, users: Credentials) -> None:
        super().__init__(context, fd)
        self._users = users
        self.logged_in = False
        self._before_login = bytearray()
        """Input of an incomplete login."""
        self._user_to_check: bytes | None = None
        """The user whose password a thread checks; nothing else is carried out until `resume`."""
        self._token_bytes = 0
        """Length of the expected data block with user and password, including its line end; 0 before its line."""

    @property
    def is_amid_request(self) -> bool:
        """Whether the session holds an incomplete login or request."""
        return bool(self._before_login) or super().is_amid_request

    @property
    def held_bytes(self) -> int:
        """How many bytes of an incomplete login or request the session holds."""
        return len(self._before_login) + super().held_bytes

    @property
    def block_bytes_left(self) -> int:
        """How many bytes of a login's or another data block may still arrive; 0 if none is expected."""
        return self._token_bytes or super().block_bytes_left

    def receive(self, data: bytes) -> bool:
        """Carry out the input; before a login, accept nothing else. See `Session.receive`."""
        if self.logged_in:
            return super().receive(data)
        self._receive_login(data)
        return False

    def resume(self) -> None:
        """Continue where the last turn ended, or after the check of a password."""
        user = self._user_to_check
        if user is None:
            super().resume()
            return
        self._user_to_check, self.paused = None, False
        self._answer_login(user, self._users.outcome())
        self._receive_login(b"")

    def _receive_login(self, data: bytes) -> None:
        self._before_login += data
        if len(self._before_login) < self._token_bytes:
            return
        data = bytes(self._before_login)
        position = 0
        while not (self.closing or self.logged_in or self._user_to_check is not None):
            stop = self._take_token(data, position) if self._token_bytes else self._take_line(data, position)
            if not stop:
                break
            position = stop
        if not self.logged_in:
            del self._before_login[:position]
            return
        self._before_login = bytearray()
        if position < len(data):
            super().receive(data[position:])

    def _take_line(self, data: bytes, position: int) -> int:
        """Carry out one line, which begins a login or is rejected. Returns the position after it, or 0."""
        there = len(data) - position
        if there < SHORTEST_INPUT_BYTES:
            return 0
        end = data.find(b"\n", position)
        if end < 0 or end - position < SHORTEST_LINE_BYTES:
            self.closing = end >= 0 or there > LINE_LIMIT_BYTES
            return 0
        line = data[position : end - 1].removesuffix(b"\r")  # memcached drops the byte before the \n, whatever it is
        words = [word for word in line.split(b" ") if word]
        size = unsigned32(words[SIZE_WORD]) if len(words) > SIZE_WORD else None
        if size is None or not data.startswith(b"set", position):
            self.reply(b"CLIENT_ERROR unauthenticated")
        elif size > TOKEN_LIMIT_BYTES:
            self.reply(b"CLIENT_ERROR auth token too long")
        else:
            self._token_bytes = size + 2
        return end + 1

    def _take_token(self, data: bytes, position: int) -> int:
        """Check user and password. Returns the position after them, or 0 if they are incomplete."""
        stop = position + self._token_bytes
        if len(data) < stop:
            return 0
        self._token_bytes = 0
        user, space, password = data[position : stop - 2].partition(b" ")
        if data[stop - 2 : stop] != b"\r\n":
            self.reply(b"CLIENT_ERROR bad command line termination")
        elif not space:
            self.reply(b"CLIENT_ERROR bad authentication token format")
        else:
            self._check(user, password)
        return stop

    def _check(self, user: bytes, password: bytes) -> None:
        self.counters.auth_cmds += 1
        known = self._users.is_known(user, password)
        if known is None:
            self._user_to_check = user
        else:
            self._answer_login(user, known)

    def _answer_login(self, user: bytes, known: bool) -> None:
        self.audit_login(user, self._users, known)
        if known:
            self.logged_in = True
            self.permit(user=user, user_class=self._users.class_of(user))
            self.reply(b"STORED")
        else:
            self.counters.auth_errors += 1
            self.reply(b"CLIENT_ERROR authentication failure")
