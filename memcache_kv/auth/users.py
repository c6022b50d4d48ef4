"""The users file, login attempts, and delays after failed logins.

Passwords are in clear or hashed with bcrypt. `htpasswd -B` writes such hashes in memcached's format, user:password. To
check one takes little memory, unlike an argon2 hash, so that login attempts can't use up the memory.

Checking a hash takes up to a tenth of a second, so a thread does it beside the workers (`HashChecks`), and the
connection waits. Once a user has logged in, the server keeps a keyed digest of the password, and every further attempt
of that user is a comparison. A hash with a cost above HIGHEST_COST is rejected when the file is read.
"""

from __future__ import annotations

import importlib
import io
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from memcache_kv.auth.access import CommandClass
from memcache_kv.auth.checks import HashCheck, HashChecks
from memcache_kv.errors import FAILED_STATUS, ConfigError
from memcache_kv.unpatched import threading, time

if TYPE_CHECKING:
    from memcache_kv.auth.passwords import Check, User

ENTRY_LIMIT_BYTES = 255
"""The part of a line that is read. Nothing is read after a longer line."""
USERS_LIMIT = 8

BCRYPT_HASH = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
USER_CLASSES = {b"read": CommandClass.READ, b"write": CommandClass.WRITE, b"admin": CommandClass.ADMIN}
HIGHEST_COST = 10

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

    def is_known(self, name: bytes, password: bytes) -> bool | None:
        """Return whether there is a user with this name and password.

        None: a thread checks that. The protocol is resumed after the check, and calls `outcome` then.
        """

    def outcome(self) -> bool:
        """Return what the check has found."""

    def has_user(self, name: bytes) -> bool:
        """Return whether there is a user with this name."""

    def class_of(self, name: bytes) -> CommandClass | None:
        """Return the highest class of commands that the file gives this user; None if it names no class."""


class Users:
    """The users of a users file, whose lines are user:password, as in memcached, or user:password:class.

    path: the file. Raises ConfigError, with memcached's message, if the file can't be read or has a malformed line, or
    a hash that can't be checked. `reload` then keeps the old users. It also keeps them if the file is empty, as it is
    for a moment while an editor rewrites it in place.

    One thread may call `reload` while others call `matches`, and one of them `is_known`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users: tuple[User, ...] = ()
        self._classes: dict[bytes, CommandClass | None] = {}
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

    def matches(self, name: bytes, password: bytes) -> bool | None:
        """Compare with the passwords that are known. The time it takes does not depend on the name.

        Return None if only a hash can tell: while there are users whose passwords are not known yet, that is so for
        every login that does not succeed here, whoever it names.
        """
        found, all_known = False, True
        for user in self._users:
            has_name = user.has_name(name)
            if user.has_digest:
                found |= user.matches_digest(password) & has_name
            else:
                all_known = False
        return found if found or all_known else None

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
        if found or not (with_name or others):
            return found
        matches = [user.check_hash(password) for user in with_name or others[:1]]
        return bool(with_name) and any(matches)

    def _check_for(self, stored: bytes) -> Check | None:
        """Return the function that checks a password against this hash, or None if the password is in clear."""
        match = BCRYPT_HASH.fullmatch(stored)
        if match is None:
            return None
        if int(match[1]) > HIGHEST_COST:
            said = f"Authfile [{self._path}] has a hash with the cost {int(match[1])}: use at most {HIGHEST_COST}"
            raise ConfigError(f"{said}, as a higher cost would delay the logins of others", FAILED_STATUS)
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

    def __contains__(self, address: str) -> bool:
        """Return whether a login from this address failed lately."""
        with self._lock:
            _, last = self._failures.get(address, (0, -FORGET_SECONDS))
        return time.monotonic() - last < FORGET_SECONDS

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


class Logins:
    """What the login attempts of all connections share: the users, the failures, and the checks of hashes."""

    def __init__(self, users: Users) -> None:
        self.users = users
        self.failed = FailedLogins()
        self.checks = HashChecks(users.is_known)


class Gate(Protocol):
    """What lets one connection in, or makes it wait."""

    def admit(self) -> None:
        """Take note that the client has logged in."""

    def hold_back(self, seconds: float, then_close: bool) -> None:
        """Hold back the connection's replies for so long, and close it then if asked to."""

    def await_check(self) -> None:
        """Hold back the connection's replies, and what it asks for next, until its check is over."""

    def wake(self) -> None:
        """Have the connection go on after a check. Any thread may call this."""

    def log_failure(self, text: str) -> None:
        """Log a failed login, unless many are logged."""


class LoginAttempts:
    """The login attempts of one connection. Used by the thread that serves the connection.

    logins: what all connections share; address: the client's, as `client_network` gives it; gate: the connection's.
    """

    def __init__(self, logins: Logins, address: str, gate: Gate) -> None:
        self._logins = logins
        self._address = address
        self._gate = gate
        self._failures = 0
        self._check: HashCheck | None = None
        """The check whose outcome the protocol has not asked for yet."""

    @property
    def is_checking(self) -> bool:
        """Whether a check is under way."""
        return self._check is not None and self._check.verdict is None

    @property
    def has_outcome(self) -> bool:
        """Whether a check is over, and the protocol has not asked for its outcome yet."""
        return self._check is not None and self._check.verdict is not None

    def has_user(self, name: bytes) -> bool:
        """Return whether there is a user with this name."""
        return self._logins.users.has_user(name)

    def class_of(self, name: bytes) -> CommandClass | None:
        """Return the class that the file gives this user; None if it names no class."""
        return self._logins.users.class_of(name)

    def is_known(self, name: bytes, password: bytes) -> bool | None:
        """Return whether there is a user with this name and password. If not, log it and delay the reply.

        None: a hash has to be checked first. `outcome` returns the result, once `has_outcome`.
        """
        if self._failures >= FAILURES_LIMIT:
            return False
        known = self._logins.users.matches(name, password)
        if known is None:
            check = HashCheck(name, password, self._gate.wake)
            if self._logins.checks.submit(check, self._address, self._address in self._logins.failed):
                self._check = check
                self._gate.await_check()
                return None
        return self._conclude(bool(known))

    def outcome(self) -> bool:
        """Return what the check has found, as `is_known` would. Only valid if `has_outcome`."""
        assert self._check is not None
        verdict, self._check = self._check.verdict, None
        return self._conclude(bool(verdict))

    def _conclude(self, known: bool) -> bool:
        if known:
            self._gate.admit()
            return True
        self._failures += 1
        count = self._logins.failed.add(self._address)
        self._gate.log_failure(f"failed login from {self._address}, {count} recently")
        self._gate.hold_back(delay_seconds(count), self._failures >= FAILURES_LIMIT)
        return False


def delay_seconds(failures: int) -> float:
    """Return the seconds for which to delay the reply to a failed login, the last of this many."""
    if failures <= UNDELAYED_FAILURES:
        return 0.0
    return float(min(2.0 ** min(failures - UNDELAYED_FAILURES - 1, 30), LONGEST_DELAY_SECONDS))


def client_network(peer: object) -> str:
    """Return what identifies a client: its IPv4 address, its IPv6 network, or "unix" for a unix socket.

    An inherited IPv6 socket may also have the connections of IPv4 clients, mapped as ::ffff:10.0.0.1.
    """
    if not isinstance(peer, tuple):
        return "unix"
    host = str(peer[0]).partition("%")[0]
    if ":" not in host:
        return host
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return str(ipaddress.IPv6Network((host, NETWORK_BITS), strict=False))
