"""How a worker gets the compiled turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from memcache_kv.protocol.binary.framing import BinaryProtocol
from memcache_kv.protocol.session import Session
from memcache_kv.protocol.text.framing import TextProtocol
from memcache_kv.server.connection import READING, WAITING_FOR_JOURNAL, Connection
from memcache_kv.threads import ServerThread

if TYPE_CHECKING:
    from memcache_kv.compiled.turn import Held, Requests
    from memcache_kv.protocol import Context
    from memcache_kv.server.connection_table import ConnectionTable
    from memcache_kv.server.poller import Poller


def compiled_turn(
    worker: ServerThread, context: Context, requests: Requests, table: ConnectionTable, poller: Poller
) -> tuple[Held, Callable[[float], int]]:
    """Return what keeps a worker's replies until the journal has their writes, and a compiled `serve_ready`.

    worker: does what the compiled turn leaves to it; the others are its own.
    """
    from memcache_kv.compiled.turn import Held, Turn

    latency = context.latency
    held = Held(context.journal, worker, table, Connection, Session, READING, WAITING_FOR_JOURNAL, latency)
    classes = Connection, TextProtocol, BinaryProtocol, _line_class(context)
    return held, Turn(requests, table.by_fd, poller, worker, *classes, READING, held, latency).serve_ready


def _line_class(context: Context) -> type[Session] | None:
    """Return the class of a connection that speaks the line protocol; None where no listener has any."""
    if not context.settings.line_listen:
        return None
    from memcache_kv.protocol.line.framing import LineProtocol

    return LineProtocol
