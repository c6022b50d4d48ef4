"""Rows of a data file: UUID keys that come from a seed, and a 35-byte value for each key."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Iterator

VALUE_BYTES = 35


def keys_from(seed: int, count: int) -> Iterator[str]:
    """Make the same count UUIDs from the same seed every time."""
    rng = random.Random(seed)
    for _ in range(count):
        yield str(uuid.UUID(int=rng.getrandbits(128), version=4))


def value_of(key: str) -> bytes:
    """Derive a key's value."""
    return hashlib.blake2b(key.encode(), digest_size=18).hexdigest()[:VALUE_BYTES].encode()
