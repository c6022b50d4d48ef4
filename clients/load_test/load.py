"""What the load is, as the command line says, and the part of it that one process sends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clients.address import Address
from clients.load_test.keys import keys_in, numbered_keys, row_keys
from clients.load_test.wires import wire_for
from clients.load_test.wires.wire import Wire

USERS_SECONDS = 10.0
"""How long each number of users is measured, unless --duration says it."""


@dataclass(frozen=True)
class Load:
    """A load as it was asked for; sizes in bytes, times in seconds.

    requests: for each connection; duration replaces it. ratio: the share of requests that store. rate: requests a
    second of all connections; None sends as fast as replies arrive. users: numbers of connections to measure one after
    the other; empty if there is one measurement. rows: a data file whose rows the server has already.
    """

    address: Address
    protocol: str = "line"
    connections: int = 100
    requests: int = 1000
    duration: float | None = None
    ratio: float = 0.5
    key_size: int = 16
    value_size: int = 64
    ttl: int = 0
    rate: float | None = None
    pipeline: int = 1
    keys: int = 10_000
    key_distribution: str = "uniform"
    processes: int = 1
    users: tuple[int, ...] = ()
    rows: Path | None = None

    def wire(self) -> Wire:
        """Return the protocol."""
        return wire_for(self.protocol, self.ttl, str(self.address))

    def make_keys(self) -> list[bytes]:
        """Return the keys; raise OSError if the data file can't be read."""
        if self.rows is not None:
            return keys_in(self.rows)
        if self.users:
            return row_keys(self.keys)
        return numbered_keys(self.keys, self.key_size)


@dataclass(frozen=True)
class Round:
    """One measurement: how many connections all processes open, and when they begin (ns, monotonic)."""

    connections: int
    start: int


def share(whole: int, index: int, parts: int) -> int:
    """Return the size of one of several parts that are as equal as they can be."""
    return whole // parts + (index < whole % parts)
