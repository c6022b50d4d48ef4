"""Which commands change a server beyond its items."""

from __future__ import annotations

from memcache_kv.traffic.wire import UNKNOWN_NAME, WireRequest

LASTING_COMMANDS = frozenset(
    ("cache_memlimit", "config", "debugtime", "lru", "shutdown", "slabs", "verbosity", UNKNOWN_NAME)
)
"""Commands whose effect an empty server still has; and what is no command that we know."""
READING_CRAWLS = (b"metadump", b"mgdump", b"crawl")


def lasts(request: WireRequest) -> bool:
    """Tell whether a request may have changed more than items and counters."""
    words = request.data.split(b"\r\n", 1)[0].split()
    if request.command == "lru_crawler":
        return len(words) < 2 or words[1] not in READING_CRAWLS
    if request.command == "stats":
        return len(words) > 2 and b"detail".startswith(words[1])
    return request.command in LASTING_COMMANDS and bool(request.data)
