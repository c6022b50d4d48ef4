"""Sockets that the process was started with, by systemd or another program that follows sd_listen_fds(3)."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

from memcache_kv.config.settings import TLS_PREFIXES, Settings
from memcache_kv.errors import EX_USAGE, ConfigError, ListenError
from memcache_kv.server.listener import Listener, MemcacheServer
from memcache_kv.server.udp import UdpServer
from memcache_kv.unpatched import socket

if TYPE_CHECKING:
    from memcache_kv.protocol.context import Context
    from memcache_kv.server.listener import ListenerOptions, ListenerTraits

FIRST_FD = 3
FDS_VARIABLE, PID_VARIABLE, NAMES_VARIABLE = "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"
MOST_FDS = 1000
DEFAULT_NAME = "memcached"
LISTEN_FIELDS = {
    DEFAULT_NAME: "listen",
    "line": "line_listen",
    "simple": "simple_listen",
    "http": "http_listen",
    "admin": "admin_listen",
}
"""The fields of Settings to which sockets with these names belong."""
UNNAMED = ("", "unknown")
"""What sd_listen_fds_with_names(3) gives for a socket without a name."""
UNIT_SUFFIX = ".socket"
"""The end of the name that systemd gives to a socket if its unit sets none: it is that of the unit."""
CLASS_WORDS = ("read", "write", "admin")
TLS_WORDS = tuple(prefix.rstrip(":") for prefix in TLS_PREFIXES)


class Inherited(NamedTuple):
    """The sockets that a server is started with.

    streams: those that clients connect to, by the texts that stand for them in the settings' addresses.
    """

    streams: dict[str, socket.socket]
    datagrams: list[socket.socket]

    def close(self) -> None:
        """Close all of them."""
        for sock in (*self.streams.values(), *self.datagrams):
            sock.close()


def is_activated(environ: MutableMapping[str, str]) -> bool:
    """Return whether sockets were passed to this process, and not to one that has started it."""
    return environ.get(PID_VARIABLE) == str(os.getpid()) and FDS_VARIABLE in environ


def take_sockets(settings: Settings, environ: MutableMapping[str, str]) -> tuple[Settings, Inherited]:
    """Take the sockets that were passed to this process, and return the settings with their addresses added.

    To be called once, before the process forks. The variables are removed, so that commands that the server starts do
    not see them. Raises ConfigError if a socket has an unknown name, and ListenError if the server can't serve it.
    """
    count, names = environ.pop(FDS_VARIABLE, ""), environ.pop(NAMES_VARIABLE, "")
    environ.pop(PID_VARIABLE, None)
    if not (count.isascii() and count.isdigit() and len(count) < 5 and int(count) <= MOST_FDS):
        raise ConfigError(f"{FDS_VARIABLE} must be a number up to {MOST_FDS}, not {count!r}")
    found = Inherited({}, [])
    added: dict[str, tuple[str, ...]] = {}
    given = names.split(":") if names else []
    try:
        for index in range(int(count)):
            kind, prefixes = _read_name(given[index] if index < len(given) else "", settings)
            address = _add(found, FIRST_FD + index, kind + prefixes, settings)
            if address:
                added[kind] = (*added.get(kind, ()), prefixes + address)
    except BaseException:
        found.close()
        raise
    fields = {LISTEN_FIELDS[kind]: texts for kind, texts in added.items()}
    changed: dict[str, Any] = {field: (*texts, *getattr(settings, field)) for field, texts in fields.items()}
    return settings._replace(**changed), found


def _add(found: Inherited, fd: int, name: str, settings: Settings) -> str:
    """Add the socket with a descriptor to those that were found, and return its address; empty for a UDP socket."""
    sock = _open(fd)
    if sock.type == socket.SOCK_DGRAM:
        found.datagrams.append(sock)
        _check_datagrams(fd, name, settings)
        return ""
    found.streams[f"fd:{fd}"] = sock
    return f"fd:{fd}"


def _read_name(name: str, settings: Settings) -> tuple[str, str]:
    """Split a name such as `http.read.notls` into a key of LISTEN_FIELDS and the prefixes of an address (`read:`)."""
    if name in UNNAMED or name.endswith(UNIT_SUFFIX):
        return DEFAULT_NAME, ""
    kind, *words = name.split(".")
    classes = [word for word in words if word in CLASS_WORDS]
    modes = [word for word in words if word in TLS_WORDS]
    if kind not in LISTEN_FIELDS or len(classes) > 1 or len(modes) > 1 or len(classes) + len(modes) < len(words):
        raise ConfigError(
            f"{NAMES_VARIABLE}: {name!r} is not the name of a listener: write {', '.join(LISTEN_FIELDS)}, and behind "
            f"it if need be one of .{', .'.join(CLASS_WORDS)} and one of .{', .'.join(TLS_WORDS)}"
        )
    if kind == "admin" and classes:
        raise ConfigError(f"{NAMES_VARIABLE}: {name!r} has a class, but there are no commands to choose from")
    has_tls, flag = (settings.admin_tls, "--admin-tls") if kind == "admin" else (settings.enable_ssl, "-Z")
    if modes and not has_tls:
        raise ConfigError(f"{NAMES_VARIABLE}: {name!r} needs TLS, which {flag} turns on", EX_USAGE)
    return kind, "".join(f"{word}:" for word in (*classes, *modes))


def _open(fd: int) -> socket.socket:
    """Return the socket with this descriptor, whose kind is asked of the system. Raises ListenError."""
    try:
        found = socket.socket(fileno=fd)
    except OSError as error:
        raise ListenError(f"{FDS_VARIABLE}: descriptor {fd} is no socket: {error.strerror}") from None
    found.set_inheritable(False)
    is_ip = found.family in (socket.AF_INET, socket.AF_INET6)
    if found.type == socket.SOCK_STREAM and (is_ip or found.family == socket.AF_UNIX):
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.setblocking(False)  # another process that has the socket too may accept a connection first
            return found
        reason = "it does not listen: a socket unit needs Accept=no"
    elif found.type == socket.SOCK_DGRAM and is_ip:
        return found
    else:
        reason = "it is neither TCP nor UDP nor a unix stream socket"
    found.close()
    raise ListenError(f"{FDS_VARIABLE}: descriptor {fd} can't be served: {reason}")


def _check_datagrams(fd: int, name: str, settings: Settings) -> None:
    """Raise ListenError if datagrams would bypass a check that connections have to pass."""
    if name != DEFAULT_NAME:
        reason = f"there is no {name} by UDP"
    elif settings.auth_file is not None:
        reason = "UDP has no login, which -Y asks for"
    elif settings.enable_ssl:
        reason = "UDP has no TLS, which -Z asks for"
    else:
        return
    raise ListenError(f"{FDS_VARIABLE}: the UDP socket with descriptor {fd} can't be served: {reason}")


class _Inheriting(Listener):
    """A listener on a socket that another process has bound, and that stays open there when this one ends."""

    inherited: socket.socket

    def server_bind(self) -> None:
        """Use the inherited socket."""
        self.socket.close()
        self.socket = self.inherited
        self.server_address = self.inherited.getsockname()

    def server_activate(self) -> None:
        """Do nothing, as the socket listens already, with a backlog of the other process's choice."""


class InheritedServer(_Inheriting, MemcacheServer):
    """Give each socket that is accepted on an inherited TCP or unix socket to a worker.

    inherited: the listening socket; options, traits: as for `MemcacheServer`.
    """

    def __init__(self, inherited: socket.socket, options: ListenerOptions, traits: ListenerTraits) -> None:
        self.inherited = inherited
        super().__init__(inherited.getsockname(), inherited.family, options, traits)


class InheritedUdpServer(_Inheriting, UdpServer):
    """Serve the datagrams of an inherited socket. inherited: the socket; context: as for `UdpServer`."""

    def __init__(self, inherited: socket.socket, context: Context) -> None:
        self.inherited = inherited
        super().__init__(inherited.getsockname(), inherited.family, context)
