"""Commands about the server, not a key: statistics, flush, limits, time and shutdown.

Each function carries out one command, given its words. Errors are checked in memcached 1.6.45's order, and have its
texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcache_kv.commands.flush import flush
from memcache_kv.config.memcached_options import MIB
from memcache_kv.errors import ConfigError
from memcache_kv.protocol.numbers import signed32, unsigned32
from memcache_kv.protocol.replies import BAD_EXPTIME, BAD_FORMAT, MAX_VERBOSITY
from memcache_kv.protocol.text.discovery import config
from memcache_kv.protocol.text.lru_crawler import CLASSES, lru_crawler
from memcache_kv.stats import report, settings_report
from memcache_kv.store import listing

if TYPE_CHECKING:
    from memcache_kv.protocol.context import Context
    from memcache_kv.protocol.text.responder import Handler, TextResponder

LONGEST_FRACTION = 31


# Statistics


def stats(protocol: TextResponder, words: list[bytes]) -> None:
    """stats [<what>]; most words may be shortened to a prefix, as in memcached."""
    context = protocol.context
    what = words[1] if len(words) > 1 else b""
    if not what:
        _send_report(protocol, report.general(context))
    elif b"reset".startswith(what):
        report.reset(context)
        protocol.reply(b"RESET")
    elif b"detail".startswith(what):
        _detail(protocol, words[2] if len(words) > 2 else b"?")
    elif b"settings".startswith(what):
        _send_report(protocol, settings_report.settings(context))
    elif b"cachedump".startswith(what):
        _cachedump(protocol, words)
    elif b"conns".startswith(what):
        protocol.answer_chunks(report.in_text(report.connections(context, protocol.fd)))
    elif b"extstore".startswith(what):
        _send_report(protocol, iter(()))  # no value is on flash
    elif what == report.OWN:
        _send_report(protocol, report.own(context))
    elif what in report.WALKS:
        protocol.answer_chunks(report.in_text(report.WALKS[what](context)))
    else:
        protocol.reply(b"ERROR")


def _send_report(protocol: TextResponder, lines: report.Report) -> None:
    protocol.out.extend(report.in_text([list(lines)]))


def _detail(protocol: TextResponder, what: bytes) -> None:
    """stats detail on|off|dump"""
    context = protocol.context
    if context.settings.disable_dumping:
        protocol.reply(b"CLIENT_ERROR stats detail not allowed")
    elif b"on".startswith(what):
        context.observers.count_prefixes(True)
        protocol.reply(b"OK")
    elif b"off".startswith(what):
        context.observers.count_prefixes(False)
        protocol.reply(b"OK")
    elif b"dump".startswith(what):
        protocol.answer_chunks(context.observers.prefixes.dump())
    else:
        protocol.reply(b"CLIENT_ERROR usage: stats detail on|off|dump")


def _cachedump(protocol: TextResponder, words: list[bytes]) -> None:
    """stats cachedump <class> <most>"""
    if protocol.context.settings.disable_dumping:
        protocol.reply(b"CLIENT_ERROR stats cachedump not allowed")
        return
    if len(words) < 4:
        protocol.reply(b"CLIENT_ERROR bad command line")
        return
    number, most = unsigned32(words[2]), unsigned32(words[3])
    if number is None or most is None:
        protocol.reply(BAD_FORMAT)
    elif number >= CLASSES.stop:
        protocol.reply(b"CLIENT_ERROR Illegal slab id")
    else:
        protocol.answer_chunks(listing.cachedump(protocol.store, most, {number}))


# Items and memory


def flush_all(protocol: TextResponder, words: list[bytes]) -> None:
    """flush_all [<exptime>] [noreply]"""
    protocol.counters.cmd_flush += 1
    if protocol.context.settings.disable_flush_all:
        protocol.reply(b"CLIENT_ERROR flush_all not allowed")
        return
    exptime = 0
    if len(words) != (2 if protocol.noreply else 1):
        given = signed32(words[1])
        if given is None:
            protocol.reply(BAD_EXPTIME)
            return
        exptime = given
    flush(protocol.store, exptime)
    protocol.reply(b"OK")


def cache_memlimit(protocol: TextResponder, words: list[bytes]) -> None:
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
        if protocol.context.journal is not None:
            protocol.context.journal.widen_room(megabytes * MIB)
        protocol.context.log.event(f"maxbytes adjusted to {megabytes}m")
        protocol.reply(b"OK")


def lru(protocol: TextResponder, words: list[bytes]) -> None:
    """lru tune|mode|temp_ttl <argument>*: checked, but without effect, as there are no LRU segments here."""
    what = words[1] if len(words) > 1 else b"?"
    if b"tune".startswith(what) and len(words) >= 6:
        protocol.reply(_judge_tuning(*words[2:6]))
    elif b"mode".startswith(what) and len(words) >= 3:
        known = b"flat".startswith(words[2]) or b"segmented".startswith(words[2])
        protocol.reply(b"OK" if known else b"ERROR")
    elif b"temp_ttl".startswith(what) and len(words) >= 3:
        protocol.reply(b"ERROR" if signed32(words[2]) is None else b"OK")
    else:
        protocol.reply(b"ERROR")


def _judge_tuning(hot: bytes, warm: bytes, hot_factor: bytes, warm_factor: bytes) -> bytes:
    percents = [number for word in (hot, warm) if (number := unsigned32(word)) is not None]
    factors = [factor for word in (hot_factor, warm_factor) if (factor := _fraction(word)) is not None]
    if len(percents) + len(factors) < 4:
        return b"ERROR"
    if sum(percents) > 80:
        return b"ERROR hot and warm pcts must not exceed 80"
    if min(factors) <= 0:
        return b"ERROR hot/warm age factors must be greater than 0"
    return b"OK"


def _fraction(word: bytes) -> float | None:
    """Parse a decimal fraction; None for an invalid one."""
    try:
        return float(word) if len(word) <= LONGEST_FRACTION and b"_" not in word else None
    except ValueError:
        return None


def slabs(protocol: TextResponder, words: list[bytes]) -> None:
    """slabs reassign <from> <to>, slabs automove <what>: checked, but without effect, as there are no slab pages."""
    what = words[1] if len(words) > 1 else b"?"
    if b"reassign".startswith(what) and len(words) == 4:
        _reassign(protocol, signed32(words[2]), signed32(words[3]))
    elif b"automove".startswith(what) and len(words) >= 3:
        protocol.reply(_judge_automove(words[2], words[3] if len(words) > 3 else b""))
    else:
        protocol.reply(b"ERROR")


def _reassign(protocol: TextResponder, source: int | None, target: int | None) -> None:
    pools = range(CLASSES.stop)
    if not protocol.context.settings.extended.slab_reassign:
        protocol.reply(b"CLIENT_ERROR slab reassignment disabled")
    elif source is None or target is None:
        protocol.reply(BAD_FORMAT)
    elif source == target:
        protocol.reply(b"SAME src and dst class are identical")
    elif source not in pools or target not in pools:
        protocol.reply(b"BADCLASS invalid src or dst class id")
    else:
        protocol.reply(b"NOSPARE source class has no spare pages")


def _judge_automove(what: bytes, argument: bytes) -> bytes:
    if b"ratio".startswith(what) or b"freeratio".startswith(what):
        return b"ERROR" if _fraction(argument) is None else b"OK"
    if b"window".startswith(what):
        window = unsigned32(argument)
        if window is None:
            return BAD_FORMAT
        return b"OK" if 3 <= window <= 1800 else b"CLIENT_ERROR automove window too low or too high"
    level = unsigned32(what)
    if level is None:
        return BAD_FORMAT
    return b"OK" if level <= 2 else b"ERROR"


# The server


def verbosity(protocol: TextResponder, words: list[bytes]) -> None:
    """verbosity <level> [noreply]"""
    level = unsigned32(words[1]) if len(words) > 1 else None
    if level is None:
        protocol.reply(BAD_FORMAT)
        return
    protocol.context.observers.set_verbosity(min(level, MAX_VERBOSITY))
    protocol.reply(b"OK")


def debugtime(protocol: TextResponder, words: list[bytes]) -> None:
    """debugtime p|r|<seconds>: pause the clock, resume it, or move it by some seconds; for tests of expiry.

    Only available with --debug-commands. Rejected where flush_all is disabled, as it could expire all items, and with a
    journal, as the expiry times in it would be wrong after a restart.
    """
    context = protocol.context
    what = words[1] if len(words) > 1 else b"?"
    seconds = signed32(what)
    if context.settings.disable_flush_all or context.journal is not None:
        protocol.reply(b"SERVER_ERROR debugtime not allowed")
    elif what == b"p":
        context.clock.pause()
        protocol.reply(b"OK")
    elif what == b"r":
        context.clock.resume()
        protocol.reply(b"OK")
    elif seconds is not None:
        context.clock.shift(seconds)
        context.store.new_second()
        protocol.reply(b"OK")
    else:
        protocol.reply(b"ERROR")


def shutdown(protocol: TextResponder, words: list[bytes]) -> None:
    """shutdown [graceful]: stop the server as SIGTERM does, or gracefully as SIGUSR1 does."""
    if not protocol.context.settings.enable_shutdown:
        protocol.reply(b"SERVER_ERROR: shutdown not enabled")
    elif len(words) == 1 or (len(words) == 2 and b"graceful".startswith(words[1])):
        protocol.closing = True
        protocol.close_reason = "shutdown"
        protocol.context.stop(len(words) == 2)
    else:
        protocol.reply(b"CLIENT_ERROR invalid shutdown mode")


def refresh_certs(protocol: TextResponder, words: list[bytes]) -> None:
    """refresh_certs: read the certificates again, for new connections."""
    tls = protocol.context.tls
    if tls is None:
        protocol.reply(b"Error TLS not enabled")
        return
    try:
        tls.reload()
    except ConfigError as error:
        protocol.reply(str(error).encode("utf-8", "surrogateescape"))
    else:
        protocol.reply(b"OK")


def journal(protocol: TextResponder, words: list[bytes]) -> None:
    """journal compact: rewrite the journal now, in the background. memcached has no such command."""
    compactor = protocol.context.compactor
    if words[1:] != [b"compact"]:
        protocol.reply(b"ERROR")
    elif compactor is None:
        protocol.reply(b"CLIENT_ERROR there is no journal")
    else:
        protocol.reply(b"OK" if compactor.request() else b"BUSY currently rewriting the journal")


ADMIN_COMMANDS: dict[bytes, Handler] = {
    b"journal": journal,
    b"config": config,
    b"refresh_certs": refresh_certs,
    b"lru_crawler": lru_crawler,
    b"lru": lru,
    b"slabs": slabs,
    b"debugtime": debugtime,
    b"flush_all": flush_all,
    b"verbosity": verbosity,
    b"cache_memlimit": cache_memlimit,
    b"shutdown": shutdown,
}
"""Commands that may have spaces before them and noreply after them, as in memcached."""
DEBUG_COMMANDS = frozenset((b"debugtime",))


def command(name: bytes, context: Context) -> Handler | None:
    """Return the handler of the command `name`, or None if this server has no such command."""
    if name in DEBUG_COMMANDS and not context.settings.debug_commands:
        return None
    if name == b"config" and context.cluster is None:
        return None
    return ADMIN_COMMANDS.get(name)
