"""Which commands a client may use: by the address that it connects from and to, and by the user that it logs in as."""

from __future__ import annotations

import enum
from typing import NamedTuple

from memcache_kv.config.settings import AdminCommands

IPV4_LOOPBACK, IPV6_LOOPBACK = "127.", "::1"
MAPPED_PREFIX = "::ffff:"
"""What precedes the address of an IPv4 client that is connected to an IPv6 socket."""


class CommandClass(enum.IntEnum):
    """The classes of commands. A client that may use one class may use those before it too."""

    READ = 1
    """Commands that change nothing."""
    WRITE = 2
    """Commands that change items, one at a time."""
    ADMIN = 3
    """Commands about the whole server: its items together, its other clients, its settings."""


class Origin(NamedTuple):
    """Where a connection or datagram comes from.

    address: the client's address, for the audit log; is_local: whether that is a loopback address or a unix socket;
    listener_class: the highest class that the listener allows, None if it leaves that to --admin-commands.
    """

    address: str = ""
    is_local: bool = True
    listener_class: CommandClass | None = None


HERE = Origin()
"""The origin of what has no connection: a protocol that a program drives by itself."""


def is_loopback(host: str) -> bool:
    """Return whether a numeric address is a loopback address."""
    return host.removeprefix(MAPPED_PREFIX).startswith(IPV4_LOOPBACK) or host == IPV6_LOOPBACK


def highest_class(policy: AdminCommands, origin: Origin, user_class: CommandClass | None = None) -> CommandClass:
    """Return the highest class of commands that a client may use.

    policy: the setting --admin-commands; user_class: the class of the user in the users file, None if there is no user
    or the file names no class.

    The listener's class and the user's are upper bounds. A user or a listener of the class admin need not be local.
    """
    listener_class = origin.listener_class
    if policy is AdminCommands.NEVER:
        allowed = CommandClass.WRITE
    elif policy is AdminCommands.ALWAYS or origin.is_local or CommandClass.ADMIN in (listener_class, user_class):
        allowed = CommandClass.ADMIN
    else:
        allowed = CommandClass.WRITE
    return min(bound for bound in (allowed, listener_class, user_class) if bound is not None)
