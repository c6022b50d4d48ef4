"""What `stats` tells, by memcached's names and meanings (protocol.txt, "Statistics").

What memcached has and we have not (slab pages, its own LRU segments) stands here with the number that is true of us,
so that exporters and client libraries, which parse by name, find what they look for.
"""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Callable, Iterator
from typing import TypeAlias

from memcache_kv.protocol.context import Context
from memcache_kv.stats import total
from memcache_kv.store.store import MIB
from memcache_kv.version import PROTOCOL_VERSION, VERSION

Report: TypeAlias = Iterator[tuple[str, object]]

OWN_PREFIX = "memcache_kv_"
SMALLEST_CHUNK_BYTES = 96


def general(context: Context) -> Report:
    """Tell about the server as a whole."""
    yield from _process(context)
    yield from _connections(context)
    counters = total(context.all_counters)
    for name in counters.__slots__:
        if name not in ("bytes_read", "bytes_written", "conn_yields"):
            yield name, getattr(counters, name)
        if name == "get_misses":
            yield "get_expired", sum(shard.get_expired for shard in context.store.shards)
            yield "get_flushed", 0
    yield "bytes_read", counters.bytes_read
    yield "bytes_written", counters.bytes_written
    yield "limit_maxbytes", context.store.limit_bytes
    yield "accepting_conns", 1
    yield "listen_disabled_num", 0
    yield "time_in_listen_disabled_us", 0
    yield "threads", context.threads
    yield "conn_yields", counters.conn_yields
    yield from _items(context)
    yield from _own(context)


def _process(context: Context) -> Report:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield "pid", os.getpid()
    yield "uptime", context.clock.now - context.clock.started
    yield "time", context.clock.now
    yield "version", PROTOCOL_VERSION
    yield "libevent", "none"
    yield "pointer_size", 8 * struct.calcsize("P")
    yield "rusage_user", f"{usage.ru_utime:.6f}"
    yield "rusage_system", f"{usage.ru_stime:.6f}"


def _connections(context: Context) -> Report:
    totals = context.totals
    yield "max_connections", totals.limit
    yield "curr_connections", totals.current
    yield "total_connections", totals.total
    yield "rejected_connections", totals.rejected
    yield "connection_structures", totals.current


def _items(context: Context) -> Report:
    store = context.store
    yield "hash_power_level", max(len(store) - 1, 1).bit_length()
    yield "hash_bytes", sum(table.__sizeof__() for table in store.tables)
    yield "hash_is_expanding", 0
    yield "lru_crawler_running", 0
    yield "lru_crawler_starts", context.crawler.rounds
    yield "bytes", store.used_bytes
    yield "curr_items", len(store)
    yield "total_items", sum(shard.total_items for shard in store.shards)
    yield "slab_global_page_pool", 0
    yield "expired_unfetched", sum(shard.expired_unseen for shard in store.shards)
    yield "evicted_unfetched", sum(shard.evicted_unseen for shard in store.shards)
    yield "evictions", sum(shard.evictions for shard in store.shards)
    yield "reclaimed", sum(shard.reclaimed for shard in store.shards)
    yield "malloc_fails", 0
    yield "crawler_items_checked", context.crawler.items_checked


def _own(context: Context) -> Report:
    yield OWN_PREFIX + "version", VERSION
    yield OWN_PREFIX + "shards", len(context.store.shards)
    journal = context.journal
    if journal is not None:
        yield OWN_PREFIX + "journal_records", journal.position
        yield OWN_PREFIX + "journal_lag_records", journal.lag_records
        yield OWN_PREFIX + "journal_queued_bytes", journal.queued_bytes
        yield OWN_PREFIX + "journal_fsyncs", journal.syncs
        yield OWN_PREFIX + "journal_fsync_seconds", f"{journal.sync_seconds:.6f}"


def settings(context: Context) -> Report:
    """Tell what the server was started with."""
    s = context.settings
    yield "maxbytes", context.store.limit_bytes
    yield "maxconns", s.conn_limit
    yield "tcpport", context.tcp_port
    yield "udpport", s.udp_port
    yield "inter", ",".join(s.listen) or "NULL"
    yield "verbosity", context.log.verbosity
    yield "oldest", 0
    yield "evictions", "off" if s.disable_evictions else "on"
    yield "domain_socket", s.unix_socket or "NULL"
    yield "umask", f"{s.unix_mask:o}"
    yield "shutdown_command", "yes" if s.enable_shutdown else "no"
    yield "growth_factor", "1.25"
    yield "chunk_size", 48
    yield "num_threads", context.threads
    yield "num_threads_per_udp", 1
    yield "stat_key_prefix", ":"
    yield "detail_enabled", "no"
    yield "reqs_per_event", s.max_reqs_per_event
    yield "cas_enabled", "yes"
    yield "tcp_backlog", s.backlog
    yield "binding_protocol", "ascii"
    yield "auth_enabled_sasl", "no"
    yield "auth_enabled_ascii", "no"
    yield "item_size_max", s.max_item_size
    yield "maxconns_fast", "yes"
    yield "lru_crawler", "yes"
    yield "flush_enabled", "yes"
    yield "track_sizes", "no"
    yield "client_flags_size", 4
    yield OWN_PREFIX + "journal", s.journal or "NULL"
    yield OWN_PREFIX + "fsync", s.fsync
    yield OWN_PREFIX + "max_items", s.max_items


def items(context: Context) -> Report:
    """Tell about the items: all are in one class, as there are no slabs here."""
    store = context.store
    if not len(store):
        return
    yield "items:1:number", len(store)
    yield "items:1:age", 0
    yield "items:1:mem_requested", store.used_bytes
    yield "items:1:evicted", sum(shard.evictions for shard in store.shards)
    yield "items:1:evicted_unfetched", sum(shard.evicted_unseen for shard in store.shards)
    yield "items:1:evicted_nonzero", 0
    yield "items:1:evicted_time", 0
    yield "items:1:outofmemory", total(context.all_counters).store_no_memory
    yield "items:1:tailrepairs", 0
    yield "items:1:reclaimed", sum(shard.reclaimed for shard in store.shards)


def slabs(context: Context) -> Report:
    """Tell in the form of slabs what the one class holds: as much as its items take, in pages of a megabyte."""
    store, counters = context.store, total(context.all_counters)
    pages = -(-store.used_bytes // MIB)
    if len(store):
        yield "1:chunk_size", SMALLEST_CHUNK_BYTES
        yield "1:chunks_per_page", MIB // SMALLEST_CHUNK_BYTES
        yield "1:total_pages", pages
        yield "1:total_chunks", len(store)
        yield "1:used_chunks", len(store)
        yield "1:free_chunks", 0
        yield "1:free_chunks_end", 0
        for name in ("get_hits", "cmd_set", "delete_hits", "incr_hits", "decr_hits", "cas_hits", "cas_badval",
                     "touch_hits"):  # fmt: skip
            yield f"1:{name}", getattr(counters, name)
    yield "active_slabs", int(len(store) > 0)
    yield "total_malloced", pages * MIB


def sizes(context: Context) -> Report:
    """Tell that sizes are not tracked, as memcached does unless started with track_sizes."""
    yield "sizes_status", "disabled"


def connections(context: Context) -> Report:
    """Tell about every connection."""
    for each in context.connections():
        yield f"{each.fd}:addr", each.address
        if each.listen_address:
            yield f"{each.fd}:listen_addr", each.listen_address
        yield f"{each.fd}:state", each.state
        yield f"{each.fd}:secs_since_last_cmd", each.idle_seconds


def reset(context: Context) -> None:
    """Set the counts to 0; what tells of the present stays."""
    for counters in context.all_counters:
        counters.reset()
    context.totals.reset()
    for shard in context.store.shards:
        with shard.lock:
            shard.total_items = shard.get_expired = shard.reclaimed = 0
            shard.evictions = shard.evicted_unseen = shard.expired_unseen = 0


BY_NAME: dict[bytes, Callable[[Context], Report]] = {b"items": items, b"slabs": slabs, b"sizes": sizes}
