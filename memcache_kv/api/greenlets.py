"""What blocks, in a program whose threads are gevent's greenlets: it must not keep the other greenlets from running."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from memcache_kv.unpatched import COPIED, has_gevent_patched

IN_GREENLETS = "threading" in COPIED
"""Whether gevent had patched the standard library when the package was imported."""

Returned = TypeVar("Returned")


def check_patches() -> None:
    """Raise RuntimeError if gevent has patched the standard library after this package was imported."""
    if has_gevent_patched() and not IN_GREENLETS:
        raise RuntimeError("call gevent's `monkey.patch_all` before memcache_kv is first used")


def without_greenlets(blocking: Callable[[], Returned]) -> Returned:
    """Call something that blocks, and return what it returns; in a thread of gevent's pool where there are greenlets.

    Meanwhile other greenlets run. Otherwise they could not, as the server waits with real locks and for real threads,
    and a thread that logs may wait for a greenlet that holds the lock of a log handler.
    """
    if not IN_GREENLETS:
        return blocking()
    from gevent import get_hub  # type: ignore[import-untyped]

    returned: Returned = get_hub().threadpool.apply(blocking)
    return returned
