"""The report of `stats settings`: the lines of memcached 1.6.45 in its order, followed by our own.

Settings that have an effect are reported with their present value. Those without an effect (slabs, LRU segments) are
reported as they were given, or with memcached's default.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from memcache_kv.config.memcached_options import TlsOptions
from memcache_kv.config.settings import Settings
from memcache_kv.stats.report import OWN_PREFIX, Report
from memcache_kv.version import VERSION

if TYPE_CHECKING:
    from memcache_kv.observe.log import Log
    from memcache_kv.observe.observers import Observers
    from memcache_kv.store.crawler import Crawler
    from memcache_kv.store.store import ItemStore

PROTOCOL_NAMES = {"auto": "auto-negotiate", "ascii": "ascii", "binary": "binary"}
VERIFY_FLAGS = (0, 1, 3, 7)
"""OpenSSL's flags for the modes 0 to 3, which memcached reports."""
VERSION_NAMES = ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")


class ConfiguredServer(Protocol):
    """The parts of a server that `stats settings` needs."""

    @property
    def settings(self) -> Settings:
        """The settings that the server was started with."""

    @property
    def store(self) -> ItemStore:
        """The items."""

    @property
    def crawler(self) -> Crawler:
        """The thread that removes expired items."""

    @property
    def observers(self) -> Observers:
        """The observers of single requests."""

    @property
    def log(self) -> Log:
        """The log."""

    @property
    def tcp_port(self) -> int:
        """The TCP port that the server listens on; 0 if there is none."""

    @property
    def threads(self) -> int:
        """The number of worker threads."""


def settings(context: ConfiguredServer) -> Report:
    """Yield the rows of `stats settings`."""
    s = context.settings
    yield "maxbytes", context.store.limit_bytes
    yield from _listening(context)
    yield from _protocol(context)
    yield "item_size_max", s.max_item_size
    yield "maxconns_fast", _yes(s.maxconns_fast)
    yield from _slabs(s)
    yield from _crawler(context)
    yield from _lru(s)
    yield "idle_timeout", s.idle_timeout
    yield "watcher_logbuf_size", s.extended.watcher_logbuf_size
    yield "worker_logbuf_size", s.extended.worker_logbuf_size
    yield "read_buf_mem_limit", s.extended.read_buf_mem_limit
    yield "track_sizes", _yes(s.track_sizes)
    yield "inline_ascii_response", "no"
    yield from _extstore()
    if s.enable_ssl:
        yield from _tls(s.tls)
    yield "num_napi_ids", s.napi_ids
    yield "memory_file", s.memory_file or "(null)"
    yield "client_flags_size", 4
    yield OWN_PREFIX + "version", VERSION
    yield OWN_PREFIX + "shards", len(context.store.shards)
    yield OWN_PREFIX + "journal", s.journal or "NULL"
    yield OWN_PREFIX + "fsync", s.fsync
    yield OWN_PREFIX + "max_items", s.max_items


def _listening(context: ConfiguredServer) -> Report:
    s = context.settings
    yield "maxconns", s.conn_limit
    yield "tcpport", context.tcp_port
    yield "udpport", s.udp_port
    yield "inter", ",".join(s.listen) or "NULL"
    yield "verbosity", context.log.verbosity
    yield "oldest", 0
    yield "evictions", "off" if s.disable_evictions else "on"
    yield "domain_socket", s.unix_socket or "NULL"
    yield "umask", f"{s.unix_mask:o}"
    yield "shutdown_command", _yes(s.enable_shutdown)


def _protocol(context: ConfiguredServer) -> Report:
    s = context.settings
    yield "growth_factor", f"{s.slab_growth_factor:.2f}"
    yield "chunk_size", s.slab_min_size
    yield "num_threads", context.threads
    yield "num_threads_per_udp", 1
    yield "stat_key_prefix", s.stats_delimiter
    yield "detail_enabled", _yes(context.observers.prefixes.counting)
    yield "reqs_per_event", s.max_reqs_per_event
    yield "cas_enabled", _yes(not s.disable_cas)
    yield "tcp_backlog", s.backlog
    yield "binding_protocol", PROTOCOL_NAMES[s.binding_protocol]
    yield "auth_enabled_sasl", _yes(s.enable_sasl)
    yield "auth_enabled_ascii", s.auth_file or "no"


def _slabs(s: Settings) -> Report:
    yield "hashpower_init", s.extended.hashpower_init
    yield "slab_reassign", _yes(s.extended.slab_reassign)
    yield "slab_automove", s.extended.slab_automove
    yield "slab_automove_ratio", f"{s.extended.slab_automove_ratio:.2f}"
    yield "slab_automove_window", s.extended.slab_automove_window
    yield "slab_chunk_max", s.extended.slab_chunk_max


def _crawler(context: ConfiguredServer) -> Report:
    s = context.settings
    yield "lru_crawler", _yes(context.crawler.enabled)
    yield "lru_crawler_sleep", context.crawler.sleep_us
    yield "lru_crawler_tocrawl", context.crawler.tocrawl
    yield "tail_repair_time", s.extended.tail_repair_time
    yield "flush_enabled", _yes(not s.disable_flush_all)
    yield "dump_enabled", _yes(not s.disable_dumping)
    yield "hash_algorithm", sys.hash_info.algorithm


def _lru(s: Settings) -> Report:
    yield "lru_maintainer_thread", _yes(s.extended.lru_maintainer_thread)
    yield "lru_segmented", _yes(s.extended.lru_segmented)
    yield "hot_lru_pct", s.extended.hot_lru_pct
    yield "warm_lru_pct", s.extended.warm_lru_pct
    yield "hot_max_factor", f"{s.extended.hot_max_factor:.2f}"
    yield "warm_max_factor", f"{s.extended.warm_max_factor:.2f}"
    yield "temp_lru", _yes(s.extended.temp_lru)
    yield "temporary_ttl", s.extended.temporary_ttl


def _extstore() -> Report:
    """Yield the rows about values on flash, with the defaults that memcached reports when it does not use flash."""
    yield "ext_item_size", 512
    yield "ext_item_age", (1 << 32) - 1
    yield "ext_low_ttl", 0
    yield "ext_recache_rate", 2000
    yield "ext_wbuf_size", 4 << 20
    yield "ext_compact_under", 0
    yield "ext_drop_under", 0
    yield "ext_max_sleep", 1_000_000
    yield "ext_max_frag", "0.80"
    yield "slab_automove_freeratio", "0.010"
    yield "ext_drop_unread", "no"


def _tls(tls: TlsOptions) -> Report:
    yield "ssl_enabled", "yes"
    yield "ssl_chain_cert", tls.ssl_chain_cert or "(null)"
    yield "ssl_key", tls.ssl_key or "(null)"
    yield "ssl_verify_mode", VERIFY_FLAGS[tls.ssl_verify_mode]
    yield "ssl_keyformat", tls.ssl_keyformat
    yield "ssl_ciphers", tls.ssl_ciphers or "NULL"
    yield "ssl_ca_cert", tls.ssl_ca_cert or "NULL"
    yield "ssl_wbuf_size", tls.ssl_wbuf_size
    yield "ssl_session_cache", _yes(tls.ssl_session_cache)
    yield "ssl_kernel_tls", _yes(tls.ssl_kernel_tls)
    yield "ssl_min_version", VERSION_NAMES[tls.ssl_min_version]


def _yes(on: bool) -> str:
    return "yes" if on else "no"
