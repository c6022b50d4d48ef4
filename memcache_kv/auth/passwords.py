"""One user's password: compared with what is known of it, or checked against a hash until it is known."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable

HASHED_LIMIT_BYTES = 72
"""bcrypt looks at no more, so a longer password can't be told from its beginning."""

Check = Callable[[bytes, bytes], bool]


class User:
    """One line of the file.

    check: compares a password with a hash; None where the password stands there in clear.
    """

    __slots__ = ("_name", "_stored", "_check", "_secret", "_digest")

    def __init__(self, name: bytes, stored: bytes, check: Check | None) -> None:
        self._name = name
        self._stored = stored
        self._check = check
        self._secret = os.urandom(32)
        self._digest = b"" if check is not None else self._digest_of(stored)
        """Of the password, once it is known."""

    @property
    def is_learnt(self) -> bool:
        """Whether the password is known, so that no check of a hash is needed."""
        return bool(self._digest)

    def is_called(self, name: bytes) -> bool:
        """Compare a name with the user's."""
        return hmac.compare_digest(name, self._name)

    def has(self, password: bytes) -> bool:
        """Compare a password with the one that is known."""
        return hmac.compare_digest(self._digest_of(password), self._digest)

    def learn(self, password: bytes) -> bool:
        """Check a password against the hash, and know it from then on if it is right. This takes long."""
        assert self._check is not None
        try:
            right = len(password) <= HASHED_LIMIT_BYTES and self._check(password, self._stored)
        except ValueError:  # the library takes no zero bytes
            right = False
        if right:
            self._digest = self._digest_of(password)
        return right

    def _digest_of(self, password: bytes) -> bytes:
        return hashlib.blake2b(password, key=self._secret).digest()
