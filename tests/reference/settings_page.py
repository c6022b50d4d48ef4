"""docs/reference/settings.md: every setting, from the table of options in the code."""

from __future__ import annotations

import re

from memcache_kv.compiled import PURE_VARIABLE
from memcache_kv.config.loading import PORT_FILE_VARIABLE
from memcache_kv.config.memcached_options import KIB, MIB, TlsOptions, Unused
from memcache_kv.config.options import OPTIONS, SASL_FILE_VARIABLE, VARIABLE_PREFIX, Option
from memcache_kv.config.settings import Settings
from memcache_kv.config.suboptions import SUBOPTIONS
from tests.reference.tables import MADE, check_described, table

SAME = "same"
OURS = "not there"
MEMCACHED = {
    "port": SAME,
    "memory-file": "keeps its memory itself in this file; see [Differences](differences.md)",
    "napi-ids": "spreads connections by network queue",
    "udp-port": SAME,
    "listen": "all interfaces by default; no classes; also takes `proto[...]` and `tag[...]` prefixes",
    "unix-socket": "turns TCP off, even with `-p` or `-l`",
    "unix-mask": SAME,
    "line-listen": OURS,
    "simple-listen": OURS,
    "http-listen": OURS,
    "http-host": OURS,
    "http-origin": OURS,
    "admin-listen": OURS,
    "admin-tls": OURS,
    "admin-token-file": OURS,
    "ready-needs-journal": OURS,
    "drain-seconds": OURS,
    "operation-log": OURS,
    "enable-shutdown": SAME,
    "daemon": SAME,
    "user": SAME,
    "memory-limit": "same, but its hash table is not counted; here the whole entry is",
    "disable-evictions": SAME,
    "conn-limit": SAME,
    "threads": "default: 4",
    "max-item-size": SAME,
    "max-reqs-per-event": "default: 20",
    "verbose": SAME,
    "debug": OURS,
    "log-format": OURS,
    "log-level": OURS,
    "log-file": OURS,
    "pidfile": "only used with `-d`",
    "listen-backlog": SAME,
    "disable-flush-all": SAME,
    "disable-dumping": SAME,
    "disable-watch": SAME,
    "disable-cas": SAME,
    "stats-delimiter": SAME,
    "protocol": SAME,
    "auth-file": "passwords in clear only",
    "enable-sasl": "users from the SASL library",
    "login-timeout": OURS,
    "max-connections-per-address": OURS,
    "protected": OURS,
    "enable-ssl": SAME,
    "lock-memory": SAME,
    "enable-largepages": "uses large pages",
    "enable-coredumps": SAME,
    "slab-growth-factor": "growth factor of its slab chunks",
    "slab-min-size": "smallest slab chunk",
    "extended": "see below",
    "debug-commands": "only in its debug build",
    "admin-commands": OURS,
    "audit-log": OURS,
    "journal": OURS,
    "fsync": OURS,
    "compact-ratio": OURS,
    "keep": OURS,
    "compact": OURS,
    "on-rotate": OURS,
    "rotate-seconds": OURS,
    "preload": OURS,
    "preload-strict": OURS,
    "cluster-node": OURS,
    "cluster-file": OURS,
    "shards": OURS,
    "connection-memory": OURS,
    "max-items": OURS,
}
"""What memcached 1.6.45 does with the same flag."""

NONE = "checked, no effect"
SUBOPTION_ROWS: dict[str, tuple[str, str, str]] = {
    "maxconns_fast": ("", "reject connections above `-c` at once", SAME),
    "no_maxconns_fast": ("", "leave connections above `-c` waiting until there is room", SAME),
    "idle_timeout": ("SECONDS", "close connections that send nothing for this long; 0: never", SAME),
    "lru_crawler": ("", "remove expired items in the background", SAME),
    "no_lru_crawler": ("", "remove expired items only when a client requests them", SAME),
    "lru_crawler_sleep": ("MICROSECONDS", "pause of the crawler after each item", SAME),
    "lru_crawler_tocrawl": ("NUM", "items that a requested run checks; 0: all", "items per slab class and run"),
    "track_sizes": ("", "turn on `stats sizes`", SAME),
    "ssl_chain_cert": ("FILE", "certificate chain in PEM; required with `-Z`", SAME),
    "ssl_key": ("FILE", "private key in PEM, unless it is in the file of the chain", SAME),
    "ssl_verify_mode": ("0..3", "client certificates: 0 none, 1 request, 2 require, 3 once", SAME),
    "ssl_keyformat": ("NUM", "PEM only", "PEM, DER or ENGINE"),
    "ssl_ciphers": ("LIST", "ciphers in OpenSSL's notation", SAME),
    "ssl_ca_cert": ("FILE", "certificate authorities that client certificates may come from", SAME),
    "ssl_wbuf_size": ("KILOBYTES", NONE, "size of a buffer per connection"),
    "ssl_session_cache": ("", "count new sessions in `stats`", "turn on the session cache"),
    "ssl_kernel_tls": ("", "let the kernel encrypt; needs Python 3.12", SAME),
    "ssl_min_version": ("0..3", "lowest TLS version: 1.0, 1.1, 1.2, 1.3", SAME),
    "modern": ("", NONE, "no effect any more"),
    "no_modern": ("", "`no_maxconns_fast,no_lru_crawler`", "the defaults of 1.4"),
    "hashpower": ("12..32", NONE, "initial size of the hash table"),
    "no_hashexpand": ("", NONE, "never grow the hash table"),
    "hash_algorithm": ("NAME", NONE, "`jenkins`, `murmur3` or `xxh3`"),
    "slab_reassign": ("", NONE, "allow slab pages to move"),
    "no_slab_reassign": ("", NONE, "keep slab pages where they are"),
    "slab_automove": ("0..2", NONE, "how eagerly slab pages move"),
    "no_slab_automove": ("", NONE, "never move slab pages automatically"),
    "slab_automove_ratio": ("NUM", NONE, "difference in age that moves a page"),
    "slab_automove_window": ("NUM", NONE, "number of samples that the ratio is averaged over"),
    "slab_sizes": ("SIZE-SIZE-...", "size classes in `stats items` and `stats slabs`", "its slab classes"),
    "slab_chunk_max": ("KILOBYTES", "largest of these size classes", "largest slab chunk"),
    "no_chunked_items": ("", "`slab_chunk_max=1024`", "the same"),
    "tail_repair_time": ("SECONDS", NONE, "when to drop an item that seems stuck"),
    "lru_maintainer": ("", NONE, "segmented LRU with a thread of its own"),
    "no_lru_maintainer": ("", "leave the lines about its segments out of `stats`", "the older LRU"),
    "hot_lru_pct": ("1..79", NONE, "share of the hot segment"),
    "warm_lru_pct": ("1..79", NONE, "share of the warm segment"),
    "hot_max_factor": ("NUM", NONE, "maximum age of items in the hot segment, relative to the cold one"),
    "warm_max_factor": ("NUM", NONE, "maximum age of items in the warm segment, relative to the cold one"),
    "temporary_ttl": ("SECONDS", NONE, "items that expire sooner are never evicted"),
    "watcher_logbuf_size": ("KILOBYTES", "buffer of each `watch` connection; lines that do not fit are dropped", SAME),
    "worker_logbuf_size": ("KILOBYTES", NONE, "buffer of each worker for `watch`"),
    "read_buf_mem_limit": ("MEGABYTES", NONE, "limit of all read buffers"),
    "resp_obj_mem_limit": ("MEGABYTES", NONE, "limit of all response objects"),
    "inline_ascii_resp": ("", NONE, "no effect any more"),
    "no_inline_ascii_resp": ("", NONE, "no effect any more"),
    "drop_privileges": ("", NONE, "restrict the system calls of the process"),
    "no_drop_privileges": ("", NONE, "do not restrict system calls"),
    "relaxed_privileges": ("", NONE, "restrict fewer system calls"),
}
"""For each sub-option of -o: its argument, what it does here, what it does in memcached."""

FIELDS = {
    "hashpower": "hashpower_init",
    "lru_crawler_sleep": "crawler_sleep_us",
    "lru_crawler_tocrawl": "crawler_tocrawl",
}
"""Sub-options whose field has another name."""
UNITS = {"watcher_logbuf_size": KIB, "worker_logbuf_size": KIB, "slab_chunk_max": KIB, "ssl_wbuf_size": KIB,
         "read_buf_mem_limit": MIB}  # fmt: skip

HEAD = f"""# Settings

{MADE}

A setting can come from the command line, an environment variable or a file. A flag wins over a variable, a
variable over the file, the file over the default. If a setting is invalid, the server prints one line that names it and
exits with status 2, or with 64 if memcached does.

`--config FILE` or the variable `{VARIABLE_PREFIX}CONFIG` names the file. In TOML, its keys are the long flags
without the leading dashes:

```toml
listen = ["10.0.0.5", "127.0.0.1"]
memory-limit = 1024
disable-cas = true
journal = "/var/lib/memcache_kv"
```

A switch takes no value on the command line; in a variable or the file it is `true` or `false` (also `1`, `0`, `yes`,
`no`, `on`, `off`). Several values for one setting are separated by commas. On the command line the flag can also be
repeated, and the file can also have a list.

The file may also be in the format of `/etc/memcached.conf`, which Debian's memcached reads: a flag a line, comments
after `#`. The content decides: the first line that is neither empty nor a comment begins with `-` there (or is
`logfile PATH`). `-d`, `-h`, `logfile` and `-P` have no effect in such a file, as in Debian's service; another line that
is no flag is ignored with a warning.

The last column says what memcached 1.6.45 does with the same flag.

"""
OTHERS = f"""
## Variables and flags that are not settings

| name | meaning |
|---|---|
| `--config FILE` | read settings from this file: TOML, or flags as in `/etc/memcached.conf` |
| `{VARIABLE_PREFIX}CONFIG` | the same |
| `-h`, `--help` | print the flags and exit |
| `--memory-plan` | print how much memory a server with these settings may take, part by part, and exit |
| `-V`, `--version` | print the versions, and whether compiled modules are in use, and exit |
| `{PURE_VARIABLE}=1` | use no compiled modules; when it is set for an installation, compile none |
| `{PORT_FILE_VARIABLE}` | memcached's variable: write the ports that the server listens on to this file |
| `{SASL_FILE_VARIABLE}` | memcached's variable: the users file for `-S`, if `-Y` names none |

The server does not start if a variable begins with `{VARIABLE_PREFIX}` and is not a setting.

## Sub-options of `-o`

Give them as `-o NAME=VALUE,NAME`. memcached's options for slabs, LRU segments and the hash table are accepted, so that
existing command lines work, but they have no effect.

"""
STATUSES = """
## Exit statuses of the server

| status | meaning |
|---|---|
| 0 | stopped by SIGTERM, SIGINT, SIGUSR1 or the command `shutdown` |
| 1 | another failure: the journal is damaged or could not be written, the users file can't be read |
| 2 | an invalid flag, variable or settings file |
| 64 | an invalid flag, variable or settings file, if memcached exits with 64 |
| 67 | the user to switch to does not exist |
| 71 | the system does not allow something: an address is in use, the pid file can't be written, a limit is too low |

The tools for journals have [their own](journal_tools.md).
"""


def settings_page() -> str:
    """Make the page."""
    check_described([option.name for option in OPTIONS], MEMCACHED, "settings")
    check_described(SUBOPTIONS, SUBOPTION_ROWS, "sub-options")
    settings = table(("flag", "variable", "TOML key", "default", "meaning", "memcached"), map(_row, OPTIONS))
    rows = ((f"`{name}{'=' * bool(argument)}{argument}`", _suboption_default(name), meaning, memcached)
            for name, (argument, meaning, memcached) in SUBOPTION_ROWS.items())  # fmt: skip
    return HEAD + settings + OTHERS + table(("sub-option", "default", "meaning", "memcached"), rows) + STATUSES


def stated_default(option: Option) -> str:
    """What the help says the default is; empty where it says nothing."""
    found = re.search(r"\(default: (.*?)\)", option.help)
    return found[1] if found else ""


def _row(option: Option) -> tuple[str, ...]:
    names = [f"`-{option.short}`"] * bool(option.short) + [f"`--{option.name}`"]
    if option.metavar:
        names[-1] = f"`--{option.name} {option.metavar}`"
    default = stated_default(option) or ("off" if option.is_switch else "none")
    meaning = re.sub(r" \(default: .*?\)", "", option.help)
    return ", ".join(names), f"`{option.variable}`", f"`{option.name}`", default, meaning, MEMCACHED[option.name]


def _suboption_default(name: str) -> str:
    """Look up what holds where a sub-option is not given; a dash for what only turns something on or off."""
    if not SUBOPTION_ROWS[name][0]:
        return "-"
    field = FIELDS.get(name, name)
    for group in (Settings(), Unused(), TlsOptions()):
        if field in group._fields:
            value = getattr(group, field)
            return "none" if value in (None, "") else f"{value // UNITS[name] if name in UNITS else value}"
    return "none"
