"""Forget all items: flush_all and flush."""

from __future__ import annotations

from memcache_kv.store.store import Store


def flush(store: Store, exptime: int) -> None:
    """Forget everything, now or as the last second of an exptime begins, as memcached does. Raises WritesRejected.

    It is counted by the protocols: the text protocol counts what it rejects too.
    """
    store.flush(store.deadline(exptime) - 1 if exptime > 0 else 0)
