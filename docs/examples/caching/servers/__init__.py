"""Ways to give the tests a cache: each module has a fixture `cache` for pytest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backends import Backend


@dataclass
class Cache:
    """What a test is given: an empty cache."""

    backend: Backend
    wait: Callable[[int], None]
    """Lets so many seconds pass for the cache."""
