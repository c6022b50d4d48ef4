"""Who may log in, for tests of the protocols: users whose passwords are compared at once, or checked later."""

from typing import Protocol

from memcache_kv.auth.access import CommandClass


class Comparing(Protocol):
    """Compares a name and a password with what it knows."""

    def is_known(self, name: bytes, password: bytes) -> bool:
        """Tell whether it knows them."""

    def has_user(self, name: bytes) -> bool:
        """Tell whether there is such a user."""

    def class_of(self, name: bytes) -> CommandClass | None:
        """Return the user's class, if there is one."""


class WithoutClasses:
    """The part of `Credentials` that tells classes: `user` exists, and the users file names no class for anybody."""

    def has_user(self, name: bytes) -> bool:
        return name == b"user"

    def class_of(self, name: bytes) -> CommandClass | None:
        return None


class AtOnce:
    """Credentials that are compared at once, so that nobody asks for an outcome later."""

    def __init__(self, users: Comparing) -> None:
        self._users = users

    def is_known(self, name: bytes, password: bytes) -> bool:
        return self._users.is_known(name, password)

    def has_user(self, name: bytes) -> bool:
        return self._users.has_user(name)

    def class_of(self, name: bytes) -> CommandClass | None:
        return self._users.class_of(name)

    def outcome(self) -> bool:
        raise AssertionError("nothing was left to be checked")


class OneUser(WithoutClasses):
    """Knows `user` with the password `pass`."""

    def is_known(self, name: bytes, password: bytes) -> bool:
        return (name, password) == (b"user", b"pass")


class Later(WithoutClasses):
    """Credentials whose checks are over when the test says so: `user` has the password `pass`."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []

    def is_known(self, name: bytes, password: bytes) -> None:
        self.asked.append((name, password))

    def outcome(self) -> bool:
        return self.asked[-1] == (b"user", b"pass")
