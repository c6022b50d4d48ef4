"""The token that the pages of the admin listener require (RFC 6750)."""

from __future__ import annotations

import hmac
import re
from pathlib import Path

from memcache_kv.errors import FAILED_STATUS, ConfigError

ADMIN_TOKEN_LIMIT_BYTES = 4096
VISIBLE = re.compile(rb"[!-~]+")
SCHEME = b"bearer"


class AdminToken:
    """The token in a file, which has nothing else.

    path: the file. Raises ConfigError if it can't be read or has no token. `reload` then keeps the old one. One thread
    may call `reload` while others call `matches`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.reload()

    def reload(self) -> None:
        """Read the file again. Raises ConfigError, and keeps the old token then."""
        try:
            with self._path.open("rb") as file:
                token = file.read(ADMIN_TOKEN_LIMIT_BYTES + 1).strip()
        except OSError as error:
            raise ConfigError(f"can't read the admin token in {self._path}: {error.strerror}", FAILED_STATUS) from None
        if not VISIBLE.fullmatch(token) or len(token) > ADMIN_TOKEN_LIMIT_BYTES:
            raise ConfigError(
                f"{self._path} has no admin token: it must be one word of visible ASCII characters", FAILED_STATUS
            )
        self._token = token

    def matches(self, authorization: bytes) -> bool:
        """Return whether a request with this header has the token. The time that this takes tells nothing of it."""
        scheme, _, token = authorization.partition(b" ")
        return hmac.compare_digest(token.strip(), self._token) and scheme.lower() == SCHEME
