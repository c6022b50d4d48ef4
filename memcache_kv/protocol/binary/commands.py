"""The commands of the binary protocol. Each function takes the connection's protocol and a valid request.

The valid lengths, statuses and error texts are those of memcached 1.6.45.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from memcache_kv.commands import arithmetic
from memcache_kv.commands.arithmetic import Arithmetic
from memcache_kv.commands.delete import Deletion, delete
from memcache_kv.commands.discovery import CONFIGURATION_NAME
from memcache_kv.commands.flush import flush
from memcache_kv.commands.retrieve import get_with_cas
from memcache_kv.commands.store_value import SizeRule, accepts_size, store_value
from memcache_kv.commands.touch import get_and_touch
from memcache_kv.config.cluster import CONFIGURATION_LIMIT_BYTES
from memcache_kv.errors import ConfigError
from memcache_kv.observe.prefixes import Prefixes
from memcache_kv.protocol.binary.frames import Opcode, Request, Status, packet
from memcache_kv.protocol.binary.sasl import (
    MECHANISM,
    MECHANISM_LIMIT_BYTES,
    MESSAGE_LIMIT_BYTES,
    LoginProgress,
    SaslLogin,
)
from memcache_kv.protocol.replies import MAX_VERBOSITY
from memcache_kv.stats import report, settings_report
from memcache_kv.store.entry import Entry, cas_of, value_of
from memcache_kv.store.sizes import FLAGS_BYTES
from memcache_kv.store.writes import Mode, Outcome, Write
from memcache_kv.version import PROTOCOL_VERSION

if TYPE_CHECKING:
    from memcache_kv.protocol.binary.responder import PacketHandler, PacketResponder, ServerPacketResponder

STORING = Struct("!II")
"""The extras of set: flags and exptime."""
COUNTING = Struct("!QQI")
"""The extras of increment: delta, initial value and exptime."""
EXPTIME = Struct("!I")
NUMBER = Struct("!Q")
MAKES_NONE = 0xFFFFFFFF
"""The exptime with which increment and decrement do not create a missing item."""


class Command(NamedTuple):
    """A command's handler, and the lengths of a valid request.

    extras: the valid lengths of the extras, any length if empty; is_keyed: whether a key must be present (True) or
    absent (False), None allows both; is_exact: whether a value is forbidden; is_quiet: whether success gets no reply.
    """

    carry_out: PacketHandler
    extras: tuple[int, ...] = (0,)
    is_keyed: bool | None = True
    is_exact: bool = True
    is_quiet: bool = False

    def fits(self, key_bytes: int, extras_bytes: int, value_bytes: int) -> bool:
        """Return whether these lengths are valid for the command."""
        if self.extras and extras_bytes not in self.extras:
            return False
        if self.is_keyed is not None and self.is_keyed != bool(key_bytes):
            return False
        return not (self.is_exact and value_bytes)


# Retrieval


def _get(protocol: PacketResponder, request: Request, with_key: bool = False) -> None:
    _answer_retrieval(protocol, request, get_with_cas(protocol, request.key), with_key)


def _touch(protocol: PacketResponder, request: Request, with_key: bool = False, with_value: bool = True) -> None:
    (exptime,) = EXPTIME.unpack(request.extras)
    entry = get_and_touch(protocol, request.key, protocol.store.deadline(exptime))
    _answer_retrieval(protocol, request, entry, with_key, with_value)


def _answer_retrieval(
    protocol: PacketResponder, request: Request, entry: Entry | None, with_key: bool, with_value: bool = True
) -> None:
    key = request.key if with_key else b""
    if entry is not None:
        protocol.answer_hit(request, entry, key, with_value)
    elif OPCODE_COMMANDS[request.opcode].is_quiet:
        return
    elif with_key:
        protocol.out.append(packet(request, Status.NOT_FOUND, key=key))
    else:
        protocol.fail(request, Status.NOT_FOUND)


# Storage


def _set(protocol: PacketResponder, request: Request, mode: Mode) -> None:
    """set, add and replace; with a CAS id, all three store only if the item has that CAS id."""
    flags, exptime = STORING.unpack(request.extras)
    _take_value(protocol, request, mode, flags, protocol.store.deadline(exptime))


def _join(protocol: PacketResponder, request: Request, mode: Mode) -> None:
    """append and prepend"""
    _take_value(protocol, request, mode, 0, 0)


def _take_value(protocol: PacketResponder, request: Request, mode: Mode, flags: int, deadline: int) -> None:
    """Read the value next and store it, or reject it if it is too large."""
    if accepts_size(protocol, mode, request.key, request.value_bytes, flags, BINARY_SIZE_RULE):
        protocol.expect_block(flags, request.value_bytes, partial(_store_block, protocol, request, mode, deadline))
    else:
        _refuse_value(protocol, request, Status.TOO_LARGE)


def _refuse_value(protocol: PacketResponder, request: Request, status: Status) -> None:
    protocol.fail(request, status)
    protocol.swallow(request.value_bytes)


def _store_block(protocol: PacketResponder, request: Request, mode: Mode, deadline: int, wire_bytes: bytes) -> None:
    cas = request.cas if protocol.store.gives_cas else 0
    asked = Mode.CAS if cas and not mode.joins else mode
    outcome, entry = store_value(protocol, Write(asked, request.key, wire_bytes, deadline, cas, needs_cas=True))
    if outcome is Outcome.STORED and entry is not None:
        protocol.succeed(request, cas=cas_of(entry))
    elif outcome is Outcome.NO_MEMORY:
        protocol.fail(request, Status.NO_MEMORY, b"Out of memory allocating item")
    elif outcome is Outcome.NOT_STORED:
        protocol.fail(request, NOT_STORED.get(mode, Status.NOT_STORED))
    else:
        protocol.fail(request, STATUSES[outcome])


STATUSES = {
    Outcome.NOT_FOUND: Status.NOT_FOUND,
    Outcome.EXISTS: Status.EXISTS,
    Outcome.NOT_STORED: Status.NOT_STORED,
    Outcome.NON_NUMERIC: Status.NON_NUMERIC,
}

NOT_STORED = {Mode.ADD: Status.EXISTS, Mode.REPLACE: Status.NOT_FOUND}
"""The status of a failed add or replace; other modes have Status.NOT_STORED."""
BINARY_SIZE_RULE = SizeRule(counts=False, reports_joins=False)


# Changes to existing items


def _delete(protocol: PacketResponder, request: Request) -> None:
    """delete; with a CAS id, delete the item only if it has that CAS id."""
    outcome = delete(protocol, Deletion(request.key, request.cas or None))
    if outcome is Outcome.DELETED:
        protocol.succeed(request)
    else:
        protocol.fail(request, STATUSES[outcome])


def _count(protocol: PacketResponder, request: Request, is_up: bool) -> None:
    """increment and decrement"""
    delta, initial, exptime = COUNTING.unpack(request.extras)
    counted = arithmetic.count(
        protocol,
        Arithmetic(
            request.key,
            delta,
            is_up,
            request.cas,
            needs_cas=True,
            initial=None if exptime == MAKES_NONE else initial,
            initial_deadline=protocol.store.deadline(exptime),
        ),
    )
    if counted.outcome is Outcome.STORED:
        protocol.succeed(request, NUMBER.pack(counted.number), counted.cas)
    elif counted.outcome is Outcome.NO_MEMORY:
        protocol.fail(request, Status.NO_MEMORY, b"Out of memory allocating new item")
    else:
        protocol.fail(request, STATUSES[counted.outcome])


def _flush(protocol: ServerPacketResponder, request: Request) -> None:
    """flush, now or at a time"""
    if protocol.context.settings.disable_flush_all:
        protocol.fail(request, Status.AUTH_ERROR)
        return
    flush(protocol.store, int.from_bytes(request.extras, "big"))
    protocol.counters.cmd_flush += 1
    protocol.succeed(request)


# The server


def _noop(protocol: PacketResponder, request: Request) -> None:
    protocol.succeed(request)


def _version(protocol: PacketResponder, request: Request) -> None:
    protocol.succeed(request, PROTOCOL_VERSION.encode())


def _quit(protocol: PacketResponder, request: Request) -> None:
    protocol.succeed(request)
    protocol.close_reason = "normal"
    protocol.closing = True


def _verbosity(protocol: PacketResponder, request: Request) -> None:
    level = int.from_bytes(request.extras, "big")
    protocol.observers.set_verbosity(min(level, MAX_VERBOSITY))
    protocol.succeed(request)


def _not_allowed(protocol: PacketResponder, request: Request) -> None:
    protocol.fail(request, Status.AUTH_ERROR, b"Not allowed.")
    protocol.swallow(request.value_bytes)


def _unknown(protocol: PacketResponder, request: Request) -> None:
    _refuse_value(protocol, request, Status.UNKNOWN_COMMAND)


# Statistics


def _stat(protocol: ServerPacketResponder, request: Request) -> None:
    """stat [<what>]: one packet per row, and an empty one at the end. Some words may be longer, as in memcached."""
    context, what = protocol.context, request.key
    if not what:
        _send_report(protocol, request, report.general(context))
    elif what.startswith(b"reset"):
        report.reset(context)
        _send_report(protocol, request, iter(()))
    elif what.startswith(b"settings"):
        _send_report(protocol, request, settings_report.settings(context))
    elif what.startswith(b"detail"):
        _detail(protocol, request, what.removeprefix(b"detail"))
    elif what == report.OWN:
        _send_report(protocol, request, report.own(context))
    elif what in report.WALKS:
        protocol.answer_chunks(_in_packets(request, report.WALKS[what](context)))
    else:
        protocol.fail(request, Status.NOT_FOUND)


def _send_report(protocol: PacketResponder, request: Request, rows: report.Report) -> None:
    protocol.out.extend(_in_packets(request, [list(rows)]))


def _in_packets(request: Request, walk: Iterable[list[report.Row]]) -> Iterator[bytes]:
    """Yield the pieces of a reply: the packets of each step of a walk, then an empty one."""
    for rows in walk:
        yield b"".join([_row(request, name, value) for name, value in rows])
    yield packet(request)


def _row(request: Request, name: str, value: object) -> bytes:
    return packet(
        request, key=name.encode(), value=str(value).encode("utf-8", "surrogateescape")
    )  # a path may be no text


def _detail(protocol: ServerPacketResponder, request: Request, what: bytes) -> None:
    """stat detail on|off|dump"""
    observers = protocol.observers
    if protocol.context.settings.disable_dumping:
        protocol.fail(request, Status.NOT_FOUND)
    elif what.startswith(b" dump"):
        protocol.answer_chunks(_detail_dump(request, observers.prefixes))
    elif what.startswith((b" on", b" off")):
        observers.count_prefixes(what.startswith(b" on"))
        protocol.out.append(packet(request))
    else:
        protocol.fail(request, Status.NOT_FOUND)


def _detail_dump(request: Request, prefixes: Prefixes) -> Iterator[bytes]:
    """Yield the packets of `stat detail dump`; b"" until the first, which begins with its length, is complete."""
    pieces = []
    for piece in prefixes.dump():
        pieces.append(piece)
        yield b""
    yield packet(request, key=b"detailed", value=b"".join(pieces))
    yield packet(request)


# Discovery


def _config_get(protocol: ServerPacketResponder, request: Request) -> None:
    """config get: the flags and the text of the configuration, as the reply to get has them of an item"""
    cluster = protocol.context.cluster
    if cluster is None or cluster.present is None or request.key != CONFIGURATION_NAME:
        protocol.fail(request, Status.NOT_FOUND)
    else:
        protocol.answer_hit(request, cluster.present, b"", with_value=True)


def _config_set(protocol: ServerPacketResponder, request: Request) -> None:
    """config set; the extras are the flags, flags and an exptime, which is ignored, or nothing"""
    if request.key != CONFIGURATION_NAME:
        _refuse_value(protocol, request, Status.INVALID)
    elif request.value_bytes > CONFIGURATION_LIMIT_BYTES:
        _refuse_value(protocol, request, Status.TOO_LARGE)
    else:
        protocol.expect_block(0, request.value_bytes, partial(_store_configuration, protocol, request))


def _store_configuration(protocol: ServerPacketResponder, request: Request, wire_bytes: bytes) -> None:
    cluster = protocol.context.cluster
    assert cluster is not None
    try:
        cluster.set(int.from_bytes(request.extras[:FLAGS_BYTES], "big"), wire_bytes)
    except ConfigError as error:
        protocol.fail(request, Status.INVALID, str(error).encode())
        return
    protocol.context.log.say(f"a client set the cluster's version {cluster.version}, with {len(cluster.nodes)} nodes")
    protocol.succeed(request)


def _config_delete(protocol: ServerPacketResponder, request: Request) -> None:
    cluster = protocol.context.cluster
    if cluster is not None and request.key == CONFIGURATION_NAME and cluster.delete():
        protocol.context.log.say("a client deleted the cluster's configuration")
        protocol.succeed(request)
    else:
        protocol.fail(request, Status.NOT_FOUND)


# The login


def _list_mechanisms(protocol: ServerPacketResponder, request: Request) -> None:
    if protocol.login is None:
        protocol.fail(request, Status.UNKNOWN_COMMAND)
    else:
        protocol.login.forget()
        protocol.succeed(request, MECHANISM)


def _authenticate(protocol: ServerPacketResponder, request: Request) -> None:
    """sasl auth and step: the key is the mechanism's name, the value its message."""
    if protocol.login is None:
        _refuse_value(protocol, request, Status.UNKNOWN_COMMAND)
    elif len(request.key) > MECHANISM_LIMIT_BYTES:
        _refuse_value(protocol, request, Status.INVALID)
    elif request.value_bytes > MESSAGE_LIMIT_BYTES:
        _refuse_value(protocol, request, Status.NO_MEMORY)
    else:
        protocol.expect_block(0, request.value_bytes, partial(_log_in, protocol, request, protocol.login))


def _log_in(protocol: ServerPacketResponder, request: Request, login: SaslLogin, wire_bytes: bytes) -> None:
    message = value_of(wire_bytes)
    is_start = request.opcode == Opcode.SASL_AUTH
    progress = login.start(request.key, message) if is_start else login.step(message)
    if progress is LoginProgress.CONTINUES:
        protocol.answer(request, Status.AUTH_CONTINUE, b"")
    elif progress is LoginProgress.IS_CHECKED:
        protocol.go_on_later(partial(_conclude_login, protocol, request, login))
    else:
        _answer_login(protocol, request, login, progress)


def _conclude_login(protocol: ServerPacketResponder, request: Request, login: SaslLogin) -> None:
    _answer_login(protocol, request, login, login.conclude())


def _answer_login(protocol: ServerPacketResponder, request: Request, login: SaslLogin, progress: LoginProgress) -> None:
    protocol.counters.auth_cmds += 1
    protocol.audit_login(login.name, login.users, login.succeeded)
    if progress is LoginProgress.SUCCEEDED and login.name is not None:
        protocol.permit(user=login.name, user_class=login.users.class_of(login.name))
        protocol.succeed(request, b"Authenticated")
    else:
        protocol.counters.auth_errors += 1
        protocol.fail(request, Status.AUTH_ERROR)


# The table of commands


def _pair(loud: Opcode, quiet: Opcode, command: Command) -> dict[int, Command]:
    """Return the table's rows for a command and its quiet form."""
    return {loud: command, quiet: command._replace(is_quiet=True)}


def _stores(mode: Mode) -> Command:
    return Command(partial(_set, mode=mode), (STORING.size,), is_exact=False)


def _joins(mode: Mode) -> Command:
    return Command(partial(_join, mode=mode), is_exact=False)


TOUCHES = Command(_touch, (EXPTIME.size,), is_exact=False)

OPCODE_COMMANDS: dict[int, Command] = {
    **_pair(Opcode.GET, Opcode.GETQ, Command(_get)),
    **_pair(Opcode.GETK, Opcode.GETKQ, Command(partial(_get, with_key=True))),
    Opcode.TOUCH: TOUCHES._replace(carry_out=partial(_touch, with_value=False)),
    **_pair(Opcode.GAT, Opcode.GATQ, TOUCHES),
    **_pair(Opcode.GATK, Opcode.GATKQ, TOUCHES._replace(carry_out=partial(_touch, with_key=True))),
    **_pair(Opcode.SET, Opcode.SETQ, _stores(Mode.SET)),
    **_pair(Opcode.ADD, Opcode.ADDQ, _stores(Mode.ADD)),
    **_pair(Opcode.REPLACE, Opcode.REPLACEQ, _stores(Mode.REPLACE)),
    **_pair(Opcode.APPEND, Opcode.APPENDQ, _joins(Mode.APPEND)),
    **_pair(Opcode.PREPEND, Opcode.PREPENDQ, _joins(Mode.PREPEND)),
    **_pair(Opcode.DELETE, Opcode.DELETEQ, Command(_delete)),
    **_pair(Opcode.INCREMENT, Opcode.INCREMENTQ, Command(partial(_count, is_up=True), (COUNTING.size,))),
    **_pair(Opcode.DECREMENT, Opcode.DECREMENTQ, Command(partial(_count, is_up=False), (COUNTING.size,))),
    **_pair(Opcode.FLUSH, Opcode.FLUSHQ, Command(_flush, (0, EXPTIME.size), is_keyed=False)),
    **_pair(Opcode.QUIT, Opcode.QUITQ, Command(_quit, is_keyed=False)),
    Opcode.NOOP: Command(_noop, is_keyed=False),
    Opcode.VERSION: Command(_version, is_keyed=False),
    Opcode.STAT: Command(_stat, is_keyed=None, is_exact=False),
    Opcode.VERBOSITY: Command(_verbosity, (EXPTIME.size,), is_keyed=False),
    Opcode.CONFIG_GET: Command(_config_get),
    Opcode.CONFIG_SET: Command(_config_set, (0, FLAGS_BYTES, STORING.size), is_exact=False),
    Opcode.CONFIG_DELETE: Command(_config_delete),
    Opcode.SASL_LIST: Command(_list_mechanisms, is_keyed=False),
    Opcode.SASL_AUTH: Command(_authenticate, is_exact=False),
    Opcode.SASL_STEP: Command(_authenticate, is_exact=False),
}
NOT_ALLOWED = Command(_not_allowed, extras=(), is_keyed=None, is_exact=False)
"""Takes the place of a command that the client may not use. As with -F, the connection stays open."""
WITHOUT_DISCOVERY = {
    opcode: command
    for opcode, command in OPCODE_COMMANDS.items()
    if opcode not in (Opcode.CONFIG_GET, Opcode.CONFIG_SET, Opcode.CONFIG_DELETE)
}
"""The commands where discovery is off: the others are unknown then, as in memcached."""
UNKNOWN = Command(_unknown, extras=(), is_keyed=None, is_exact=False)

BEFORE_LOGIN = frozenset({Opcode.SASL_LIST, Opcode.SASL_AUTH, Opcode.SASL_STEP, Opcode.VERSION})
"""The commands that need no login."""
