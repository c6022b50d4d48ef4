"""The flags: the name, help and form of each setting on the command line, in the environment and in the TOML file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from memcache_kv.config.settings import MIB, AdminCommands, Fsync, LogFormat, Protection
from memcache_kv.errors import EX_USAGE, ConfigError

VARIABLE_PREFIX = "MEMCACHE_KV_"
SASL_FILE_VARIABLE = "MEMCACHED_SASL_PWDB"
"""memcached's own variable: the users file for -S, if -Y names none."""
LOG_LEVELS = ("error", "warning", "info", "debug")


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
    Option("admin-listen", "answer /livez, /readyz, /metrics, /stats.json and /version by HTTP on this port of the "
           "loopback addresses (9150 is that of the exporter for memcached), HOST:PORT, or path of a unix socket; "
           "connections to it do not count for -c; it needs the package h11; separate several by commas or repeat the "
           "flag", metavar="ADDR", many=True),
    Option("admin-tls", "use TLS on the addresses of --admin-listen, with the certificate of -o ssl_chain_cert and the "
           "other options for TLS", convert=_switch),
    Option("admin-token-file", "require the token that this file contains as Authorization: Bearer TOKEN on the "
           "addresses of --admin-listen, except for /livez and /readyz; SIGHUP reads the file again",
           metavar="FILE", convert=_path),
    Option("ready-needs-journal", "let /readyz fail while the journal can't be written", convert=_switch),
    Option("drain-seconds", "go on serving for this many seconds after a signal to stop, while /readyz fails; a second "
           "signal stops at once (default: 0)", metavar="SECONDS",
           convert=_integer(0, 86400, "the seconds to drain")),
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
SETTING_FIELDS = {option.name: option.field for option in OPTIONS} | {
    "listen-backlog": "backlog",
    "protocol": "binding_protocol",
}
