"""Remove all items: flush_all and flush."""

from __future__ import annotations

from memcache_kv.store.store import ItemStore


def flush(store: ItemStore, exptime: int) -> None:
    """Remove all items, now or when the last second of an exptime begins, as in memcached. Raises WritesRejected.

    exptime: relative seconds or a unix time; 0 or negative is now. The protocols count the command, as the text
    protocol counts rejected requests too.
    """
    store.flush(store.deadline(exptime) - 1 if exptime > 0 else 0)
