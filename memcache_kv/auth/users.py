"""The users file, login attempts, and delays after failed logins.

Passwords are in clear or hashed with bcrypt. `htpasswd -B` writes such hashes in memcached's format, user:password. To
check one takes little memory, unlike an argon2 hash, so that login attempts can't use up the memory.

Checking a hash takes up to a tenth of a second and blocks the worker, so it must be rare. Once a user has logged in,
the server keeps a keyed digest of the password, and every further attempt of that user is a comparison. Before that,
HASH_CHECKS_LIMIT limits the number of checks. A hash with a cost above HIGHEST_COST is rejected when the file is read.
A thread for the checks would block nobody, but then both protocols would have to pause in the middle of a request.
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

from memcache_kv.auth.access import CommandClass
from memcache_kv.errors import FAILED_STATUS, ConfigError

if TYPE_CHECKING:
    from memcache_kv.auth.passwords import Check, User

ENTRY_LIMIT_BYTES = 255
"""The part of a line that is read. Nothing is read after a longer line."""
USERS_LIMIT = 8

BCRYPT_HASH = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
USER_CLASSES = {b"read": CommandClass.READ, b"write": CommandClass.WRITE, b"admin": CommandClass.ADMIN}
HIGHEST_COST = 10
HASH_CHECKS_LIMIT, HASH_CHECKS_SECONDS = 8, 4.0
"""The number of hash checks allowed in this time: one for each user at once, and then an eighth of a worker's time."""

UNDELAYED_FAILURES = 3
"""The number of failed logins from one address that are answered at once. Each further one waits twice as long."""
LONGEST_DELAY_SECONDS = 16.0
FAILURES_LIMIT = 10
"""The number of failed logins after which a connection is closed."""
FORGET_SECONDS = 60.0
"""The time after which the failed logins from an address no longer count."""
ADDRESSES_LIMIT = 4096
"""The number of addresses whose failed logins are remembered. The one that failed longest ago is forgotten first."""
NETWORK_BITS = 64
"""The length of an IPv6 prefix whose addresses count as one client."""


class Credentials(Protocol):
    """What a protocol uses to check a login."""

    def is_known(self, name: bytes, password: bytes) -> bool:
        """Return whether there is a user with this name and password."""

    def has_user(self, name: bytes) -> bool:
        """Return whether there is a user with this name."""

    def class_of(self, name: bytes) -> CommandClass | None:
        """Return the highest class of commands that the file gives this user; None if it names no class."""


class Users:
    """The users of a users file, whose lines are user:password, as in memcached, or user:password:class.

    path: the file. Raises ConfigError, with memcached's message, if the file can't be read or has a malformed line, or
    a hash that can't be checked. `reload` then keeps the old users. It also keeps them if the file is empty, as it is
    for a moment while an editor rewrites it in place.

    One thread may call `reload` while others call `is_known`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users: tuple[User, ...] = ()
        self._classes: dict[bytes, CommandClass | None] = {}
        self._checks: deque[float] = deque(maxlen=HASH_CHECKS_LIMIT)
        """The times of the latest hash checks."""
        self._lock = threading.Lock()
        self.reload()

    def reload(self) -> None:
        """Read the file again. Raises ConfigError, and keeps the old users then."""
        try:
            with self._path.open("rb") as file:
                data = file.read(USERS_LIMIT * (ENTRY_LIMIT_BYTES + 1))
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
        from memcache_kv.auth.passwords import User  # loads OpenSSL, which only -Y needs

        self._users = tuple(User(name, stored, self._check_for(stored)) for name, stored, _ in parsed)
        self._classes = _classes_by_name(parsed)

    def has_user(self, name: bytes) -> bool:
        """Return whether there is a user with this name."""
        return name in self._classes

    def class_of(self, name: bytes) -> CommandClass | None:
        """Return the class that the file gives this user; READ if the user has just been removed."""
        return self._classes.get(name, CommandClass.READ)

    def is_known(self, name: bytes, password: bytes) -> bool:
        """Return whether there is a user with this name and password. The time it takes does not depend on the name.

        So while there are users whose passwords are not known yet, every failed login checks one hash.
        """
        found = False
        with_name: list[User] = []
        others: list[User] = []
        for user in self._users:
            has_name = user.has_name(name)
            if user.has_digest:
                found |= user.matches_digest(password) & has_name
            else:
                (with_name if has_name else others).append(user)
        if found or not (with_name or others) or not self._may_check():
            return found
        matches = [user.check_hash(password) for user in with_name or others[:1]]
        return bool(with_name) and any(matches)

    def _may_check(self) -> bool:
        """Count one more hash check and return True, or return False if there were too many lately."""
        now = time.monotonic()
        with self._lock:
            if len(self._checks) == HASH_CHECKS_LIMIT and now - self._checks[0] < HASH_CHECKS_SECONDS:
                return False
            self._checks.append(now)
            return True

    def _check_for(self, stored: bytes) -> Check | None:
        """Return the function that checks a password against this hash, or None if the password is in clear."""
        match = BCRYPT_HASH.fullmatch(stored)
        if match is None:
            return None
        if int(match[1]) > HIGHEST_COST:
            said = f"Authfile [{self._path}] has a hash with the cost {int(match[1])}: use at most {HIGHEST_COST}"
            raise ConfigError(f"{said}, as a higher cost would delay other clients", FAILED_STATUS)
        try:
            check: Check = importlib.import_module("bcrypt").checkpw
        except ImportError:
            said = f"Authfile [{self._path}] has hashed passwords, which need the package bcrypt"
            raise ConfigError(
                f"{said}: pip install bcrypt, or in a clone pip install '.[auth]'", FAILED_STATUS
            ) from None
        return check


def parse_users(data: bytes) -> Iterable[tuple[bytes, bytes, CommandClass | None]]:
    """Yield the name, password and class of each user. Raises ValueError for a line without a user.

    A password ends at the end of its line, or before a colon and the name of a class there. Like in memcached, nothing
    is read after a line that is too long, a zero byte or the eighth user.
    """
    for number, line in enumerate(io.BytesIO(data), 1):
        user, colon, rest = line[:ENTRY_LIMIT_BYTES].partition(b":")
        if not colon or b"\0" in user:
            raise ValueError
        password = re.split(rb"[\r\n\0]", rest, maxsplit=1)[0]
        before, _, last = password.rpartition(b":")
        if before and last in USER_CLASSES:
            yield user, before, USER_CLASSES[last]
        else:
            yield user, password, None
        if number == USERS_LIMIT or rest[len(password) : len(password) + 1] not in (b"\r", b"\n"):
            return


def _classes_by_name(parsed: Iterable[tuple[bytes, bytes, CommandClass | None]]) -> dict[bytes, CommandClass | None]:
    """Return the class of each user; the lowest that is named if the file has the same name several times."""
    classes: dict[bytes, CommandClass | None] = {}
    for name, _, user_class in parsed:
        named = [each for each in (user_class, classes.get(name)) if each is not None]
        classes[name] = min(named, default=None)
    return classes


class FailedLogins:
    """Counts of failed logins by the address that they came from. The number of addresses is limited.

    Any thread may call any method.
    """

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}
        """For each address, its number of failed logins and the time of the last one; the latest address is last."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of addresses that are remembered."""
        return len(self._failures)

    def add(self, address: str) -> int:
        """Count a failed login, and return the number of those from this address that still count."""
        now = time.monotonic()
        with self._lock:
            count, last = self._failures.pop(address, (0, now))
            count = count + 1 if now - last < FORGET_SECONDS else 1
            self._failures[address] = (count, now)
            if len(self._failures) > ADDRESSES_LIMIT:
                del self._failures[next(iter(self._failures))]
        return count


class LoginAttempts:
    """The login attempts of one connection. Used by the thread that serves the connection.

    users: the users who may log in; failed_logins: the failed logins of all connections; address: the client's, as
    `client_network` gives it; delay: called with the seconds for which to hold back the connection's replies, and
    whether to close the connection then; say: writes a line to the log.
    """

    def __init__(
        self,
        users: Users,
        failed_logins: FailedLogins,
        address: str,
        delay: Callable[[float, bool], None],
        say: Callable[[str], None],
    ) -> None:
        self._users = users
        self._failed_logins = failed_logins
        self._address = address
        self._delay = delay
        self._say = say
        self._failures = 0

    def has_user(self, name: bytes) -> bool:
        """Return whether there is a user with this name."""
        return self._users.has_user(name)

    def class_of(self, name: bytes) -> CommandClass | None:
        """Return the class that the file gives this user; None if it names no class."""
        return self._users.class_of(name)

    def is_known(self, name: bytes, password: bytes) -> bool:
        """Return whether there is a user with this name and password. If not, log it and delay the reply."""
        if self._failures >= FAILURES_LIMIT:
            return False
        if self._users.is_known(name, password):
            return True
        self._failures += 1
        count = self._failed_logins.add(self._address)
        self._say(f"failed login from {self._address}, {count} recently")
        self._delay(delay_seconds(count), self._failures >= FAILURES_LIMIT)
        return False


def delay_seconds(failures: int) -> float:
    """Return the seconds for which to delay the reply to a failed login, the last of this many."""
    if failures <= UNDELAYED_FAILURES:
        return 0.0
    return float(min(2.0 ** min(failures - UNDELAYED_FAILURES - 1, 30), LONGEST_DELAY_SECONDS))


def client_network(peer: object) -> str:
    """Return what identifies a client: its IPv4 address, its IPv6 network, or "unix" for a unix socket."""
    if not isinstance(peer, tuple):
        return "unix"
    host = str(peer[0]).partition("%")[0]
    if ":" not in host:
        return host
    return str(ipaddress.IPv6Network((host, NETWORK_BITS), strict=False))
