"""Who may log in, for tests of the protocols: users whose passwords are compared at once, or checked later."""

from typing import Protocol


class Comparing(Protocol):
    """Compares a name and a password with what it knows."""

    def is_known(self, name: bytes, password: bytes) -> bool:
        """Tell whether it knows them."""


class AtOnce:
    """Credentials that are compared at once, so that nobody asks for an outcome later."""

    def __init__(self, users: Comparing) -> None:
        self._users = users

    def is_known(self, name: bytes, password: bytes) -> bool:
        return self._users.is_known(name, password)

    def outcome(self) -> bool:
        raise AssertionError("nothing was left to be checked")


class OneUser:
    """Knows `user` with the password `pass`."""

    def is_known(self, name: bytes, password: bytes) -> bool:
        return (name, password) == (b"user", b"pass")


class Later:
    """Credentials whose checks are over when the test says so: `user` has the password `pass`."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []

    def is_known(self, name: bytes, password: bytes) -> None:
        self.asked.append((name, password))

    def outcome(self) -> bool:
        return self.asked[-1] == (b"user", b"pass")
