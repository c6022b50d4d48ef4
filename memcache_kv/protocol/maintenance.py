"""Commands about the server, not a key: statistics, flushing, limits, the end.

Each function carries out one command whose words are split; the errors and the order in which they are looked for are
memcached 1.6.45's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from memcache_kv.protocol import report
from memcache_kv.protocol.numbers import signed32, unsigned32
from memcache_kv.protocol.replies import BAD_EXPTIME, BAD_FORMAT
from memcache_kv.store.store import MIB

if TYPE_CHECKING:
    from memcache_kv.protocol.text import TextProtocol

MAX_VERBOSITY = 5

Handler = Callable[["TextProtocol", list[bytes]], None]


def stats(protocol: TextProtocol, words: list[bytes]) -> None:
    """stats [<what>]; of most words the beginning is enough, as in memcached."""
    what = words[1] if len(words) > 1 else b""
    if not what:
        _send_report(protocol, report.general(protocol.context))
    elif b"reset".startswith(what):
        report.reset(protocol.context)
        protocol.reply(b"RESET")
    elif b"settings".startswith(what):
        _send_report(protocol, report.settings(protocol.context))
    elif b"conns".startswith(what):
        _send_report(protocol, report.connections(protocol.context))
    elif what in report.BY_NAME:
        _send_report(protocol, report.BY_NAME[what](protocol.context))
    else:
        protocol.reply(b"ERROR")


def _send_report(protocol: TextProtocol, lines: report.Report) -> None:
    text = "".join(f"STAT {name} {value}\r\n" for name, value in lines)
    protocol.out.append(text.encode("utf-8", "surrogateescape") + b"END\r\n")  # a path may be no text


def flush_all(protocol: TextProtocol, words: list[bytes]) -> None:
    """flush_all [<exptime>] [noreply]"""
    protocol.counters.cmd_flush += 1
    exptime = 0
    if len(words) != (2 if protocol.noreply else 1):
        given = signed32(words[1])
        if given is None:
            protocol.reply(BAD_EXPTIME)
            return
        exptime = given
    # A delayed flush takes effect as its last second begins (memcached: realtime(exptime) - 1).
    protocol.store.flush(protocol.store.deadline(exptime) - 1 if exptime > 0 else 0)
    protocol.reply(b"OK")


def verbosity(protocol: TextProtocol, words: list[bytes]) -> None:
    """verbosity <level> [noreply]"""
    level = unsigned32(words[1]) if len(words) > 1 else None
    if level is None:
        protocol.reply(BAD_FORMAT)
        return
    protocol.context.observation.set_verbosity(min(level, MAX_VERBOSITY))
    protocol.reply(b"OK")


def cache_memlimit(protocol: TextProtocol, words: list[bytes]) -> None:
    """cache_memlimit <megabytes> [noreply]"""
    megabytes = unsigned32(words[1]) if len(words) > 1 else None
    if megabytes is None:
        protocol.reply(b"ERROR")
    elif megabytes < 8:
        protocol.reply(b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m")
    elif megabytes > 1000000000:
        protocol.reply(b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes")
    else:
        protocol.store.set_limit(megabytes * MIB)
        protocol.context.log.event(f"maxbytes adjusted to {megabytes}m")
        protocol.reply(b"OK")


def shutdown(protocol: TextProtocol, words: list[bytes]) -> None:
    """shutdown [graceful]; both end as SIGTERM does."""
    if not protocol.context.settings.enable_shutdown:
        protocol.reply(b"SERVER_ERROR: shutdown not enabled")
    elif len(words) == 1 or (len(words) == 2 and b"graceful".startswith(words[1])):
        protocol.closing = True
        protocol.context.stop()
    else:
        protocol.reply(b"CLIENT_ERROR invalid shutdown mode")


COMMANDS: dict[bytes, Handler] = {
    b"flush_all": flush_all,
    b"verbosity": verbosity,
    b"cache_memlimit": cache_memlimit,
    b"shutdown": shutdown,
}
"""Commands that memcached knows with spaces before them, and with noreply behind them."""
