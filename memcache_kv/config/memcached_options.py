"""Values of memcached's -o sub-options that are not fields of Settings. `memcache_kv.config.suboptions` reads them."""

from __future__ import annotations

from typing import NamedTuple

KIB = 1024
MIB = 1024 * KIB
SLAB_PAGE_BYTES = MIB
CHUNK_ALIGN_BYTES = 8


class Unused(NamedTuple):
    """Sub-options without an effect here, by the names and in the units of `stats settings`."""

    hashpower_init: int = 0
    slab_reassign: bool = True
    slab_automove: int = 1
    slab_automove_ratio: float = 0.8
    slab_automove_window: int = 10
    slab_chunk_max: int = SLAB_PAGE_BYTES // 2
    slab_sizes: str = ""
    tail_repair_time: int = 0
    lru_maintainer_thread: bool = True
    lru_segmented: bool = True
    hot_lru_pct: int = 20
    warm_lru_pct: int = 40
    hot_max_factor: float = 0.2
    warm_max_factor: float = 2.0
    temp_lru: bool = False
    temporary_ttl: int = 61
    watcher_logbuf_size: int = 256 * KIB
    worker_logbuf_size: int = 64 * KIB
    read_buf_mem_limit: int = 0


class TlsOptions(NamedTuple):
    """Sub-options for -Z, by the names and in the units of `stats settings`; modes and versions by memcached's numbers.

    ssl_wbuf_size has no effect: replies are encrypted without a buffer of their own.
    """

    ssl_chain_cert: str | None = None
    ssl_key: str | None = None
    """None if the key is in the file of the certificate chain."""
    ssl_verify_mode: int = 0
    ssl_keyformat: int = 1
    ssl_ciphers: str | None = None
    ssl_ca_cert: str | None = None
    ssl_wbuf_size: int = 16 * KIB
    ssl_session_cache: bool = False
    """Whether new sessions are counted. They can always be resumed, by tickets that the clients keep."""
    ssl_kernel_tls: bool = False
    ssl_min_version: int = 2
