"""The password of one user: checked against a hash once, and afterwards compared with a digest."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable

HASHED_LIMIT_BYTES = 72
"""bcrypt ignores what follows, so longer passwords are rejected."""

Check = Callable[[bytes, bytes], bool]
"""Compares a password with a hash. It may raise ValueError for a password that can't be hashed."""


class User:
    """One user of the users file.

    name, stored: the user's name, and the password or its hash; check: compares a password with that hash, or None if
    the password is in clear.
    """

    __slots__ = ("_name", "_stored", "_check", "_secret", "_digest")

    def __init__(self, name: bytes, stored: bytes, check: Check | None) -> None:
        self._name = name
        self._stored = stored
        self._check = check
        self._secret = os.urandom(32)
        self._digest = b"" if check is not None else self._digest_of(stored)
        """The digest of the password, or nothing until the password is known."""

    @property
    def has_digest(self) -> bool:
        """Whether the password is known, so that its hash need not be checked."""
        return bool(self._digest)

    def has_name(self, name: bytes) -> bool:
        """Return whether the user has this name, in constant time."""
        return hmac.compare_digest(name, self._name)

    def matches_digest(self, password: bytes) -> bool:
        """Return whether a password is the known one, in constant time. Only valid if `has_digest`."""
        return hmac.compare_digest(self._digest_of(password), self._digest)

    def check_hash(self, password: bytes) -> bool:
        """Return whether a password matches the hash, and keep its digest if it does. This is slow on purpose."""
        assert self._check is not None
        try:
            matches = len(password) <= HASHED_LIMIT_BYTES and self._check(password, self._stored)
        except ValueError:  # bcrypt does not accept zero bytes
            matches = False
        if matches:
            self._digest = self._digest_of(password)
        return matches

    def _digest_of(self, password: bytes) -> bytes:
        return hashlib.blake2b(password, key=self._secret).digest()
