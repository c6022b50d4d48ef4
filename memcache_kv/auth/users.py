"""Who may log in: the file of users, their passwords in clear or hashed, and what becomes of those who guess.

Hashes are bcrypt's: `htpasswd -B` writes them in memcached's own form, user:password, and unlike those of argon2 they
take no memory that a guesser could use up.

A hash takes up to a tenth of a second to check, on the worker that was asked, so this is kept rare. Once a user has
logged in, the password is known by a keyed digest, and every further attempt is a comparison, right or wrong. Before
that, checks are as rare as MOST_CHECKS says, and costs above HIGHEST_COST are refused when the file is read. A thread
of its own for the checks would hold up nobody at all, but both protocols would have to stop in the midst of a request.
"""

from __future__ import annotations

import importlib
import io
import ipaddress
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from memcache_kv.errors import FAILED_STATUS, ConfigError

if TYPE_CHECKING:
    from memcache_kv.auth.passwords import Check, User

ENTRY_LIMIT_BYTES = 255
"""What is read of a line of the file; a longer one is its last."""
MOST_USERS = 8

HASHED = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
HIGHEST_COST = 10
MOST_CHECKS, CHECKS_SECONDS = 8, 4.0
"""So many checks of hashes in so much time, whoever asks: one for each user at once, and then an eighth of a worker."""

FREE_FAILURES = 3
"""Failed logins from one address that are answered at once; each further one waits twice as long."""
LONGEST_DELAY_SECONDS = 16.0
MOST_FAILURES = 10
"""After so many failed logins a connection is closed."""
FORGET_SECONDS = 60.0
MOST_ADDRESSES = 4096
"""Addresses whose failures are remembered; the one that failed longest ago is forgotten first."""
NETWORK_BITS = 64
"""An IPv6 client has so many addresses of its own."""


class Credentials(Protocol):
    """Whom a protocol asks about a login."""

    def is_known(self, name: bytes, password: bytes) -> bool:
        """Tell whether there is this user with this password."""


class Users:
    """The users of an authentication file, with lines of user:password, as memcached reads it.

    `reload` may be called by one thread while others ask `is_known`. Raises ConfigError, in memcached's words, where
    the file can't be read or has a line of another form, or one with a hash that can't be checked here; `reload` keeps
    the old users then. It does so too where the file is empty, as it is for a moment while it is rewritten in place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users: tuple[User, ...] = ()
        self._checks: deque[float] = deque(maxlen=MOST_CHECKS)
        """When hashes were checked last."""
        self._lock = threading.Lock()
        self.reload()

    def reload(self) -> None:
        """Read the file again."""
        try:
            with self._path.open("rb") as file:
                data = file.read(MOST_USERS * (ENTRY_LIMIT_BYTES + 1))
        except OSError as error:
            said = f"Could not open authfile [{self._path}] for reading, error {error.strerror}"
            raise ConfigError(said, FAILED_STATUS) from None
        try:
            parsed = list(parse_users(data))
        except ValueError:
            said = f"Authfile [{self._path}] has a malformed entry. Should be 'user:password'"
            raise ConfigError(said, FAILED_STATUS) from None
        if not parsed and self._users:
            raise ConfigError(f"Authfile [{self._path}] is empty", FAILED_STATUS)
        from memcache_kv.auth.passwords import User  # OpenSSL, for those alone who give -Y

        self._users = tuple(User(name, stored, self._check_for(stored)) for name, stored in parsed)

    def is_known(self, name: bytes, password: bytes) -> bool:
        """Tell whether there is this user with this password; the time it takes does not tell how much was right.

        So while the hash of any user was never matched, one is checked for every attempt that fails.
        """
        found = False
        named: list[User] = []
        others: list[User] = []
        for user in self._users:
            needs_cas = user.is_called(name)
            if user.is_learnt:
                found |= user.has(password) & needs_cas
            else:
                (named if needs_cas else others).append(user)
        if found or not (named or others) or not self._may_check():
            return found
        right = [user.learn(password) for user in named or others[:1]]
        return bool(named) and any(right)

    def _may_check(self) -> bool:
        """Count one more check of a hash, unless there were too many of late."""
        now = time.monotonic()
        with self._lock:
            if len(self._checks) == MOST_CHECKS and now - self._checks[0] < CHECKS_SECONDS:
                return False
            self._checks.append(now)
            return True

    def _check_for(self, stored: bytes) -> Check | None:
        """Return what checks a password of this form; None where it is in clear."""
        match = HASHED.fullmatch(stored)
        if match is None:
            return None
        if int(match[1]) > HIGHEST_COST:
            said = f"Authfile [{self._path}] has a hash of the cost {int(match[1])}: {HIGHEST_COST} is the highest"
            raise ConfigError(f"{said} that does not hold up other clients", FAILED_STATUS)
        try:
            check: Check = importlib.import_module("bcrypt").checkpw
        except ImportError:
            said = f"Authfile [{self._path}] has hashed passwords, for which the package bcrypt is needed"
            raise ConfigError(
                f"{said}: pip install bcrypt, or in a clone pip install '.[auth]'", FAILED_STATUS
            ) from None
        return check


def parse_users(data: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Read users and their passwords. Raises ValueError for a line that has no user.

    A password ends at a line's end. After a line that is too long, a zero byte or the eighth user nothing more is read.
    """
    for number, line in enumerate(io.BytesIO(data), 1):
        user, colon, rest = line[:ENTRY_LIMIT_BYTES].partition(b":")
        if not colon or b"\0" in user:
            raise ValueError
        password = re.split(rb"[\r\n\0]", rest, maxsplit=1)[0]
        yield user, password
        if number == MOST_USERS or rest[len(password) : len(password) + 1] not in (b"\r", b"\n"):
            return


class FailedLogins:
    """Failed logins by the address they came from, of a bounded number of addresses. Any thread may add."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}
        """How many of late, and when the last was; who failed last stands last."""
        self._lock = threading.Lock()

    def add(self, address: str) -> int:
        """Count a failure; return how many there were from there of late."""
        now = time.monotonic()
        with self._lock:
            count, last = self._failures.pop(address, (0, now))
            count = count + 1 if now - last < FORGET_SECONDS else 1
            self._failures[address] = (count, now)
            if len(self._failures) > MOST_ADDRESSES:
                del self._failures[next(iter(self._failures))]
        return count


class LoginAttempts:
    """One connection that may log in. Used by the thread that serves it.

    address: where it comes from; slow: holds back its replies for so many seconds, and with True has it closed after;
    say: writes a line of the log.
    """

    def __init__(
        self,
        users: Users,
        failed_logins: FailedLogins,
        address: str,
        slow: Callable[[float, bool], None],
        say: Callable[[str], None],
    ) -> None:
        self._users = users
        self._failed_logins = failed_logins
        self._address = address
        self._slow = slow
        self._say = say
        self._failures = 0

    def is_known(self, name: bytes, password: bytes) -> bool:
        """Tell whether there is this user with this password; if not, make it wait for the answer."""
        if self._failures >= MOST_FAILURES:
            return False
        if self._users.is_known(name, password):
            return True
        self._failures += 1
        count = self._failed_logins.add(self._address)
        self._say(f"failed login from {self._address}, number {count} of late")
        self._slow(delay_seconds(count), self._failures >= MOST_FAILURES)
        return False


def delay_seconds(failures: int) -> float:
    """Tell how long the last of so many failed logins is left without an answer."""
    if failures <= FREE_FAILURES:
        return 0.0
    return float(min(2.0 ** min(failures - FREE_FAILURES - 1, 30), LONGEST_DELAY_SECONDS))


def origin(peer: object) -> str:
    """Name where a connection comes from: its host, of IPv6 the network, or that it is a unix socket's."""
    if not isinstance(peer, tuple):
        return "unix"
    host = str(peer[0]).partition("%")[0]
    if ":" not in host:
        return host
    return str(ipaddress.IPv6Network((host, NETWORK_BITS), strict=False))
