"""What each statistic means. The generator of the page fails where this and the server's lines differ."""

from __future__ import annotations

from tests.reference.tables import MADE

ZERO = "always 0: "
NO_POOL = ZERO + "nothing is pooled"
NO_PAGES = ZERO + "there are no slab pages"
NO_SEGMENTS = ZERO + "the LRU has no segments"
SHOWN = "`-o`: shown as given, no effect"
FLASH = "memcached's default; values are never on flash"
TOGETHER = ZERO + "counted for all classes together, in `stats`"

HEADS = {
    "": f"""# Statistics

{MADE}

`stats` and its sub-commands have memcached's names and order, so existing exporters work. Names that begin with
`memcache_kv_` are ours. Statistics of things that do not exist here are still sent, with 0 or memcached's default. If a
line is only sent with some setting, the table says which.

`stats reset` sets the counters to 0. [Differences](differences.md#statistics) lists the numbers that have another
meaning than in memcached.

## `stats`

""",
    "memcache_kv": "\n## `stats memcache_kv`\n\nmemcached has no such report.\n\n",
    "settings": "\n## `stats settings`\n\n",
    "items": """
## `stats items`

Each line begins with `items:CLASS:`, where CLASS is the size class that memcached would use.

""",
    "slabs": """
## `stats slabs`

Each line but the last two begins with `CLASS:`. The numbers say what the present items would take in memcached.

""",
    "conns": "\n## `stats conns`\n\nEach line begins with the number of the socket and a colon.\n\n",
    "sizes": """
## `stats sizes`

With `-o track_sizes` there is one line for each size. Its name is the size in bytes, rounded up to a multiple of 32,
and its value is the number of items. Without the option the only line is `sizes_status disabled`.

""",
    "detail": """## `stats detail dump`

After `stats detail on`, or with `-D`, requests are counted by the prefix of their key. Each line begins with `PREFIX`
and a prefix, followed by names and numbers.

""",
}

CONDITIONS = {
    "idle_kicks": "`-o idle_timeout`",
    "ssl_new_sessions": "`-Z -o ssl_session_cache`",
    "ssl_.*|time_since_server_cert_refresh": "`-Z`",
    "memcache_kv_journal_.*": "`--journal`",
    "memcache_kv_login_timeouts": "`-Y` or `-S`",
    "memcache_kv_log_.*": "`-v`, or once there were any",
    "number_temp": "`-o temporary_ttl`",
}

GENERAL = {
    "pid": "process id",
    "uptime": "seconds since the start",
    "time": "unix time by the server's clock",
    "version": "the version of memcached that the server behaves like",
    "libevent": "always `none`",
    "pointer_size": "bits of a pointer",
    "rusage_user": "CPU seconds spent in user mode",
    "rusage_system": "CPU seconds spent in the kernel",
    "max_connections": "the limit of `-c`",
    "curr_connections": "open connections",
    "total_connections": "connections opened since the start",
    "rejected_connections": "connections rejected above `-c`",
    "connection_structures": "the same as `curr_connections`",
    "response_obj_oom": NO_POOL,
    "response_obj_count": NO_POOL,
    "response_obj_bytes": NO_POOL,
    "read_buf_count": NO_POOL,
    "read_buf_bytes": NO_POOL,
    "read_buf_bytes_free": NO_POOL,
    "read_buf_oom": NO_POOL,
    "reserved_fds": NO_POOL,
    "cmd_get": "keys requested",
    "cmd_set": "storage commands",
    "cmd_flush": "`flush_all` commands",
    "cmd_touch": "`touch`, `gat` and `gats` requests",
    "cmd_meta": "meta commands",
    "get_hits": "keys requested and found",
    "get_misses": "keys requested and not found",
    "get_expired": "keys requested that had expired",
    "get_flushed": "keys requested that had been flushed",
    "delete_misses": "`delete` of missing keys",
    "delete_hits": "items deleted",
    "incr_misses": "`incr` of missing keys",
    "incr_hits": "successful `incr`",
    "decr_misses": "`decr` of missing keys",
    "decr_hits": "successful `decr`",
    "cas_misses": "`cas` of missing keys",
    "cas_hits": "successful `cas`",
    "cas_badval": "`cas` with a CAS id that did not match",
    "touch_hits": "items that got a new expiry time",
    "touch_misses": "`touch`, `gat` and `gats` of missing keys",
    "store_too_large": "values rejected above `-I`",
    "store_no_memory": "values rejected for lack of memory, as with `-M`",
    "auth_cmds": "login attempts",
    "auth_errors": "failed logins",
    "idle_kicks": "idle connections closed",
    "bytes_read": "bytes received",
    "bytes_written": "bytes sent",
    "limit_maxbytes": "the limit of `-m` in bytes",
    "accepting_conns": "1, or 0 while connections above `-c` wait",
    "listen_disabled_num": "how often the server stopped accepting at `-c`",
    "time_in_listen_disabled_us": "microseconds for which it did not accept",
    "threads": "worker threads",
    "conn_yields": "how often `-R` ended the turn of a connection",
    "hash_power_level": "the power of two that the number of items fits in",
    "hash_bytes": "bytes that the tables take",
    "hash_is_expanding": ZERO + "a table grows in one step",
    "slab_reassign_rescues": NO_PAGES,
    "slab_reassign_chunk_rescues": NO_PAGES,
    "slab_reassign_inline_reclaim": NO_PAGES,
    "slab_reassign_busy_items": NO_PAGES,
    "slab_reassign_busy_deletes": NO_PAGES,
    "slab_reassign_busy_nomem": NO_PAGES,
    "slab_reassign_last_busy_status": "always `none`",
    "slab_reassign_running": NO_PAGES,
    "slabs_moved": NO_PAGES,
    "lru_crawler_running": "1 while the crawler removes expired items",
    "lru_crawler_starts": "how often the crawler has started",
    "lru_maintainer_juggles": NO_SEGMENTS,
    "malloc_fails": ZERO + "a failed allocation ends that connection and is logged",
    "log_worker_dropped": "lines for `watch` that were not made, as they may take only a twentieth of the time in "
    "which a worker is busy",
    "log_worker_written": "lines written for `watch`",
    "log_watcher_skipped": "lines dropped because a watcher did not read fast enough",
    "log_watcher_sent": "lines sent to watchers",
    "log_watchers": "connections that watch",
    "ssl_new_sessions": "handshakes that did not resume a session",
    "ssl_handshake_errors": "failed handshakes",
    "ssl_proto_errors": "connections that broke TLS after the handshake",
    "time_since_server_cert_refresh": "seconds since the certificates were read",
    "unexpected_napi_ids": ZERO + "not supported",
    "round_robin_fallback": ZERO + "not supported",
    "bytes": "bytes that the items take",
    "curr_items": "items now",
    "total_items": "items stored since the start",
    "slab_global_page_pool": NO_PAGES,
    "expired_unfetched": "items that expired without having been read",
    "evicted_unfetched": "items evicted without having been read",
    "evicted_active": "items evicted after having been read",
    "evictions": "items evicted to make room",
    "reclaimed": "items that a flush removed",
    "crawler_reclaimed": "expired items that the crawler removed",
    "crawler_items_checked": "items that the crawler checked",
    "lrutail_reflocked": ZERO + "items have no locks of their own",
    "moves_to_cold": NO_SEGMENTS,
    "moves_to_warm": NO_SEGMENTS,
    "moves_within_lru": "items that eviction spared because they had been read",
    "direct_reclaims": "the same as `evictions`",
    "lru_bumps_dropped": NO_SEGMENTS,
    "memcache_kv_journal_records": "records written or queued since the start",
    "memcache_kv_journal_replayed_records": "records read at the start",
    "memcache_kv_journal_bytes": "bytes in the journal's files",
    "memcache_kv_journal_base_bytes": "bytes in its base file",
    "memcache_kv_journal_lag_records": "records that are not on disk yet",
    "memcache_kv_journal_lag_seconds": "how long the oldest of them has waited",
    "memcache_kv_journal_queued_bytes": "bytes that are not written yet",
    "memcache_kv_journal_waits": "how often replies were held back because the disk was too slow",
    "memcache_kv_journal_fsyncs": "fsyncs",
    "memcache_kv_journal_fsync_seconds": "seconds spent in fsyncs",
    "memcache_kv_journal_longest_fsync_seconds": "seconds that the longest fsync took",
    "memcache_kv_journal_failing": "1 while the disk fails and writes are rejected",
    "memcache_kv_journal_failures": "failed writes and fsyncs",
    "memcache_kv_journal_refused_changes": "writes rejected because the disk failed",
    "memcache_kv_journal_kept_generations": "earlier generations of files that are kept for `journal restore`",
    "memcache_kv_journal_kept_bytes": "the length of these files together",
    "memcache_kv_journal_compacting": "1 while the journal is rewritten",
    "memcache_kv_journal_compactions": "completed rewrites",
    "memcache_kv_journal_compaction_failures": "failed rewrites",
    "memcache_kv_journal_compaction_seconds": "seconds that the last rewrite took",
    "memcache_kv_login_timeouts": "connections closed because they did not log in within `--login-timeout`",
    "memcache_kv_log_dropped_lines": "lines of the log that were dropped because they could not be written fast enough",
}

OWN = {
    "memcache_kv_longest_turn_us": "the longest turn of a worker, in which it reads no connection, in microseconds; "
    "0 while all took less than 1,000",
    "memcache_kv_slow_turns": "turns of a worker that took more than 50 ms",
    "memcache_kv_hidden_errors": "errors that clients do not learn of, as they asked for no reply",
    "memcache_kv_stored_expired": "values that had already expired when they were stored",
    "memcache_kv_rejected_too_large": "values rejected above `-I`, over all protocols",
    "memcache_kv_evicted_unread": "items evicted before they were ever read, as far as reads are recorded: while "
    "memory is scarce",
    "memcache_kv_connection_memory": "bytes of requests and replies that connections keep between their turns; one "
    "that keeps less than 4 KiB is not counted",
    "memcache_kv_connection_memory_limit": "`--connection-memory`, in bytes",
    "memcache_kv_connections_closed_for_memory": "connections closed because that limit was near or exceeded",
    "memcache_kv_accelerated": "1 if the compiled modules are in use",
}

SETTINGS = {
    "maxbytes": "`-m`, in bytes; `cache_memlimit` changes it",
    "maxconns": "`-c`",
    "tcpport": "the TCP port in use",
    "udpport": "`-U`",
    "inter": "`-l`",
    "verbosity": "`-v`; `verbosity` changes it",
    "oldest": ZERO + "not kept",
    "evictions": "`off` with `-M`",
    "domain_socket": "`-s`",
    "umask": "`-a`",
    "shutdown_command": "`-A`",
    "growth_factor": "`-f`",
    "chunk_size": "`-n`",
    "num_threads": "the number of worker threads",
    "num_threads_per_udp": "always 1",
    "stat_key_prefix": "`-D`",
    "detail_enabled": "whether `stats detail` counts",
    "reqs_per_event": "`-R`",
    "cas_enabled": "`no` with `-C`",
    "tcp_backlog": "`-b`",
    "binding_protocol": "`-B`",
    "auth_enabled_sasl": "`-S`",
    "auth_enabled_ascii": "`-Y`",
    "item_size_max": "`-I`",
    "maxconns_fast": "`-o maxconns_fast`",
    "hashpower_init": SHOWN,
    "slab_reassign": SHOWN,
    "slab_automove": SHOWN,
    "slab_automove_ratio": SHOWN,
    "slab_automove_window": SHOWN,
    "slab_chunk_max": "`-o slab_chunk_max`, in bytes",
    "lru_crawler": "whether the crawler runs",
    "lru_crawler_sleep": "`-o lru_crawler_sleep`",
    "lru_crawler_tocrawl": "`-o lru_crawler_tocrawl`",
    "tail_repair_time": SHOWN,
    "flush_enabled": "`no` with `-F`",
    "dump_enabled": "`no` with `-X`",
    "hash_algorithm": "the interpreter's hash of bytes",
    "lru_maintainer_thread": SHOWN,
    "lru_segmented": SHOWN,
    "hot_lru_pct": SHOWN,
    "warm_lru_pct": SHOWN,
    "hot_max_factor": SHOWN,
    "warm_max_factor": SHOWN,
    "temp_lru": SHOWN,
    "temporary_ttl": SHOWN,
    "idle_timeout": "`-o idle_timeout`",
    "watcher_logbuf_size": "`-o watcher_logbuf_size`, in bytes",
    "worker_logbuf_size": SHOWN,
    "read_buf_mem_limit": SHOWN,
    "track_sizes": "`-o track_sizes`",
    "inline_ascii_response": "always `no`",
    "ext_item_size": FLASH,
    "ext_item_age": FLASH,
    "ext_low_ttl": FLASH,
    "ext_recache_rate": FLASH,
    "ext_wbuf_size": FLASH,
    "ext_compact_under": FLASH,
    "ext_drop_under": FLASH,
    "ext_max_sleep": FLASH,
    "ext_max_frag": FLASH,
    "slab_automove_freeratio": FLASH,
    "ext_drop_unread": FLASH,
    "ssl_enabled": "`-Z`",
    "ssl_chain_cert": "`-o ssl_chain_cert`",
    "ssl_key": "`-o ssl_key`",
    "ssl_verify_mode": "`-o ssl_verify_mode`, as OpenSSL's flags: 0, 1, 3, 7",
    "ssl_keyformat": "`-o ssl_keyformat`",
    "ssl_ciphers": "`-o ssl_ciphers`",
    "ssl_ca_cert": "`-o ssl_ca_cert`",
    "ssl_wbuf_size": "`-o ssl_wbuf_size`, in bytes; no effect",
    "ssl_session_cache": "`-o ssl_session_cache`",
    "ssl_kernel_tls": "`-o ssl_kernel_tls`",
    "ssl_min_version": "`-o ssl_min_version`",
    "num_napi_ids": ZERO + "not supported",
    "memory_file": "where a graceful stop saves items (`-e`)",
    "client_flags_size": "bytes of an item's client flags: 4",
    "memcache_kv_version": "the version of memcache_kv",
    "memcache_kv_shards": "the number of shards",
    "memcache_kv_journal": "`--journal`",
    "memcache_kv_fsync": "`--fsync`",
    "memcache_kv_max_items": "`--max-items`",
}

CLASS_ITEMS = {
    "number": "items now",
    "number_hot": NO_SEGMENTS,
    "number_warm": NO_SEGMENTS,
    "number_cold": "the same as `number`",
    "number_temp": NO_SEGMENTS,
    "age_hot": NO_SEGMENTS,
    "age_warm": NO_SEGMENTS,
    "age": "seconds since the least recently used item was last accessed",
    "mem_requested": "bytes that these items would take in memcached",
    "evicted": "items evicted",
    "evicted_nonzero": "items evicted that had an expiry time",
    "evicted_time": "seconds since the last evicted item had been accessed",
    "outofmemory": "values rejected for lack of memory",
    "tailrepairs": ZERO + "no item gets stuck",
    "reclaimed": "items that a flush or the crawler removed",
    "expired_unfetched": "items that expired without having been read",
    "evicted_unfetched": "items evicted without having been read",
    "evicted_active": "items evicted after having been read",
    "crawler_reclaimed": "expired items that the crawler removed",
    "crawler_items_checked": TOGETHER,
    "lrutail_reflocked": ZERO + "items have no locks of their own",
    "moves_to_cold": NO_SEGMENTS,
    "moves_to_warm": NO_SEGMENTS,
    "moves_within_lru": TOGETHER,
    "direct_reclaims": "the same as `evicted`",
    "hits_to_hot": TOGETHER,
    "hits_to_warm": TOGETHER,
    "hits_to_cold": TOGETHER,
    "hits_to_temp": TOGETHER,
}

CLASS_SLABS = {
    "chunk_size": "bytes of a chunk",
    "chunks_per_page": "chunks in a page of 1 MiB",
    "total_pages": "pages that these items would take",
    "total_chunks": "chunks in these pages",
    "used_chunks": "chunks that these items would take",
    "free_chunks": "chunks that would be free",
    "free_chunks_end": ZERO + "not kept",
    "get_hits": TOGETHER,
    "cmd_set": TOGETHER,
    "delete_hits": TOGETHER,
    "incr_hits": TOGETHER,
    "decr_hits": TOGETHER,
    "cas_hits": TOGETHER,
    "cas_badval": TOGETHER,
    "touch_hits": TOGETHER,
}

SLAB_TOTALS = {
    "active_slabs": "classes in which there are items",
    "total_malloced": "bytes of all pages",
}

CONNECTION = {
    "addr": "the client's address, or the listening address",
    "listen_addr": "the address that the client connected to",
    "state": "the connection's state",
    "secs_since_last_cmd": "seconds since its last request",
}

PREFIXES = {
    "get": "keys requested",
    "hit": "keys requested and found",
    "set": "values stored",
    "del": "deletions",
}
