"""Every setting with its default and unit, and how settings are read from flags, environment and file.

A flag wins over an environment variable (`MEMCACHE_KV_` and the long flag's name). A variable wins over the TOML file
given with --config (its keys are the long flags' names), and the file wins over the default.
"""

from __future__ import annotations

import argparse
import enum
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from memcache_kv.compiled import PURE_VARIABLE
from memcache_kv.config.memcached_options import MIB as MIB
from memcache_kv.config.memcached_options import TlsOptions, Unused
from memcache_kv.errors import EX_USAGE as EX_USAGE
from memcache_kv.errors import ConfigError

DEFAULT_PORT = 11211
VARIABLE_PREFIX = "MEMCACHE_KV_"
CONFIG_VARIABLE = f"{VARIABLE_PREFIX}CONFIG"
"""The variable that names the TOML file if --config does not."""
PORT_FILE_VARIABLE = "MEMCACHED_PORT_FILENAME"
"""memcached's own variable: the file that the server writes its actual ports to."""
SASL_FILE_VARIABLE = "MEMCACHED_SASL_PWDB"
"""memcached's own variable: the users file for -S, if -Y names none."""
SERVICE_NAME = re.compile(r".*(_SERVICE_|_PORT_)")
SERVICE_VALUE = re.compile(r"(tcp|udp|sctp)://")
"""Variables like these are set by Kubernetes in every container, once a Service is called memcache-kv."""
TLS_PREFIXES = ("notls:", "btls:", "mtls:")
"""What -l may put before an address to choose its TLS mode: no TLS, TLS without and with client certificates."""
CLASS_PREFIX = re.compile(r"(read|write|admin):(?=.*\D)")
"""What -l may put before all else to choose the highest class of commands. A port alone behind it makes it a host."""


LOG_LEVELS = ("error", "warning", "info", "debug")
DEBUG_VERBOSITY = 2
"""The number of -v that --debug stands for."""
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


class Option(NamedTuple):
    """One setting, as a flag, an environment variable and a key of the TOML file."""

    name: str
    """The long flag without its leading dashes. The field of Settings has underscores instead of hyphens."""
    help: str
    short: str = ""
    metavar: str = ""
    convert: Callable[[str], Any] = str
    many: bool = False

    @property
    def field(self) -> str:
        """The name of its field in Settings."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The name of its environment variable."""
        return VARIABLE_PREFIX + self.field.upper()

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value on the command line."""
        return not self.metavar


def _integer(lowest: int, highest: int, what: str, status: int = 2) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text) or not lowest <= int(text) <= highest:
            raise ConfigError(f"{what} must be a number from {lowest} to {highest}, not {text!r}", status)
        return int(text)

    return convert


def _item_size(text: str) -> int:
    """Read -I: a number of bytes, or a number followed by k, m or g."""
    match = re.fullmatch(r"(\d{1,12})([kKmMgG]?)", text)
    if match is None:
        raise ConfigError(f"the item size must be a number of bytes, or one with k, m or g, not {text!r}", EX_USAGE)
    size = int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()]
    if size < 1024:
        raise ConfigError("Item max size cannot be less than 1024 bytes.", EX_USAGE)
    if size > 1024 * MIB:
        raise ConfigError("Cannot set item size limit higher than a gigabyte.", EX_USAGE)
    return size


def _growth_factor(text: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{0,9})?", text) or float(text) <= 1:
        raise ConfigError(f"Factor must be greater than 1, not {text!r}")
    return float(text)


def _delimiter(text: str) -> str:
    """Read -D: like memcached, use the first character and ignore the rest."""
    if not text.strip():
        raise ConfigError("No delimiter specified")
    return text.lstrip()[0]


def _binding_protocol(text: str) -> str:
    if text not in ("auto", "binary", "ascii", "text"):
        raise ConfigError(
            f"Invalid value for binding protocol: {text} -- should be one of auto, binary, or ascii", EX_USAGE
        )
    return "ascii" if text == "text" else text


def _octal(text: str) -> int:
    if not re.fullmatch(r"[0-7]{1,4}", text):
        raise ConfigError(f"the access mask must be an octal number such as 700, not {text!r}")
    return int(text, 8)


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ConfigError(f"a switch must be on or off, not {text!r}")


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ConfigError(f"{text!r} is not a path")
    return Path(text)


def _fsync(text: str) -> Fsync:
    try:
        return Fsync(text)
    except ValueError:
        raise ConfigError(f"fsync must be always, everysec or never, not {text!r}") from None


def _protection(text: str) -> Protection:
    try:
        return Protection(text)
    except ValueError:
        raise ConfigError(f"protected must be warn or strict, not {text!r}") from None


def _log_format(text: str) -> LogFormat:
    try:
        return LogFormat(text)
    except ValueError:
        raise ConfigError(f"log-format must be text or json, not {text!r}") from None


def _log_level(text: str) -> str:
    if text not in LOG_LEVELS:
        raise ConfigError(f"log-level must be error, warning, info or debug, not {text!r}")
    return text


def _admin_commands(text: str) -> AdminCommands:
    try:
        return AdminCommands(text)
    except ValueError:
        raise ConfigError(f"admin-commands must be local, always or never, not {text!r}") from None


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if ratio != 0 and not 1 < ratio < 1000:
        raise ConfigError(f"the ratio must be 0, or more than 1 and less than 1000, not {text!r}")
    return ratio


def _command(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ConfigError(f"{text!r} is not a command")
    return text


def _memory_file(text: str) -> NoReturn:
    raise ConfigError("a memory file is not supported; --journal DIR keeps items across a restart", EX_USAGE)


def _shards(text: str) -> int:
    count = _integer(0, 4096, "the number of shards")(text)
    if count & (count - 1):
        raise ConfigError(f"the number of shards must be a power of two, not {text}")
    return count


def _megabytes(text: str) -> int:
    return _integer(1, 1 << 30, "the memory limit in megabytes", EX_USAGE)(text) * MIB


def _connection_megabytes(text: str) -> int:
    return _integer(1, 1 << 30, "the connections' memory in megabytes")(text) * MIB


OPTIONS: tuple[Option, ...] = (
    Option("port", "TCP port to listen on; 0 picks a free one (default: 11211)", "p", "NUM",
           _integer(0, 65535, "the port", EX_USAGE)),
    Option("udp-port", "UDP port to listen on (default: 0, off)", "U", "NUM",
           _integer(0, 65535, "the UDP port", EX_USAGE)),
    Option("listen", "address to listen on, with or without :PORT; separate several by commas or repeat the flag; "
           "read:ADDR, write:ADDR and admin:ADDR choose the highest class of commands "
           "(default: both loopback addresses, 127.0.0.1 and ::1)", "l", "ADDR", many=True),
    Option("unix-socket", "unix socket to listen on; turns TCP off unless -p or -l is given too", "s", "FILE", _path),
    Option("unix-mask", "access mask for the unix socket, in octal (default: 700)", "a", "MASK", _octal),
    Option("line-listen", "also speak the line protocol (PUT, GET, DELETE, EXISTS, QUIT) on this port of the loopback "
           "addresses, HOST:PORT, or path of a unix socket; prefixes as for -l; separate several by commas or repeat "
           "the flag", metavar="ADDR", many=True),
    Option("simple-listen", "the same for the simple dialect of the text protocol, in which a set needs no flags and "
           "no expiry time", metavar="ADDR", many=True),
    Option("http-listen", "the same for HTTP, which needs the package h11", metavar="ADDR", many=True),
    Option("http-host", "name by which HTTP clients may call the server; IP addresses, localhost, names without a dot "
           "and the host of --http-listen need not be named, * allows any; separate several by commas or repeat the "
           "flag", metavar="NAME", many=True),
    Option("http-origin", "origin, such as https://app.example, whose pages in a browser may use HTTP, besides the "
           "server's own; separate several by commas or repeat the flag", metavar="ORIGIN", many=True),
    Option("operation-log", "append the operations of HTTP clients to this file, with keys and values; it is opened "
           "again when it has been moved, and at SIGHUP", metavar="FILE", convert=_path),
    Option("enable-shutdown", 'enable the "shutdown" command', "A", convert=_switch),
    Option("daemon", "run as a daemon; the command returns once the server listens", "d", convert=_switch),
    Option("user", "switch to this user (only if started as root)", "u", "USER"),
    Option("memory-limit", "memory for items, in megabytes (default: 64)", "m", "NUM", _megabytes),
    Option("disable-evictions", "return an error when memory is full, instead of evicting", "M", convert=_switch),
    Option("conn-limit", "maximum number of simultaneous connections (default: 1024)", "c", "NUM",
           _integer(1, 1 << 20, "the connection limit")),
    Option("threads", "number of worker threads (default: 1, or 2 on an interpreter without the GIL)", "t", "NUM",
           _integer(1, 256, "the number of threads")),
    Option("max-item-size", "maximum size of an item in bytes, or with k, m or g; from 1k to 1024m (default: 1m)", "I",
           "NUM", _item_size),
    Option("max-reqs-per-event", "maximum number of requests answered on one connection before other connections "
           "get a turn (default: 1000)", "R", "NUM", _integer(1, 1 << 30, "the number of requests per event")),
    Option("verbose", "log connections; -vv also logs requests and replies; -vvv is the same as -vv", "v",
           convert=_integer(0, 9, "the verbosity")),
    Option("debug", "log connections, requests and replies, as -vv does", convert=_switch),
    Option("log-format", "what lines of the log look like: text, or json for an object with time, level and message a "
           "line (default: text; with the time in a file, and on a terminal with -v; with priorities for systemd's "
           "journal)", metavar="FORMAT", convert=_log_format),
    Option("log-level", "least severe lines to log: error, warning, info or debug, the last one as -vv (default: info)",
           metavar="LEVEL", convert=_log_level),
    Option("log-file", "append the log to this file once the server starts; it is opened again when it has been moved, "
           "and at SIGHUP; without it, the log goes to standard error", metavar="FILE", convert=_path),
    Option("pidfile", "write the process id to this file and lock it while the server runs", "P", "FILE", _path),
    Option("listen-backlog", "maximum number of connections waiting to be accepted (default: 1024)", "b", "NUM",
           _integer(1, 1 << 16, "the backlog")),
    Option("disable-flush-all", 'disable the "flush_all" command', "F", convert=_switch),
    Option("disable-dumping", 'disable "stats cachedump", "lru_crawler metadump" and "mgdump"', "X", convert=_switch),
    Option("disable-watch", 'disable the "watch" command', "W", convert=_switch),
    Option("disable-cas", "disable CAS: every item has the CAS id 0", "C", convert=_switch),
    Option("stats-delimiter", 'turn on "stats detail" and set the character that ends the prefix of a key '
           '(default: off, ":")', "D", "CHAR", _delimiter),
    Option("protocol", "protocol to speak: auto, ascii (or text) or binary (default: auto; ascii with -Y alone, binary "
           "with -S alone)", "B", "NAME", _binding_protocol),
    Option("auth-file", "require a login with a user:password of this file, the password in clear or hashed with "
           "bcrypt (htpasswd -B); SIGHUP reloads the file", "Y", "FILE", _path),
    Option("enable-sasl", "let clients of the binary protocol log in by SASL (PLAIN), with the users of -Y or of the "
           f"file that {SASL_FILE_VARIABLE} names", "S", convert=_switch),
    Option("login-timeout", "close a connection that has to log in and has not after this many seconds; 0: never "
           "(default: 10)", metavar="SECONDS", convert=_integer(0, 1 << 20, "the login timeout")),
    Option("max-connections-per-address", "maximum number of simultaneous connections from one address (of IPv6, from "
           "one /64); 0: no limit; loopback has none (default: 0)", metavar="NUM",
           convert=_integer(0, 1 << 20, "the connection limit for an address")),
    Option("protected", "what to do if strangers can use the server (it listens beyond loopback without a login or "
           "client certificates), or if it runs as root without -u: warn, or strict to refuse to start (default: warn)",
           metavar="HOW", convert=_protection),
    Option("enable-ssl", "use TLS on every TCP address, except those that -l gives as notls:ADDR; mtls:ADDR requires a "
           "client certificate, btls:ADDR requests none", "Z", convert=_switch),
    Option("lock-memory", "lock the memory of the process, so that it is never swapped out", "k", convert=_switch),
    Option("enable-largepages", "check that the system has large pages, as memcached does; no other effect", "L",
           convert=_switch),
    Option("enable-coredumps", "raise the size limit of core files", "r", convert=_switch),
    Option("slab-growth-factor", 'growth factor of the size classes in "stats items" and "stats slabs" (default: 1.25)',
           "f", "NUM", _growth_factor),
    Option("slab-min-size", "smallest of these size classes, in bytes of key and value (default: 48)", "n", "NUM",
           _integer(1, 1 << 30, "the smallest chunk")),
    Option("memory-file", "not supported: use --journal to keep items across a restart", "e", "FILE", _memory_file),
    Option("napi-ids", "accepted for compatibility, no effect", "N", "NUM",
           _integer(1, 1 << 30, "the number of NAPI ids")),
    Option("extended", "memcached's further options; separate several by commas or repeat the flag. These have an "
           "effect: idle_timeout=SECONDS, no_maxconns_fast, no_lru_crawler, lru_crawler_sleep=MICROSECONDS, "
           "lru_crawler_tocrawl=NUM, track_sizes; for the size classes: slab_sizes=SIZE-SIZE-..., "
           "slab_chunk_max=KILOBYTES; for TLS: ssl_chain_cert=FILE, ssl_key=FILE, "
           "ssl_verify_mode=0..3 (client certificates: none, request, require, once), ssl_ca_cert=FILE, "
           "ssl_ciphers=LIST, ssl_min_version=0..3 (TLS 1.0 to 1.3; default: 2), ssl_session_cache, ssl_kernel_tls. "
           "The others are checked and have no effect", "o", "NAME[=VALUE]",
           many=True),
    Option("debug-commands", 'enable "debugtime", with which any client can change the clock; for testing only',
           convert=_switch),
    Option("admin-commands", 'who may use commands about the whole server, such as "flush_all", "watch" and dumps: '
           "local (clients on loopback or a unix socket, and users of the class admin), always (everybody, as in "
           "memcached) or never (default: local)", metavar="WHO", convert=_admin_commands),
    Option("audit-log", "append logins and admin commands to this file, a JSON object a line; SIGHUP opens the file "
           "again", metavar="FILE", convert=_path),
    Option("journal", "keep the data in a journal in this directory (default: off)", metavar="DIR", convert=_path),
    Option("fsync", "when to sync the journal to disk: always, everysec or never (default: everysec)",
           metavar="WHEN", convert=_fsync),
    Option("compact-ratio", "rewrite the journal when it is this many times as long as after the last rewrite, and "
           "longer than this many times 64 MB; 0: only on request (default: 2)", metavar="NUM", convert=_ratio),
    Option("keep", "how many generations of the journal's files to keep after a rewrite, so that `memcache-kv journal "
           "restore` can return to times before it; 0: none (default: 1)", metavar="NUM",
           convert=_integer(0, 1000, "the number of kept generations")),
    Option("compact", "rewrite the journal at once, without the items that do not fit; without this flag it is kept as "
           "it is if items do not fit for which there was room before", convert=_switch),
    Option("on-rotate", "run this command by the shell, in the background, for each file of the journal that is closed "
           "and on disk, and then for a manifest of these; MEMCACHE_KV_CLOSED_FILE has its path, MEMCACHE_KV_JOURNAL "
           "that of the directory; if the command fails, it is run again", metavar="COMMAND", convert=_command),
    Option("rotate-seconds", "go on in a new file of the journal this often if something was written; 0: only for a "
           "rewrite (default: 0)", metavar="SECONDS",
           convert=_integer(0, 1 << 20, "the seconds between two rotations")),
    Option("preload", "load the items of this file before listening; each line has a key, a space and the value; the "
           "file may be compressed with gzip or zstd; - is standard input; separate several by commas or repeat the "
           "flag; with --journal only a new journal is filled", metavar="FILE", many=True),
    Option("preload-strict", "do not start if a line of these files is no item, or if not all items fit",
           convert=_switch),
    Option("cluster-node", "tell clients that ask by `config get cluster` of this node of the cluster; IP is what HOST "
           "resolves to if it is left out; separate several by commas or repeat the flag", metavar="HOST[|IP]:PORT",
           many=True),
    Option("cluster-file", "the same for the nodes listed in this file, which is read again by SIGHUP and when it has "
           "changed", metavar="FILE", convert=_path),
    Option("shards", "number of parts of the table, a power of two (default: depends on the limits, at most 64)",
           metavar="NUM", convert=_shards),
    Option("connection-memory", "memory for what all connections together keep of requests and replies, in megabytes; "
           "beyond it, the connections that keep most are closed (default: an eighth of -m, at least 64 and at least 4 "
           "times -I)", metavar="NUM", convert=_connection_megabytes),
    Option("max-items", "evict above this number of items (default: no limit)", metavar="NUM",
           convert=_integer(0, 1 << 40, "the number of items")),
)  # fmt: skip

_SETTING_FIELDS = {option.name: option.field for option in OPTIONS} | {
    "listen-backlog": "backlog",
    "protocol": "binding_protocol",
}


def load_settings(
    flags: Mapping[str, Any],
    config: Path | None,
    environ: Mapping[str, str] = os.environ,
    warn: Callable[[str], None] = lambda text: None,
) -> Settings:
    """Merge flags, environment, file and defaults into one Settings.

    flags: by their long names, each a text, a switch or a list; config: the TOML file, if there is one; environ: the
    environment variables; warn: called with a line about each part of these that is ignored.

    If several sources have a setting, only the value that wins is checked. Raises ConfigError, whose text is one line.
    """
    sources = (
        ("command line", flags),
        ("environment", _from_environment(environ, warn)),
        ("--config", _from_file(config)),
    )
    values: dict[str, Any] = {}
    for option in OPTIONS:
        for source, name_value in sources:
            if option.name in name_value:
                values[_SETTING_FIELDS[option.name]] = _converted(option, name_value[option.name], source)
                break
    for field, flag in (("fsync", "--fsync"), ("on_rotate", "--on-rotate"), ("rotate_seconds", "--rotate-seconds")):
        if field in values and "journal" not in values:
            warn(f"{flag} has no effect without --journal DIR, which keeps the data on disk")
    if "preload_strict" in values and "preload" not in values:
        warn("--preload-strict has no effect without --preload FILE")
    _add_implied(values, environ)
    settings = Settings(**values)
    _check_together(settings)
    return settings


def _add_implied(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Add the fields that follow from the given ones."""
    values["port_given"] = "port" in values
    if values.get("udp_port") and "port" not in values:
        values["port"] = values["udp_port"]
    values["detail_enabled"] = "stats_delimiter" in values
    if values.get("debug") or values.get("log_level") == "debug":
        values["verbose"] = max(values.get("verbose", 0), DEBUG_VERBOSITY)
    if environ.get(PORT_FILE_VARIABLE):
        values["port_file"] = Path(environ[PORT_FILE_VARIABLE])
    _add_login(values, environ)
    if "extended" in values:
        from memcache_kv.config.suboptions import read_suboptions  # a long table that only -o needs

        defaults = Settings()
        found = read_suboptions(
            values["extended"],
            values.get("max_item_size", defaults.max_item_size),
            values.get("slab_min_size", defaults.slab_min_size),
        )
        values.update(found)


def _add_login(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Add what -Y and -S imply: like in memcached, one alone allows only its own protocol, and both allow both."""
    text, binary = "auth_file" in values, bool(values.get("enable_sasl"))
    if binary and not text and environ.get(SASL_FILE_VARIABLE):
        values["auth_file"] = Path(environ[SASL_FILE_VARIABLE])
    if text != binary:
        values.setdefault("binding_protocol", "ascii" if text else "binary")


def _check_together(settings: Settings) -> None:
    if settings.max_item_size > settings.memory_limit // 2:
        raise ConfigError("Cannot set item size limit higher than 1/2 of memory max.", EX_USAGE)
    if settings.connection_memory_bytes < ITEMS_ON_THEIR_WAY * settings.max_item_size:
        raise ConfigError(f"--connection-memory must be at least {ITEMS_ON_THEIR_WAY} times the item size of -I")
    if settings.enable_sasl:
        _check_sasl(settings)
    elif settings.auth_file is not None:
        if settings.binding_protocol != "ascii":
            raise ConfigError(
                "ERROR: You cannot allow the BINARY protocol while using ascii authentication tokens.", EX_USAGE
            )
        if settings.udp_port:
            raise ConfigError("Cannot use UDP with ascii authentication enabled (-U 0 to disable)", EX_USAGE)
    if settings.cluster_node and settings.cluster_file is not None:
        raise ConfigError("--cluster-node and --cluster-file exclude each other: put the nodes into the file")
    if settings.cluster_node:
        from memcache_kv.config.cluster import parse_nodes

        try:
            parse_nodes(settings.cluster_node)
        except ConfigError as error:
            raise ConfigError(f"--cluster-node: {error}") from None
    if settings.preload.count(STANDARD_INPUT) > 1:
        raise ConfigError("--preload - can be given only once: standard input has one end")
    for text in (*settings.listen, *settings.line_listen, *settings.simple_listen, *settings.http_listen):
        _, address = split_class_prefix(text)
        if address.startswith(TLS_PREFIXES) and not settings.enable_ssl:
            raise ConfigError(f"'{address.partition(':')[0]}' option is valid only when SSL is enabled", EX_USAGE)


def split_class_prefix(text: str) -> tuple[str, str]:
    """Split an address of -l into the name of its class of commands, empty if it has none, and the rest."""
    match = CLASS_PREFIX.match(text)
    return ("", text) if match is None else (match[1], text[match.end() :])


def _check_sasl(settings: Settings) -> None:
    if settings.binding_protocol == "ascii":
        raise ConfigError("ERROR: You cannot allow the ASCII protocol while using SASL.", EX_USAGE)
    if settings.udp_port:
        raise ConfigError("ERROR: Cannot enable UDP while using binary SASL authentication.", EX_USAGE)
    if settings.auth_file is None:
        raise ConfigError(f"-S needs a users file: name it with -Y or with {SASL_FILE_VARIABLE}", EX_USAGE)


def _converted(option: Option, value: Any, source: str) -> Any:
    try:
        if option.many:
            texts = value if isinstance(value, list) else [value]
            return tuple(part for text in texts for part in str(text).split(",") if part)
        return option.convert(str(value))
    except ConfigError as error:
        raise ConfigError(f"{source}, {option.name}: {error}", error.status) from None


def _from_environment(environ: Mapping[str, str], warn: Callable[[str], None]) -> dict[str, str]:
    """Return the settings among the variables by their long names, without the variables that Kubernetes sets."""
    known = {option.variable: option.name for option in OPTIONS}
    ours = {name: value for name, value in environ.items() if name.startswith(VARIABLE_PREFIX)}
    for other in (CONFIG_VARIABLE, PURE_VARIABLE):
        ours.pop(other, None)
    foreign = [
        name
        for name, value in ours.items()
        if SERVICE_VALUE.match(value) or (name not in known and SERVICE_NAME.match(name))
    ]
    if foreign:
        warn(f"ignored {len(foreign)} variables of a Kubernetes Service, such as {min(foreign)}")
    for name in foreign:
        del ours[name]
    for name in ours:
        if name not in known:
            raise ConfigError(f"environment: {name} is not a setting; --help lists the settings")
    return {known[name]: value for name, value in ours.items()}


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import tomllib

    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"--config: can't read {path}: {error.strerror}") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, or a number too long
        raise ConfigError(f"--config: {path} is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"--config: {path} is nested too deeply") from None
    values = {name.replace("_", "-"): value for name, value in values.items()}
    unknown = values.keys() - {option.name for option in OPTIONS}
    if unknown:
        raise ConfigError(f"--config: {path}: {min(unknown)!r} is not a setting; --help lists the settings")
    return values


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting to a parser. It leaves the values as text, for `load_settings` to convert."""
    for option in OPTIONS:
        names = ([f"-{option.short}"] if option.short else []) + [f"--{option.name}"]
        common: dict[str, Any] = {"dest": option.name, "help": option.help, "default": argparse.SUPPRESS}
        if option.name == "verbose":
            parser.add_argument(*names, action="count", **common)
        elif option.is_switch:
            parser.add_argument(*names, action="store_true", **common)
        elif option.many:
            parser.add_argument(*names, action="append", metavar=option.metavar, **common)
        else:
            parser.add_argument(*names, metavar=option.metavar, **common)
