"""Every setting with its default and unit."""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import NamedTuple

from memcache_kv.config.memcached_options import MIB as MIB
from memcache_kv.config.memcached_options import TlsOptions, Unused

DEFAULT_PORT = 11211
TLS_PREFIXES = ("notls:", "btls:", "mtls:")
"""What -l may put before an address to choose its TLS mode: no TLS, TLS without and with client certificates."""
CLASS_PREFIX = re.compile(r"(read|write|admin):(?=.*\D)")
"""What -l may put before all else to choose the highest class of commands. A port alone behind it makes it a host."""
LEAST_CONNECTION_MEMORY_BYTES = 64 * MIB
ITEMS_ON_THEIR_WAY = 4
"""How many of the largest items the connections can receive at the same time at least."""
STANDARD_INPUT = "-"
"""The name of standard input in --preload."""
DEFAULT_KEEP = 1
"""How many generations of the journal's files are kept after a rewrite, if --keep does not say."""


class Fsync(enum.StrEnum):
    """When the journal is synced to disk."""

    ALWAYS = "always"
    EVERYSEC = "everysec"
    NEVER = "never"


class Protection(enum.StrEnum):
    """What the server does if its configuration lets strangers in."""

    WARN = "warn"
    STRICT = "strict"


class LogFormat(enum.StrEnum):
    """What the lines of the log look like."""

    TEXT = "text"
    JSON = "json"


class AdminCommands(enum.StrEnum):
    """Which clients may use commands of the class admin, unless their user or their listener says otherwise."""

    LOCAL = "local"
    """Those on a loopback address or a unix socket."""
    ALWAYS = "always"
    NEVER = "never"
    """None, not even users of the class admin."""


class Settings(NamedTuple):
    """What a server is started with. Sizes are in bytes, times in seconds."""

    port: int = DEFAULT_PORT
    port_given: bool = False
    udp_port: int = 0
    listen: tuple[str, ...] = ()
    """Addresses, each with or without a port. Empty means both loopback addresses, or none beside a unix socket."""
    line_listen: tuple[str, ...] = ()
    """Addresses for the line protocol."""
    simple_listen: tuple[str, ...] = ()
    """Addresses for the simple dialect of the text protocol."""
    http_listen: tuple[str, ...] = ()
    """Addresses for HTTP."""
    http_host: tuple[str, ...] = ()
    """Names by which HTTP clients may call the server, besides those that no other site can have."""
    http_origin: tuple[str, ...] = ()
    """Origins whose pages in a browser may use HTTP."""
    admin_listen: tuple[str, ...] = ()
    """Addresses for health, metrics and statistics by HTTP."""
    admin_tls: bool = False
    admin_token_file: Path | None = None
    ready_needs_journal: bool = False
    drain_seconds: int = 0
    """How long clients are still served after a signal to stop."""
    operation_log: Path | None = None
    unix_socket: Path | None = None
    unix_mask: int = 0o700
    enable_shutdown: bool = False
    debug_commands: bool = False
    daemon: bool = False
    port_file: Path | None = None
    lock_memory: bool = False
    enable_largepages: bool = False
    enable_coredumps: bool = False
    user: str | None = None
    memory_limit: int = 64 * MIB
    connection_memory: int = 0
    """0 means the default: see `connection_memory_bytes`."""
    disable_evictions: bool = False
    conn_limit: int = 1024
    threads: int = 0
    """0 means the default: 1 with the GIL, 2 without."""
    max_item_size: int = MIB
    max_reqs_per_event: int = 1000
    napi_ids: int = 0
    verbose: int = 0
    debug: bool = False
    """Whether `verbose` is at least 2."""
    log_format: LogFormat = LogFormat.TEXT
    log_level: str = "info"
    """The least severe lines that are logged: error, warning, info, or debug, with which `verbose` is at least 2."""
    log_file: Path | None = None
    """None means standard error, or with `daemon` the system's log."""
    pidfile: Path | None = None
    backlog: int = 1024
    disable_flush_all: bool = False
    disable_cas: bool = False
    disable_watch: bool = False
    disable_dumping: bool = False
    stats_delimiter: str = ":"
    """The character that ends a key's prefix, for `stats detail`."""
    detail_enabled: bool = False
    binding_protocol: str = "auto"
    """auto, ascii or binary."""
    auth_file: Path | None = None
    admin_commands: AdminCommands = AdminCommands.LOCAL
    audit_log: Path | None = None
    enable_sasl: bool = False
    login_timeout: int = 10
    """0 is no limit."""
    max_connections_per_address: int = 0
    """0 is no limit. Loopback addresses and unix sockets have none."""
    protected: Protection = Protection.WARN
    enable_ssl: bool = False
    tls: TlsOptions = TlsOptions()
    idle_timeout: int = 0
    """0 keeps idle connections."""
    maxconns_fast: bool = True
    """Whether connections above the limit are rejected. Otherwise they wait."""
    slab_growth_factor: float = 1.25
    slab_min_size: int = 48
    extended: Unused = Unused()
    track_sizes: bool = False
    lru_crawler: bool = True
    crawler_sleep_us: int = 100
    crawler_tocrawl: int = 0
    """0 is no limit."""
    journal: Path | None = None
    fsync: Fsync = Fsync.EVERYSEC
    compact_ratio: float = 2.0
    """0 turns automatic compaction off."""
    keep: int = DEFAULT_KEEP
    """How many generations of journal files a rewrite keeps."""
    compact: bool = False
    """Whether to rewrite the journal at the start, although not all of its items may fit."""
    on_rotate: str = ""
    rotate_seconds: int = 0
    """0 closes increments only for a rewrite."""
    preload: tuple[str, ...] = ()
    """Data files to start with; `-` is standard input."""
    preload_strict: bool = False
    cluster_node: tuple[str, ...] = ()
    """The nodes that clients are told; see `config/cluster.py`."""
    cluster_file: Path | None = None
    shards: int = 0
    """0 means a number that follows from the limits."""
    max_items: int = 0
    """0 is no limit."""

    @property
    def connection_memory_bytes(self) -> int:
        """The memory that all connections together may keep.

        By default this is an eighth of -m, as the traffic of a large cache is larger, but enough for the default 1024
        connections to keep 64 KiB each, and for four of the largest items on their way.
        """
        return self.connection_memory or max(
            LEAST_CONNECTION_MEMORY_BYTES, self.memory_limit // 8, ITEMS_ON_THEIR_WAY * self.max_item_size
        )


def split_class_prefix(text: str) -> tuple[str, str]:
    """Split an address of -l into the name of its class of commands, empty if it has none, and the rest."""
    match = CLASS_PREFIX.match(text)
    return ("", text) if match is None else (match[1], text[match.end() :])
